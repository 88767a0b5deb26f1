"""The ops of the IR, by name. Their records stand in one file for each family.

Every op is exact except `quantize`, the only one that rounds, wraps or saturates. Row of each in ../README.md.
To add an op: a record in its family's file, a name here, a row there, a case in tests/ir/test_ops.py, a lowering in
hgq/lower and a planner in hgq/emit/hls4ml_plan.py.
"""

from __future__ import annotations

from hgq.fixed import Overflow, Rounding
from hgq.ir.ops.conv import CONV
from hgq.ir.ops.linear import AFFINE, DENSE
from hgq.ir.ops.merge import ADD, MAXIMUM, MINIMUM, MUL, SUB
from hgq.ir.ops.pointwise import CLIP, INPUT, QUANTIZE, RELU, SCALE
from hgq.ir.ops.pool import MAX_POOL, SUM_POOL
from hgq.ir.ops.product import MATMUL
from hgq.ir.ops.record import OpDef, reduce_constant
from hgq.ir.ops.reduce import MAX, MIN, SUM
from hgq.ir.ops.structure import RESHAPE, TAKE
from hgq.ir.ops.table import LOOKUP

OPS: dict[str, OpDef] = {
    "input": INPUT,
    "quantize": QUANTIZE,
    "dense": DENSE,
    "conv": CONV,
    "max_pool": MAX_POOL,
    "sum_pool": SUM_POOL,
    "affine": AFFINE,
    "relu": RELU,
    "clip": CLIP,
    "scale": SCALE,
    "lookup": LOOKUP,
    "add": ADD,
    "sub": SUB,
    "mul": MUL,
    "matmul": MATMUL,
    "maximum": MAXIMUM,
    "minimum": MINIMUM,
    "sum": SUM,
    "max": MAX,
    "min": MIN,
    "reshape": RESHAPE,
    "take": TAKE,
}

ENUMS = {"rounding": Rounding, "overflow": Overflow}
"""Attributes that hold a member of an enum."""

__all__ = ["ENUMS", "OPS", "OpDef", "reduce_constant"]
