"""Functions: a table of the integers that the layer keeps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Context, Unconvertible, Value
from hgq.layers.table import Table


def function(context: Context, layer: Any, x: Value) -> Value:
    """QFunction: the input quantizer, then the table."""
    return looked_up(context, "table", context.quantize("in", x, layer.input_quantizer), layer.table)


def looked_up(context: Context, suffix: str, x: Value, table: Table) -> Value:
    """The entries of a layer's table for `x`, which the table's own quantizer has made; equal tables are kept once."""
    if not table.is_frozen:
        raise Unconvertible(f"its {table.name} has not been made", "calibrate the model, or call freeze() of the layer")
    shape = context.shape(x)
    reads, types = context.types(table.reads, shape), context.types(table.writes, shape)
    lowest, frac, rows = (
        np.asarray(keras.ops.convert_to_numpy(v.value), np.float64) for v in (table.lowest, table.frac, table.entries)
    )
    made_for = [np.broadcast_to(a, shape) for a in (lowest, frac)]
    if (made_for[0] != reads.lo).any() or (made_for[1] != reads.frac).any():
        raise _stale(table, f"types {reads}")
    row_of = np.broadcast_to(np.arange(lowest.size).reshape(lowest.shape), shape).ravel()
    rows = rows.reshape(lowest.size, -1)
    entries: list[int] = []
    starts: dict[tuple, int] = {}
    start = []
    for row, read, t in zip(row_of.tolist(), reads, types, strict=True):
        key = row, read, t
        if key not in starts:
            values = rows[row, : 1 << (read.width if read else 0)]
            m = np.ldexp(values, t.frac) if t else values
            low, high = (t.lo, t.hi) if t else (0, 0)
            if not ((m == np.floor(m)) & (m >= low) & (m <= high)).all():
                raise _stale(table, f"results of type {t or '0 bits'}")
            starts[key] = _place(entries, m.astype(np.int64).tolist())
        start.append(starts[key])
    return context.add(
        suffix,
        "lookup",
        x,
        table=np.array(entries, np.int64),
        start=np.array(start, np.int64).reshape(shape),
        reads=reads,
        types=types,
    )


def _place(entries: list[int], table: list[int]) -> int:
    """Where `table` stands among the entries, at the end if nowhere."""
    for start in range(0, len(entries) - len(table) + 1, len(table)):
        if entries[start : start + len(table)] == table:
            return start
    entries += table
    return len(entries) - len(table)


def _stale(table: Table, what: str) -> Unconvertible:
    return Unconvertible(
        f"its {table.name} was not made for {what}", "calibrate the model again, or call freeze() of the layer"
    )
