"""Ops that only move or rename elements."""

from __future__ import annotations

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects
from hgq.ir.ops.record import Array, Attrs, OpDef
from hgq.ir.range import Range


def _reshape_infer(attrs: Attrs, x: Range) -> Range:
    if int(np.prod(attrs["shape"], dtype=np.int64)) != int(np.prod(x.shape, dtype=np.int64)):
        raise IRError(f"reshape: {x.shape} has not as many elements as {attrs['shape']}")
    return x.reshape(attrs["shape"])


def _reshape_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return x.reshape(x.shape[0], *attrs["shape"])


def _take_infer(attrs: Attrs, *xs: Range) -> Range:
    index = attrs["index"]
    size = sum(x.lo.size for x in xs)
    if not xs or index.size == 0 or index.min() < -1 or index.max() >= size:
        raise IRError(f"take: indices must lie in -1..{size - 1}, got {index.min(initial=0)}..{index.max(initial=0)}")
    parts = [np.concatenate([getattr(x, name).ravel() for x in xs]) for name in ("lo", "hi", "frac")]
    return Range(*(np.where(index < 0, 0, part[index]) for part in parts))


def _take_evaluate(attrs: Attrs, out: Range, ins: tuple[Range, ...], *xs: Array) -> Array:
    index = attrs["index"]
    wide = any(x.dtype == object for x in xs)
    flat = np.concatenate([(as_objects(x) if wide else x).reshape(len(x), -1) for x in xs], axis=1)
    taken = np.where(index < 0, 0, flat[:, index])
    return taken.astype(np.int64) if wide and out.bits <= 62 else taken


RESHAPE = OpDef(("shape",), _reshape_infer, _reshape_evaluate)
TAKE = OpDef(("index",), _take_infer, _take_evaluate)
