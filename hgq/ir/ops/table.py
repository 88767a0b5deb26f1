"""Any function of one element, as a table of integers."""

from __future__ import annotations

import numpy as np

from hgq.errors import IRError
from hgq.fixed import FixedArray
from hgq.ir.ops.record import Array, Attrs, OpDef
from hgq.ir.range import Range


def table_of(attrs: Attrs, position: int) -> tuple[int, np.ndarray]:
    """The lowest argument and the entries, in the order of arguments, of the element at a flat position."""
    reads: FixedArray = attrs["reads"]
    start, width = int(attrs["start"].ravel()[position]), int(reads.width.ravel()[position])
    signed = bool(reads.signed.ravel()[position])
    return -(1 << width - 1) if signed else 0, attrs["table"][start : start + (1 << width)]


def _check(attrs: Attrs, x: Range) -> None:
    reads, start, table = attrs["reads"], attrs["start"], attrs["table"]
    if not x.shape == reads.shape == start.shape == attrs["types"].shape:
        raise IRError(f"lookup: types of shape {reads.shape}, starts of shape {start.shape} for a tensor of {x.shape}")
    if ((x.lo < reads.lo) | (x.hi > reads.hi) | (~x.zero & (x.frac != reads.frac))).any():
        raise IRError("lookup: an argument does not have the type that its table is made for")
    if start.size and (start.min() < 0 or int((start + (1 << reads.width)).max()) > table.size):
        raise IRError(f"lookup: a table reaches beyond the {table.size} entries")


def _lookup_infer(attrs: Attrs, x: Range) -> Range:
    _check(attrs, x)
    lows, highs = [], []
    bounds = zip(x.lo.ravel().tolist(), x.hi.ravel().tolist(), strict=True)
    for position, (a, b) in enumerate(bounds):
        lowest, entries = table_of(attrs, position)
        reached = entries[a - lowest : b - lowest + 1]
        lows.append(int(reached.min()))
        highs.append(int(reached.max()))
    lo, hi = (np.array(ends, object).reshape(x.shape) for ends in (lows, highs))
    types = attrs["types"]
    if ((lo < types.lo) | (hi > types.hi)).any():
        raise IRError("lookup: an entry is outside the type of the result")
    return Range(lo, hi, types.frac)


def _lookup_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    # Arguments have at most the bits of a table's index, so int64 holds them.
    lowest = attrs["reads"].lo.astype(np.int64)
    return np.asarray(attrs["table"], np.int64)[x.astype(np.int64) - lowest + attrs["start"]]


LOOKUP = OpDef(("table", "start", "reads", "types"), _lookup_infer, _lookup_evaluate)
