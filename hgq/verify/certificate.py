"""Whether float32 computes this model exactly: a proof by range analysis, layer by layer, no data needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hgq.fixed import as_objects
from hgq.ir.graph import Graph, Node
from hgq.ir.ops import OPS, reduce_constant
from hgq.ir.ops.product import product_terms
from hgq.ir.range import Range

FLOAT32_BITS = 24
"""Integers of up to this many bits are exact in float32."""
FLOAT64_BITS = 53


@dataclass(frozen=True, slots=True)
class Certificate:
    """bits: the widest significand that any order of summation can need, for each layer."""

    bits: dict[str, int]

    @property
    def exact32(self) -> bool:
        """Keras' own float32 forward pass is exact: any difference to it is an error."""
        return max(self.bits.values(), default=0) <= FLOAT32_BITS

    @property
    def exact64(self) -> bool:
        """A float64 forward pass is exact."""
        return max(self.bits.values(), default=0) <= FLOAT64_BITS

    @property
    def widest(self) -> tuple[str, int]:
        """The layer that needs most, and how many bits."""
        return max(self.bits.items(), key=lambda item: item[1])


def float32_certificate(graph: Graph) -> Certificate:
    """Bits of significand that each layer needs so that its floating-point arithmetic is exact.

    For a matrix product: every product and every partial sum, in any order and with or without fused multiply-add, is
    an integer multiple of the finest product's LSB and at most the sum of all magnitudes. If that fits the significand,
    no rounding ever happens.
    """
    bits: dict[str, int] = {}
    for node in graph:
        need = _bits(graph, node)
        bits[node.origin] = max(bits.get(node.origin, 0), need)
    return Certificate(bits)


def _bits(graph: Graph, node: Node) -> int:
    if node.op == "dense":
        return _dense_bits(graph, node)
    if node.op in ("add", "sub", "sum"):
        return _sum_bits(graph, node)
    if node.op in ("conv", "sum_pool"):
        # As for a dense layer: over inputs of either sign, the range is that of the sum of all magnitudes.
        x = graph[node.args[0]].range
        both = OPS[node.op].infer(node.attrs, Range(-x.magnitude, x.magnitude, x.frac))
        return _span(both.magnitude)
    if node.op == "matmul":
        lo, hi, _, _ = product_terms(*(graph[arg].range for arg in node.args))
        return _span(np.maximum(-lo, hi).sum(axis=2))
    own = _span(node.range.magnitude)
    if node.op == "affine":
        return _affine_bits(graph, node) + 1  # the offset may be added in two steps
    if node.op == "quantize":
        # Scaling by a power of two, floor, the difference to it, and one more LSB: none needs more bits than came in.
        return max(own, _span(graph[node.args[0]].range.magnitude))
    return own


def _affine_bits(graph: Graph, node: Node) -> int:
    """The product and the offset together: the offset may take most of the product away."""
    x = graph[node.args[0]].range
    scale, frac = reduce_constant(node.attrs["scale"], node.attrs["scale_types"].frac)
    offset, offset_frac = reduce_constant(node.attrs["offset"], node.attrs["offset_types"].frac)
    product = as_objects(x.magnitude) * abs(scale)
    parts = [(product, x.frac + frac, product == 0), (abs(offset), offset_frac, offset == 0)]
    return _together([tuple(np.broadcast_to(a, node.shape) for a in part) for part in parts])


def _sum_bits(graph: Graph, node: Node) -> int:
    """All magnitudes together: no partial sum is larger."""
    terms = [graph[arg].range for arg in node.args]
    parts = [(r.magnitude, r.frac, r.zero) for r in terms]
    if node.op == "sum":
        parts = [tuple(np.moveaxis(a, -1, 0)) for a in parts[0]]
        parts = list(zip(*parts, strict=True))
    return _together(parts)


def _together(parts: Sequence[tuple[np.ndarray, ...]]) -> int:
    """Bits of a sum of magnitudes, in LSBs of the finest. parts: magnitude, fractional bits, whether it is 0."""
    finest = np.max([np.where(zero, -(1 << 40), frac) for _, frac, zero in parts], axis=0)
    total = sum(np.asarray(m, object) << as_objects(np.where(zero, 0, finest - frac)) for m, frac, zero in parts)
    return _span(np.asarray(total, object))


def _span(magnitude: np.ndarray) -> int:
    return max((int(v).bit_length() for v in magnitude.ravel()), default=0)


def _dense_bits(graph: Graph, node: Node) -> int:
    x = graph[node.args[0]].range
    kernel, kfrac = reduce_constant(node.attrs["kernel"], node.attrs["kernel_types"].frac)
    bias, bfrac = np.zeros(kernel.shape[1], object), np.zeros(kernel.shape[1], np.int64)
    if "bias" in node.attrs:
        bias, bfrac = reduce_constant(node.attrs["bias"], node.attrs["bias_types"].frac)
    need = 0
    rows = (a.reshape(-1, a.shape[-1]) for a in (x.magnitude, x.frac, x.zero))
    for magnitude, frac, zero in zip(*rows, strict=True):
        used = (kernel != 0) & ~zero[:, None]
        products = np.where(used, frac[:, None] + kfrac, -(1 << 40))
        finest = np.maximum(products.max(axis=0), np.where(bias != 0, bfrac, -(1 << 40)))
        up = as_objects(np.where(used, finest - products, 0))
        total = (np.where(used, abs(kernel), 0) * magnitude[:, None] << up).sum(axis=0)
        total = total + (abs(bias) << as_objects(np.where(bias != 0, finest - bfrac, 0)))
        need = max(need, _span(np.asarray(total, object)))
    return need
