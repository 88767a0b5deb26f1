"""The ops of the IR: one record each, with its attributes, its range rule and its meaning on integers.

Every op is exact except `quantize`, the only one that rounds, wraps or saturates. Row of each in README.md.
To add an op: a record here, a row there, a case in tests/ir/test_ops.py, and a lowering in hgq/lower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.fixed import FixedArray, Overflow, Rounding, as_objects, fit, requantize, round_off, shift
from hgq.ir.range import Range

Attrs = Mapping[str, Any]
Array = np.ndarray


@dataclass(frozen=True, slots=True)
class OpDef:
    """What is known about one op.

    attrs: the names of its attributes, in the order in which they are printed.
    infer: ``(attrs, *argument ranges) -> range of the result``; raises IRError on a malformed node.
    evaluate: ``(attrs, result range, argument ranges, *argument integers) -> integers``, batch axis first.
    """

    attrs: tuple[str, ...]
    infer: Callable[..., Range]
    evaluate: Callable[..., Array]


def reduce_constant(mantissas: Array, frac: Array) -> tuple[Array, Array]:
    """The same constants with trailing zero bits stripped: odd Python-integer mantissas and their fractional bits.

    Zeros come back as (0, 0).
    """
    m = as_objects(mantissas)
    low = m & -m  # the lowest set bit
    strip = np.array([int(v).bit_length() - 1 if v else 0 for v in low.ravel()], np.int64).reshape(m.shape)
    return m >> as_objects(strip), np.where(m == 0, 0, np.asarray(frac) - strip)


def _constant(attrs: Attrs, name: str) -> tuple[Array, Array]:
    """Reduced mantissas and fractional bits of the constant attribute `name`, checked against its learned types."""
    m, types = attrs[name], attrs[f"{name}_types"]
    if np.shape(m) != types.shape:
        raise IRError(f"{name}: mantissas have shape {np.shape(m)}, types {types.shape}")
    m = as_objects(m)
    if ((m < types.lo) | (m > types.hi)).any():
        raise IRError(f"{name}: a mantissa is outside its learned type")
    return reduce_constant(m, types.frac)


def _input_infer(attrs: Attrs) -> Range:
    return Range.of(attrs["types"])


def _input_evaluate(*_: Any) -> Array:
    raise IRError("an input is what the caller of the evaluator gives")


def _quantize_infer(attrs: Attrs, x: Range) -> Range:
    types: FixedArray = attrs["types"]
    if types.shape != x.shape:
        raise IRError(f"quantize: types of shape {types.shape} for a tensor of shape {x.shape}")
    live = types.width > 0
    drop = np.where(live, x.frac - types.frac, 0)
    lo, hi = (np.where(live, round_off(m, drop, attrs["rounding"]), 0) for m in (x.lo, x.hi))
    if attrs["overflow"] == Overflow.WRAP:
        inside = (lo >= types.lo) & (hi <= types.hi)
        return Range(np.where(inside, lo, types.lo), np.where(inside, hi, types.hi), types.frac)
    return Range(fit(lo, types, attrs["overflow"]), fit(hi, types, attrs["overflow"]), types.frac)


def _quantize_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    types: FixedArray = attrs["types"]
    grow = int(np.maximum(types.frac - ins[0].frac, 0)[types.width > 0].max(initial=0))
    if ins[0].bits + grow + 1 > 62:
        x = as_objects(x)
    return _narrow(requantize(x, ins[0].frac, types, attrs["rounding"], attrs["overflow"]), out)


def _dense_terms(attrs: Attrs, x: Range) -> tuple[Array, Array, Array]:
    """Kernel mantissas and fracs without dead inputs, and the frac of each product's LSB where it is not 0."""
    kernel, frac = _constant(attrs, "kernel")
    if x.shape[-1:] != kernel.shape[:1]:
        raise IRError(f"dense: kernel of shape {kernel.shape} for a tensor of shape {x.shape}")
    return kernel, frac, kernel != 0


def _dense_infer(attrs: Attrs, x: Range) -> Range:
    kernel, kfrac, used = _dense_terms(attrs, x)
    rows_lo, rows_hi = x.lo.reshape(-1, x.shape[-1]), x.hi.reshape(-1, x.shape[-1])
    rows_frac, rows_zero = x.frac.reshape(-1, x.shape[-1]), x.zero.reshape(-1, x.shape[-1])
    bias, bfrac = _constant(attrs, "bias") if "bias" in attrs else (np.zeros(kernel.shape[1:], object), 0)
    lo, hi, frac = [], [], []
    nowhere = np.iinfo(np.int64).min
    for row_lo, row_hi, row_frac, row_zero in zip(rows_lo, rows_hi, rows_frac, rows_zero, strict=True):
        live = used & ~row_zero[:, None]
        products = np.where(live, row_frac[:, None] + kfrac, nowhere)
        out = np.maximum(products.max(axis=0, initial=nowhere), np.where(bias != 0, bfrac, nowhere))
        out = np.where(out == nowhere, 0, out)
        w = np.where(live, kernel, 0) << as_objects(np.where(live, out - products, 0))
        up, down = np.where(w > 0, w, 0), np.where(w < 0, w, 0)
        b = bias << as_objects(np.where(bias != 0, out - bfrac, 0))
        lo.append((up * row_lo[:, None] + down * row_hi[:, None]).sum(axis=0) + b)
        hi.append((up * row_hi[:, None] + down * row_lo[:, None]).sum(axis=0) + b)
        frac.append(out)
    shape = (*x.shape[:-1], kernel.shape[1])
    return Range(*(np.array(part, dtype).reshape(shape) for part, dtype in ((lo, object), (hi, object), (frac, int))))


