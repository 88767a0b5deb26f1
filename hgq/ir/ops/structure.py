"""Ops that only move or rename elements."""

from __future__ import annotations

import numpy as np

from hgq.errors import IRError
from hgq.ir.ops.record import Array, Attrs, OpDef
from hgq.ir.range import Range


def _reshape_infer(attrs: Attrs, x: Range) -> Range:
    if int(np.prod(attrs["shape"], dtype=np.int64)) != int(np.prod(x.shape, dtype=np.int64)):
        raise IRError(f"reshape: {x.shape} has not as many elements as {attrs['shape']}")
    return x.reshape(attrs["shape"])


def _reshape_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return x.reshape(x.shape[0], *attrs["shape"])


RESHAPE = OpDef(("shape",), _reshape_infer, _reshape_evaluate)
