"""Merges, reductions and limits."""

from __future__ import annotations

import numpy as np

from hgq.fixed import FixedType
from hgq.ir.graph import Node
from hgq.ir.range import Range
from hgq.lower import cmvm
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder


def add(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """The sum of several tensors."""
    return _sums(builder, node, ranges, args, [1] * len(args))


def sub(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    return _sums(builder, node, ranges, args, [1, -1])


def _sums(builder: Builder, node: Node, ranges: Ranges, args: Args, signs: list[int]) -> Refs:
    """Element by element, a matrix product with one output: its adder tree is the balanced one of all products."""
    frac, nothing = node.range.frac.ravel().tolist(), node.range.zero.ravel().tolist()
    columns = [(r.frac.ravel().tolist(), r.zero.ravel().tolist()) for r in ranges]
    refs: list[int] = []
    for i, out in enumerate(frac):
        if nothing[i]:  # constants that cancel: 0 stands on no grid
            refs.append(builder.const(0))
            continue
        coefficients = [
            0 if zero[i] else sign << out - own[i] for (own, zero), sign in zip(columns, signs, strict=True)
        ]
        matrix = np.array(coefficients, object)[:, None]
        refs += cmvm.multiply(builder, [x[i] for x in args], matrix, [0], [out], f"{node.origin}[{i}]")
    return tuple(refs)


def total(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """The sum along the last axis."""
    return _sums(builder, node, _columns(ranges[0]), _slices(ranges[0], args[0]), [1] * ranges[0].shape[-1])


def maximum(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    return _extremes(builder, node, ranges, args, "maximum")


def minimum(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    return _extremes(builder, node, ranges, args, "minimum")


def highest(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """The largest element along the last axis."""
    return _extremes(builder, node, _columns(ranges[0]), _slices(ranges[0], args[0]), "maximum")


def lowest(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """The smallest element along the last axis."""
    return _extremes(builder, node, _columns(ranges[0]), _slices(ranges[0], args[0]), "minimum")


def _extremes(builder: Builder, node: Node, ranges: Ranges, args: Args, op: str) -> Refs:
    """A balanced tree of comparisons for each element."""
    out = node.range.frac.ravel().tolist()
    columns = [(r.frac.ravel().tolist(), r.zero.ravel().tolist()) for r in ranges]
    refs = []
    for i, frac in enumerate(out):
        builder.origin = f"{node.origin}[{i}]"
        grid = max((own[i] for own, zero in columns if not zero[i]), default=frac)
        level = [(x[i], 0 if zero[i] else grid - own[i]) for x, (own, zero) in zip(args, columns, strict=True)]
        while len(level) > 1:
            pairs = [level[n : n + 2] for n in range(0, len(level), 2)]
            level = [
                (getattr(builder, op)(p[0][0], p[1][0], p[0][1], p[1][1], grid), 0) if len(p) > 1 else p[0]
                for p in pairs
            ]
        refs.append(_grown(builder, *level[0]))
    return tuple(refs)


def clip(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """``min(max(x, low), high)`` element by element."""
    (low, low_frac), (high, high_frac) = node.attrs["low"], node.attrs["high"]
    (source,), (x,) = ranges, args
    refs = []
    for i, (ref, own, zero) in enumerate(zip(x, source.frac.ravel().tolist(), source.zero.ravel(), strict=True)):
        builder.origin = f"{node.origin}[{i}]"
        frac = max(0 if zero else own, low_frac, high_frac)
        grown = ref if zero else _grown(builder, ref, frac - own)
        clamped = builder.clamp(grown, low << frac - low_frac, high << frac - high_frac)
        made = builder.nodes[clamped]
        # An element that can only be 0 stands at frac 0 in the IR; 0 is 0 on any grid.
        refs.append(builder.const(0) if made.lo == made.hi == 0 else clamped)
    return tuple(refs)


def _grown(builder: Builder, ref: int, up: int) -> int:
    """``ref << up``."""
    if not up or builder.nodes[ref].lo == builder.nodes[ref].hi == 0:
        return ref
    lo, hi = builder.nodes[ref].lo << up, builder.nodes[ref].hi << up
    return builder.keep(ref, -up, FixedType.holding(lo, hi, builder.nodes[ref].frac + up))


def _columns(x: Range) -> Ranges:
    return tuple(Range(x.lo[..., n], x.hi[..., n], x.frac[..., n]) for n in range(x.shape[-1]))


def _slices(x: Range, refs: Refs) -> Args:
    """The elements at each index of the last axis."""
    return tuple(tuple(refs[n :: x.shape[-1]]) for n in range(x.shape[-1]))