def _dense_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    (source,) = ins
    kernel, kfrac, used = _dense_terms(attrs, source)
    xfrac = int(source.frac.max(initial=0))  # one grid for all inputs, one for the kernel
    wfrac = int(kfrac[used].max(initial=0))
    w = kernel << as_objects(np.where(used, wfrac - kfrac, 0))
    up = np.where(source.zero, 0, xfrac - source.frac)
    bound = (source.magnitude << as_objects(up)) @ abs(w)
    bits = int(max((int(v).bit_length() for v in bound.ravel()), default=0))
    ups = int(np.max(up, initial=0))
    if bits <= 53 and source.bits + ups <= 62:
        # Every partial sum is an integer below 2**53: float64 is exact and its matrix product is fast.
        y = (shift(x.astype(np.int64), up).astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
    elif bits <= 62:
        y = shift(x.astype(np.int64), up) @ w.astype(np.int64)
    else:
        y = shift(as_objects(x), up) @ w
    # The common grid is at least as fine as each output's own, and the surplus bits are zeros.
    y = (
        shift(y, np.where(out.zero, 0, out.frac - (xfrac + wfrac)))
        if bits <= 62 and out.bits <= 62
        else shift(as_objects(y), np.where(out.zero, 0, out.frac - (xfrac + wfrac)))
    )
    if "bias" in attrs:
        bias, bfrac = _constant(attrs, "bias")
        b = bias << as_objects(np.where(bias != 0, out.frac - bfrac, 0))
        y = as_objects(y) + b if out.bits > 62 else y + b.astype(np.int64)
    return _narrow(y, out)


def _affine_infer(attrs: Attrs, x: Range) -> Range:
    scale, sfrac = _constant(attrs, "scale")
    offset, ofrac = _constant(attrs, "offset")
    scale, sfrac, offset, ofrac = (np.broadcast_to(a, x.shape) for a in (scale, sfrac, offset, ofrac))
    live = (scale != 0) & ~x.zero
    frac = np.maximum(np.where(live, x.frac + sfrac, -(1 << 60)), np.where(offset != 0, ofrac, -(1 << 60)))
    frac = np.where(live | (offset != 0), frac, 0)
    s = scale << as_objects(np.where(live, frac - x.frac - sfrac, 0))
    b = offset << as_objects(np.where(offset != 0, frac - ofrac, 0))
    ends = (s * np.where(live, x.lo, 0) + b, s * np.where(live, x.hi, 0) + b)
    return Range(np.minimum(*ends), np.maximum(*ends), frac)


def _affine_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    scale, sfrac = _constant(attrs, "scale")
    offset, ofrac = _constant(attrs, "offset")
    live = (scale != 0) & ~ins[0].zero
    s = scale << as_objects(np.where(live, out.frac - ins[0].frac - sfrac, 0))
    b = offset << as_objects(np.where(offset != 0, out.frac - ofrac, 0))
    return _narrow(np.where(live, as_objects(x), 0) * s + b, out)


def _relu_infer(attrs: Attrs, x: Range) -> Range:
    return Range(np.maximum(x.lo, 0), np.maximum(x.hi, 0), x.frac)


def _relu_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return np.maximum(x, 0)


def _reshape_infer(attrs: Attrs, x: Range) -> Range:
    if int(np.prod(attrs["shape"], dtype=np.int64)) != int(np.prod(x.shape, dtype=np.int64)):
        raise IRError(f"reshape: {x.shape} has not as many elements as {attrs['shape']}")
    return x.reshape(attrs["shape"])


def _reshape_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return x.reshape(x.shape[0], *attrs["shape"])


def _narrow(m: Array, out: Range) -> Array:
    """Back to int64 as soon as the result's range allows it."""
    return m.astype(np.int64) if m.dtype == object and out.bits <= 62 else m


OPS: dict[str, OpDef] = {
    "input": OpDef(("types", "rounding", "overflow"), _input_infer, _input_evaluate),
    "quantize": OpDef(("types", "rounding", "overflow"), _quantize_infer, _quantize_evaluate),
    "dense": OpDef(("kernel", "kernel_types", "bias", "bias_types"), _dense_infer, _dense_evaluate),
    "affine": OpDef(("scale", "scale_types", "offset", "offset_types"), _affine_infer, _affine_evaluate),
    "relu": OpDef((), _relu_infer, _relu_evaluate),
    "reshape": OpDef(("shape",), _reshape_infer, _reshape_evaluate),
}

OPTIONAL = {("dense", "bias"), ("dense", "bias_types")}
"""Attributes that a node may lack."""

ENUMS = {"rounding": Rounding, "overflow": Overflow}
"""Attributes that hold a member of an enum."""
