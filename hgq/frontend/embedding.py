"""QEmbedding: a table for each column, all indexed by the same number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import FixedArray, FixedType, as_objects
from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Value, mantissas


@dataclass(frozen=True)
class _Index:
    """The quantizer of an index: whole numbers from 0, larger ones become the largest."""

    bits: int
    name: str = "index"
    rounding: str = "TRN"
    overflow: str = "SAT"
    range_known: bool = True
    group: tuple[int, ...] = ()

    def types(self, shape: tuple[int, ...]) -> FixedArray:
        return FixedArray.full(shape, FixedType(False, self.bits, 0))


def embedding(context: Context, layer: Any, x: Value) -> Value:
    """The index as it is, each column's table, activation, output quantizer."""
    index = _Index(layer.index_bits)
    x = context.quantize("in", x, index)
    shape = (*context.shape(x), layer.output_dim)
    values, types = layer.constants()["embeddings"]
    m = as_objects(mantissas(values, types))
    frac = np.where(m == 0, np.iinfo(np.int32).min, types.frac).max(axis=0)  # of the finest entry of each column
    frac = np.where(frac == np.iinfo(np.int32).min, 0, frac)
    m = m << as_objects(np.where(m == 0, 0, frac - types.frac))
    columns = FixedArray.holding(m.min(axis=0), m.max(axis=0), frac)
    size = 1 << layer.index_bits
    rows = np.minimum(np.arange(size), layer.input_dim - 1)  # beyond the last vector stands the last one again
    start = np.arange(layer.output_dim) * size
    each = np.repeat(np.arange(int(np.prod(shape[:-1], dtype=np.int64))), layer.output_dim).reshape(shape)
    x = context.take(each, x)
    y = context.add(
        "table",
        "lookup",
        x,
        table=m[rows].T.ravel().astype(np.int64),
        start=np.broadcast_to(start, shape).copy(),
        reads=index.types(shape),
        types=columns.broadcast_to(shape),
    )
    return finish(context, layer, y)
