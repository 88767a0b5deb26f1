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


INPUT = OpDef(("types", "rounding", "overflow"), _input_infer, _input_evaluate)
QUANTIZE = OpDef(("types", "rounding", "overflow"), _quantize_infer, _quantize_evaluate)
RELU = OpDef((), _relu_infer, _relu_evaluate)
