"""Sums and extremes along the last axis: the same as merging its elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.ir.ops.merge import ADD, MAXIMUM, MINIMUM
from hgq.ir.ops.record import Array, Attrs, OpDef
from hgq.ir.range import Range


def _columns(name: str, x: Range) -> list[Range]:
    if not x.shape or x.shape[-1] < 2:
        raise IRError(f"{name}: reduces a last axis of two or more, got the shape {x.shape}")
    return [Range(x.lo[..., n], x.hi[..., n], x.frac[..., n]) for n in range(x.shape[-1])]


def _reduction(name: str, merge: OpDef) -> OpDef:
    def infer(attrs: Attrs, x: Range) -> Range:
        return merge.infer({}, *_columns(name, x))

    def evaluate(attrs: Attrs, out: Range, ins: tuple[Range, ...], x: Array) -> Any:
        return merge.evaluate({}, out, tuple(_columns(name, ins[0])), *np.moveaxis(x, -1, 0))

    return OpDef((), infer, evaluate)


SUM = _reduction("sum", ADD)
MAX = _reduction("max", MAXIMUM)
MIN = _reduction("min", MINIMUM)
