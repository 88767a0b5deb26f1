"""Normalisations: ours, and Keras' own BatchNormalization where its scale and offset are exact."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import keras
import numpy as np

from hgq.fixed import FixedArray
from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Unconvertible, Value, mantissas
from hgq.frontend.function import looked_up
from hgq.frontend.merge import affine_attrs, broadcast, halved, reduced, with_constant

LARGEST = 24
"""Bits that a scale or offset may have: float32 has no more."""


def sample_normalization(context: Context, layer: Any, x: Value) -> Value:
    """QLayerNormalization and QRMSNormalization, each step as the layer computes it."""
    x = context.quantize("in", x, layer.input_quantizer)
    shape, halvings = context.shape(x), layer.halvings_
    if layer.centered_quantizer is not None:
        total, count = reduced(context, "sum", x, layer.axes_, True)
        total = broadcast(context, total, shape)
        if count == 1 << halvings:
            centered = context.add("centered", "sub", x, halved(context, total, count))
        else:
            grown = with_constant(context, "mul", x, count, False)
            centered = context.add("part", "scale", context.add("centered", "sub", grown, total), power=-halvings)
        x = context.quantize("centered", centered, layer.centered_quantizer)
    squares, count = reduced(context, "sum", context.add("square", "mul", x, x), layer.axes_, True)
    if halvings:
        squares = context.add("variance", "scale", squares, power=-halvings)
    inverse = looked_up(
        context, "inverse", context.quantize("variance", squares, layer.variance_quantizer), layer.inverse_table
    )
    y = context.add("product", "mul", x, broadcast(context, inverse, shape))
    constants = layer.affine()
    if constants is not None:
        y = context.quantize("normalized", y, layer.normalized_quantizer)
        y = context.add("norm", "affine", y, **affine_attrs(shape, *constants))
    return finish(context, layer, y)


def q_batch_normalization(context: Context, layer: Any, x: Value) -> Value:
    """A product with a constant and a sum for each element."""
    x = context.quantize("in", x, layer.input_quantizer)
    shape = context.shape(x)
    constants = [(mantissas(values, types), types) for values, types in layer.constants().values()]
    return finish(context, layer, context.add("norm", "affine", x, **affine_attrs(shape, *constants)))


def batch_normalization(context: Context, layer: Any, x: Value) -> Value:
    """``x * scale + offset`` per channel of the last axis, if both are dyadic and Keras' own arithmetic hits them."""
    rank = len(context.shape(x))
    if layer.axis not in (-1, rank):
        raise Unconvertible(f"axis={layer.axis} is not supported, only the last one", "use axis=-1")
    variance, mean = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (layer.moving_variance, layer.moving_mean))
    gamma = np.asarray(keras.ops.convert_to_numpy(layer.gamma)) if layer.scale else np.ones_like(variance)
    beta = np.asarray(keras.ops.convert_to_numpy(layer.beta)) if layer.center else np.zeros_like(variance)
    scale = _exact_scale(gamma, variance, layer.epsilon)
    if scale is None:
        raise Unconvertible(
            "its scale gamma/sqrt(variance + epsilon) is no exact fixed-point number",
            "use QDenseBatchNorm, which quantises the folded kernel in training, in place of the layer before it "
            "and this one, or QBatchNormalization",
        )
    offset = [Fraction(float(b)) - Fraction(float(m)) * s for b, m, s in zip(beta, mean, scale, strict=True)]
    constants: dict[str, Any] = {}
    for name, values in (("scale", scale), ("offset", offset)):
        constants |= _constant(name, values)
    return context.add("norm", "affine", x, **constants)


def _exact_scale(gamma: np.ndarray, variance: np.ndarray, epsilon: float) -> list[Fraction] | None:
    """gamma / sqrt(variance + epsilon) where the root is exact in the layer's own float32 arithmetic."""
    under = (variance.astype(np.float32) + np.float32(epsilon)).astype(np.float32)
    root = np.sqrt(under)
    scale = []
    for g, u, r in zip(gamma.tolist(), under.tolist(), root.tolist(), strict=True):
        exact = Fraction(r) ** 2 == Fraction(u) and r > 0
        s = Fraction(g) / Fraction(r) if exact else Fraction(1, 3)
        if s.denominator & (s.denominator - 1) or abs(s.numerator).bit_length() > LARGEST:
            return None
        scale.append(s)
    return scale


def _constant(name: str, values: list[Fraction]) -> dict[str, Any]:
    frac = np.array([v.denominator.bit_length() - 1 for v in values], np.int64)
    m = np.array([v.numerator for v in values], object)
    if any(abs(int(v)).bit_length() > LARGEST for v in m):
        raise Unconvertible(
            f"its {name} needs more than {LARGEST} bits, so Keras itself computes it only approximately",
            "use QDenseBatchNorm in place of the layer before it and this one",
        )
    m = m.astype(np.int64)
    return {name: m, f"{name}_types": FixedArray.holding(m, m, frac)}
