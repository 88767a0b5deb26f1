"""QuantizeLinear, Clip and DequantizeLinear: a Quant in three operations, as ONNX itself and QCDQ exports have it.

The whole numbers between them exist only until the DequantizeLinear that belongs to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx.file import Node
from hgq.importers.qonnx.fold import quantised_constant
from hgq.importers.qonnx.quant import Quant
from hgq.importers.qonnx.settle import quantised
from hgq.importers.qonnx.value import Known, Value

TOGETHER = "let QuantizeLinear, Clip and DequantizeLinear follow each other, with one scale and zero point"


@dataclass(frozen=True)
class Coded:
    """Whole numbers lo..hi: ``round(given / scale) + zero``, saturated."""

    given: Value | Known
    scale: np.ndarray
    zero: int
    lo: int
    hi: int


def _parameters(node: Node, given: list[Any], rank: int) -> tuple[np.ndarray, int, np.dtype]:
    """Scale with the rank of the tensor, zero point, and the type of the whole numbers."""
    if len(given) < 2 or given[1] is None:
        raise Unconvertible("its scale is missing", "export it again")
    for what, one in zip(("scale", "zero point"), given[1:], strict=False):
        if one is not None and not isinstance(one, Known):
            raise Unconvertible(f"its {what} is no constant", "export the model in evaluation mode")
    scale = given[1].value.astype(np.float32)
    zero = given[2].value if len(given) > 2 and given[2] is not None else np.zeros((), np.uint8)
    if node.get("block_size", 0) or scale.ndim > 1:
        raise Unconvertible(f"its scale has shape {scale.shape}", "use one scale, or one for each channel")
    if not (np.isfinite(scale) & (scale > 0)).all() or scale.size == 0:
        raise Unconvertible(f"its scale is {scale.flat[0] if scale.size else 'missing'}", "train with scales above 0")
    axis = int(node.get("axis", 1))
    if scale.size > 1:
        if not -rank <= axis < rank:
            raise Unconvertible(f"axis={axis} does not fit a tensor of {rank} axes", "export it again")
        scale = scale.reshape([-1 if k == axis % rank else 1 for k in range(rank)])
    else:
        scale = scale.reshape(())
    if zero.size and (zero != zero.flat[0]).any():
        raise Unconvertible("its zero points differ from channel to channel", "quantise with one, or with 0")
    return scale, int(zero.flat[0]) if zero.size else 0, zero.dtype


def _quantize(build: Any, node: Node, given: list[Any]) -> Coded:
    node.seen |= {"saturate", "precision"}
    if node.get("output_dtype", 0) and (len(given) < 3 or given[2] is None):  # a zero point says it as well
        raise Unconvertible("it has an output_dtype and no zero point", "give it a zero point of that type")
    rank = given[0].rank if isinstance(given[0], Value) else given[0].value.ndim
    scale, zero, dtype = _parameters(node, given, rank)
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16):
        raise Unconvertible(f"it makes {dtype}", "quantise to 8 or 16 bits")
    limits = np.iinfo(dtype)
    return Coded(given[0], scale, zero, int(limits.min), int(limits.max))


def _clip(build: Any, node: Node, given: list[Any]) -> Coded:
    if not isinstance(given[0], Coded):
        raise Unconvertible("this operator is not supported by the importer", "let the Quant behind it saturate")
    if node.attributes:
        raise Unconvertible("its bounds are attributes", "export it again with opset_version=20")
    if any(one is not None and not isinstance(one, Known) for one in given[1:]):
        raise Unconvertible("its bounds are no constants", "export the model in evaluation mode")
    lo, hi = (None if len(given) <= n or given[n] is None else int(given[n].value.item()) for n in (1, 2))
    coded = given[0]
    return replace(
        coded,
        lo=coded.lo if lo is None else max(coded.lo, lo),
        hi=coded.hi if hi is None else min(coded.hi, hi),
    )


def _dequantize(build: Any, node: Node, given: list[Any]) -> Value | Known:
    coded = given[0]
    if isinstance(coded, Known):  # constants that are stored as whole numbers
        if coded.value.dtype.kind not in "iu":
            raise Unconvertible(f"it reads {coded.value.dtype}", "give it whole numbers")
        scale, zero, _ = _parameters(node, given, coded.value.ndim)
        limits = np.iinfo(coded.value.dtype)
        values = (coded.value.astype(np.int64) - zero).astype(np.float32) * scale
        coded = Coded(Known(values), scale, zero, int(limits.min), int(limits.max))
    elif not isinstance(coded, Coded):
        raise Unconvertible("it reads no whole numbers that the model has made", TOGETHER)
    else:
        inner = coded.given
        scale, zero, _ = _parameters(node, given, inner.rank if isinstance(inner, Value) else inner.value.ndim)
        if not np.array_equal(scale, coded.scale) or zero != coded.zero:
            raise Unconvertible(f"its scale {scale.flat[0]:g} is not that of its QuantizeLinear", TOGETHER)
    quant = _quant(node, coded)
    if isinstance(coded.given, Known):
        return quantised_constant(quant, coded.given.value.astype(np.float32))
    return quantised(build, coded.given, quant)


def _quant(node: Node, coded: Coded) -> Quant:
    """The Quant node that does the same."""
    signed = coded.lo < 0
    bits = coded.hi.bit_length() + signed
    for narrow in (False, True):
        quant = Quant(node, coded.scale, bits, signed, narrow, "ROUND", coded.zero, late_zero=True)
        if bits > signed and (quant.lo, quant.hi) == (coded.lo, coded.hi):
            return quant
    raise Unconvertible(f"its numbers end at {coded.lo} and {coded.hi}", "use the bounds of a number of bits")


HANDLERS: dict[str, Callable[[Any, Node, list[Any]], Any]] = {
    "QuantizeLinear": _quantize,
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
}
"""The three operations, of data and of constants."""
