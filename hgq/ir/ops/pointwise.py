"""Ports, quantizers and rectifiers: element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.fixed import FixedArray, Overflow, as_objects, fit, requantize, round_off
from hgq.ir.ops.record import Array, Attrs, OpDef, narrow
from hgq.ir.range import Range


def _input_infer(attrs: Attrs) -> Range:
    return Range.of(attrs["types"])


def _input_evaluate(*_: Any) -> Array:
    raise IRError("an input is what the caller of the evaluator gives")


def _quantize_infer(attrs: Attrs, x: Range) -> Range:
    types: FixedArray = attrs["types"]
    if types.shape != x.shape:
        raise IRError(f"quantize: types of shape {types.shape} for a tensor of shape {x.shape}")
    if attrs.get("whole"):
        return Range.of(types)
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
    return narrow(requantize(x, ins[0].frac, types, attrs["rounding"], attrs["overflow"]), out)


def _relu_infer(attrs: Attrs, x: Range) -> Range:
    return Range(np.maximum(x.lo, 0), np.maximum(x.hi, 0), x.frac)


def _relu_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return np.maximum(x, 0)


def _scale_infer(attrs: Attrs, x: Range) -> Range:
    return Range(x.lo, x.hi, x.frac - attrs["power"])


def _scale_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return x


def _bounds(attrs: Attrs, x: Range) -> tuple[Array, Array, Array, Array]:
    """frac of the result, by how much the argument grows, and both bounds on that grid."""
    (low, low_frac), (high, high_frac) = attrs["low"], attrs["high"]
    if min(low_frac, high_frac) < 0:
        raise IRError("clip: bounds are integers with 0 or more fractional bits")
    frac = np.maximum(np.where(x.zero, 0, x.frac), max(low_frac, high_frac))
    up = as_objects(np.where(x.zero, 0, frac - x.frac))
    return frac, up, low << as_objects(frac - low_frac), high << as_objects(frac - high_frac)


def _clip_infer(attrs: Attrs, x: Range) -> Range:
    frac, up, low, high = _bounds(attrs, x)
    lo, hi = (np.minimum(np.maximum(end << up, low), high) for end in (x.lo, x.hi))
    return Range(lo, hi, frac)


def _clip_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    _, up, low, high = _bounds(attrs, ins[0])
    y = np.minimum(np.maximum(as_objects(x) << up, low), high)
    return narrow(np.where(out.zero, 0, y), out)


INPUT = OpDef(("types", "rounding", "overflow"), _input_infer, _input_evaluate)
QUANTIZE = OpDef(("types", "rounding", "overflow", "whole"), _quantize_infer, _quantize_evaluate, optional=("whole",))
RELU = OpDef((), _relu_infer, _relu_evaluate)
SCALE = OpDef(("power",), _scale_infer, _scale_evaluate)
CLIP = OpDef(("low", "high"), _clip_infer, _clip_evaluate)
