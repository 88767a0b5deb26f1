"""Poolings, position by position: a balanced tree of comparisons or additions for each channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import cached_property

from hgq.fixed import FixedType
from hgq.ir.graph import Node
from hgq.ir.ops.pool import pool_windows
from hgq.ir.range import Range
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder


class PoolTiles:
    """The positions of a max_pool or sum_pool node."""

    def __init__(self, node: Node, source: Range):
        self.node, self.source = node, source
        self.windows = pool_windows(node.attrs, source.shape)
        self.channels = self.inputs = node.shape[-1]
        self.positions = math.prod(node.shape[:-1])
        self.halvings = node.attrs.get("halvings", (0,))[0]

    @cached_property
    def _flat(self) -> tuple[list, list, list]:
        return tuple(a.ravel().tolist() for a in (self.source.lo, self.source.hi, self.source.frac))  # type: ignore[return-value]

    def reads(self, position: int) -> tuple[int, ...]:
        """The elements of the input that the window reads, tap by tap; padding is left out."""
        taps = [at for at in self.windows.index[position].tolist() if at >= 0]
        return tuple(at * self.inputs + channel for at in taps for channel in range(self.inputs))

    def key(self, position: int) -> Hashable:
        """Equal for positions that one module can serve."""
        return tuple(tuple(column[i] for i in self.reads(position)) for column in self._flat)

    def make(self, builder: Builder, position: int, refs: Refs, label: str) -> list[int]:
        """The outputs at `position`; `refs` are the nodes of `reads(position)`."""
        read = self.reads(position)
        lo, hi, frac = self._flat
        out_frac, zero = (
            a.reshape(self.positions, -1)[position].tolist() for a in (self.node.range.frac, self.node.range.zero)
        )
        join: Callable = builder.maximum if self.node.op == "max_pool" else builder.add
        made = []
        for channel in range(self.channels):
            builder.origin = f"{label}[{channel}]"
            if zero[channel]:  # constants that cancel: 0 stands on no grid
                made.append(builder.const(0))
                continue
            grid = out_frac[channel] - self.halvings
            terms = [
                (refs[n], 0 if lo[i] == hi[i] == 0 else grid - frac[i])
                for n, i in enumerate(read)
                if i % self.inputs == channel
            ]
            made.append(_tree(builder, terms, join, out_frac[channel]))
        return made


def _tree(builder: Builder, terms: list[tuple[int, int]], join: Callable, frac: int) -> int:
    """All terms, each a node and how far it is shifted up, joined in pairs."""
    while len(terms) > 1:
        pairs = []
        for (a, sa), (b, sb) in zip(terms[::2], terms[1::2], strict=False):
            base = min(sa, sb)
            pairs.append((join(a, b, sa - base, sb - base, frac - base), base))
        terms = pairs + terms[len(pairs) * 2 :]
    ((ref, shift),) = terms
    lo, hi = (end << shift for end in (builder.nodes[ref].lo, builder.nodes[ref].hi))
    return builder.keep(ref, -shift, FixedType.holding(lo, hi, frac)) if shift else ref


def pool(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """Every position in one module."""
    tiles = PoolTiles(node, ranges[0])
    refs: list[int] = []
    for position in range(tiles.positions):
        read = tuple(args[0][i] for i in tiles.reads(position))
        refs += tiles.make(builder, position, read, f"{node.origin}[{position}]")
    return tuple(refs)
