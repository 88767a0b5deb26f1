"""Several tensors of one shape, element by element."""

from __future__ import annotations

from functools import reduce

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects
from hgq.ir.ops.record import Array, Attrs, OpDef, narrow
from hgq.ir.range import Range


def _common(name: str, ranges: tuple[Range, ...]) -> tuple[Array, list[tuple[Array, Array]]]:
    """The finest frac of the operands that are not 0, and each one's ``(lo, hi)`` on that grid."""
    shapes = {x.shape for x in ranges}
    if len(ranges) < 2 or len(shapes) > 1:
        raise IRError(f"{name}: takes two or more tensors of one shape, got {[x.shape for x in ranges]}")
    nowhere = np.iinfo(np.int64).min
    frac = np.max([np.where(x.zero, nowhere, x.frac) for x in ranges], axis=0)
    frac = np.where(frac == nowhere, 0, frac)
    ups = [as_objects(np.where(x.zero, 0, frac - x.frac)) for x in ranges]
    return frac, [(x.lo << up, x.hi << up) for x, up in zip(ranges, ups, strict=True)]


def _on_grid(out: Range, frac: Array, source: Range, x: Array) -> Array:
    """The integers `x` at `frac`; Python integers where int64 might not hold them or a sum of them."""
    up = np.where(source.zero, 0, frac - source.frac)
    if source.bits + int(up.max(initial=0)) > 60 or out.bits > 60:
        return as_objects(x) << as_objects(up)
    return x << up


def _add_infer(attrs: Attrs, *ranges: Range) -> Range:
    frac, ends = _common("add", ranges)
    return Range(reduce(np.add, [lo for lo, _ in ends]), reduce(np.add, [hi for _, hi in ends]), frac)


def _add_evaluate(attrs: Attrs, out: Range, ins: tuple[Range, ...], *xs: Array) -> Array:
    frac, _ = _common("add", ins)
    return narrow(reduce(np.add, [_on_grid(out, frac, source, x) for source, x in zip(ins, xs, strict=True)]), out)


def _sub_infer(attrs: Attrs, a: Range, b: Range) -> Range:
    frac, ((a_lo, a_hi), (b_lo, b_hi)) = _common("sub", (a, b))
    return Range(a_lo - b_hi, a_hi - b_lo, frac)


def _sub_evaluate(attrs: Attrs, out: Range, ins: tuple[Range, Range], a: Array, b: Array) -> Array:
    frac, _ = _common("sub", ins)
    return narrow(_on_grid(out, frac, ins[0], a) - _on_grid(out, frac, ins[1], b), out)


def _mul_infer(attrs: Attrs, a: Range, b: Range) -> Range:
    if a.shape != b.shape:
        raise IRError(f"mul: takes two tensors of one shape, got {a.shape} and {b.shape}")
    corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return Range(reduce(np.minimum, corners), reduce(np.maximum, corners), a.frac + b.frac)


def _mul_evaluate(attrs: Attrs, out: Range, ins: tuple[Range, Range], a: Array, b: Array) -> Array:
    if ins[0].bits + ins[1].bits > 62:
        a, b = as_objects(a), as_objects(b)
    return narrow(a * b, out)


def _extreme(name: str) -> OpDef:
    pick = getattr(np, name)

    def infer(attrs: Attrs, *ranges: Range) -> Range:
        frac, ends = _common(name, ranges)
        return Range(reduce(pick, [lo for lo, _ in ends]), reduce(pick, [hi for _, hi in ends]), frac)

    def evaluate(attrs: Attrs, out: Range, ins: tuple[Range, ...], *xs: Array) -> Array:
        frac, _ = _common(name, ins)
        return narrow(reduce(pick, [_on_grid(out, frac, source, x) for source, x in zip(ins, xs, strict=True)]), out)

    return OpDef((), infer, evaluate)


ADD = OpDef((), _add_infer, _add_evaluate)
SUB = OpDef((), _sub_infer, _sub_evaluate)
MUL = OpDef((), _mul_infer, _mul_evaluate)
MAXIMUM = _extreme("maximum")
MINIMUM = _extreme("minimum")
