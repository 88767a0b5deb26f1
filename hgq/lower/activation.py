"""Rectifiers and quantizers."""

from __future__ import annotations

import numpy as np

from hgq.fixed import FixedType, Overflow, Rounding, as_objects, round_off
from hgq.ir.graph import Node
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder


def relu(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """``max(x, 0)`` element by element."""
    (x,) = args
    refs = []
    for i, ref in enumerate(x):
        builder.origin = f"{node.origin}[{i}]"
        refs.append(builder.relu(ref))
    return tuple(refs)


def quantize(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """Rounding is add-then-keep, saturation is clamp-then-keep."""
    (source,), (x,) = ranges, args
    refs, whole = [], "whole" in node.attrs
    for i, (ref, t, frac) in enumerate(zip(x, node.attrs["types"], source.frac.ravel().tolist(), strict=True)):
        builder.origin = f"{node.origin}[{i}]"
        if t is None or (builder.nodes[ref].lo == builder.nodes[ref].hi == 0 and not whole):
            refs.append(builder.const(0))
            continue
        drop = frac - t.frac
        ref = _round(builder, ref, drop, node.attrs["rounding"], frac)
        if node.attrs["overflow"] != Overflow.WRAP:
            floor = builder.keep(ref, drop, _covering(builder, ref, drop, t.frac))
            lo = -t.hi if t.signed and node.attrs["overflow"] == Overflow.SAT_SYM else t.lo
            ref, drop = builder.clamp(floor, lo, t.hi), 0
        kept = builder.keep(ref, drop, t)
        refs.append(builder.extend(kept, t.lo, t.hi) if whole else kept)
    return tuple(refs)


def _round(builder: Builder, ref: int, drop: int, rounding: Rounding, frac: int) -> int:
    """`ref` with what must be added before its `drop` low bits are cut."""
    if drop <= 0 or rounding == Rounding.TRN:
        return ref
    half = 1 << drop - 1
    if rounding == Rounding.RND:
        return builder.add(ref, builder.const(half, frac), frac=frac)
    # Half to even: a tie goes up only where the lowest kept bit is 1.
    odd = builder.keep(ref, drop, FixedType(False, 1, frac))
    # The sum's own range does not know that `odd` is a bit of the other operand. Rounding is monotone: use its ends.
    ends = np.array([builder.nodes[ref].lo, builder.nodes[ref].hi], object)
    lo, hi = (int(v) << drop for v in round_off(as_objects(ends), drop, rounding))
    rest = half - 1
    up = builder.add(ref, odd, frac=frac, bound=(lo - rest, hi + rest + 1))
    return builder.add(up, builder.const(rest, frac), frac=frac, bound=(lo, hi + 2 * rest + 1))


def _covering(builder: Builder, ref: int, drop: int, frac: int) -> FixedType:
    """The type of ``ref >> drop``, so that nothing wraps."""
    lo, hi = builder.nodes[ref].lo, builder.nodes[ref].hi
    return (
        FixedType.holding(lo >> drop, hi >> drop, frac)
        if drop >= 0
        else FixedType.holding(lo << -drop, hi << -drop, frac)
    )
