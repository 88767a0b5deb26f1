"""Convolutions, position by position: a constant matrix product each."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cached_property

import numpy as np

from hgq.fixed import as_objects
from hgq.ir.graph import Node
from hgq.ir.ops import reduce_constant
from hgq.ir.ops.conv import conv_windows, grouped, grouped_kernel
from hgq.ir.range import Range
from hgq.lower import cmvm
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder
from hgq.windows import Windows


class ConvTiles:
    """The positions of a conv node, or of a dense node with several rows."""

    def __init__(self, node: Node, source: Range):
        self.node, self.source = node, source
        if node.op == "dense":
            ones, zeros = (1,) * (len(node.shape) - 1), (0,) * (len(node.shape) - 1)
            self.windows = Windows(node.shape[:-1], ones, ones, zeros, zeros, ones, ones)
            self.groups = 1
            size = ones
        else:
            self.windows = conv_windows(node.attrs, source.shape)
            (self.groups,) = node.attrs["groups"]
            size = ()
        kernel, kfrac = reduce_constant(node.attrs["kernel"], node.attrs["kernel_types"].frac)
        self.kernel, self.kfrac = (grouped_kernel(a.reshape(*size, *a.shape), self.groups) for a in (kernel, kfrac))
        self.channels, self.inputs = node.shape[-1], source.shape[-1]
        self.positions = math.prod(node.shape[:-1])
        bias, bfrac = np.zeros(self.channels, object), np.zeros(self.channels, np.int64)
        if "bias" in node.attrs:
            bias, bfrac = reduce_constant(node.attrs["bias"], node.attrs["bias_types"].frac)
        self.bias, self.bfrac = bias, bfrac

    @cached_property
    def _flat(self) -> tuple[list, list, list]:
        """Bounds and frac of each element of the input."""
        return tuple(a.ravel().tolist() for a in (self.source.lo, self.source.hi, self.source.frac))  # type: ignore[return-value]

    def reads(self, position: int) -> tuple[int, ...]:
        """The elements of the input that the window reads, tap by tap; padding is left out."""
        return tuple(
            at * self.inputs + channel
            for at in self.windows.index[position].tolist()
            if at >= 0
            for channel in range(self.inputs)
        )

    def key(self, position: int) -> Hashable:
        """Equal for positions that one module can serve: the same taps inside, the same ranges on them."""
        inside = (self.windows.index[position] >= 0).tobytes()
        return inside, tuple(tuple(column[i] for i in self.reads(position)) for column in self._flat)

    def make(self, builder: Builder, position: int, refs: Refs, label: str) -> list[int]:
        """The outputs at `position`; `refs` are the nodes of `reads(position)`."""
        inside = np.flatnonzero(self.windows.index[position] >= 0)
        lo, hi, frac = (np.array(column, object)[list(self.reads(position))] for column in self._flat)
        shape = (len(inside), self.inputs)
        dead, xfrac, x = (
            grouped(a.reshape(shape), self.groups)
            for a in (((lo == 0) & (hi == 0)).astype(bool), frac.astype(np.int64), np.array(refs, np.int64))
        )
        taps = self.windows.index.shape[1]
        kernel, kfrac = (
            a.reshape(self.groups, taps, -1, a.shape[-1])[:, inside].reshape(self.groups, -1, a.shape[-1])
            for a in (self.kernel, self.kfrac)
        )
        each = self.channels // self.groups
        out_frac, zero = (
            a.reshape(self.positions, self.groups, each)[position] for a in (self.node.range.frac, self.node.range.zero)
        )
        made: list[int] = []
        for group in range(self.groups):
            live = (kernel[group] != 0) & ~dead[group][:, None] & ~zero[group]  # constants that cancel: 0 has no grid
            up = np.where(live, out_frac[group] - xfrac[group][:, None] - kfrac[group], 0)
            matrix = np.where(live, kernel[group], 0) << as_objects(up)
            part = slice(group * each, (group + 1) * each)
            bias, bfrac = self.bias[part], self.bfrac[part]
            added = (bias != 0) & ~zero[group]
            offsets = (np.where(added, bias, 0) << as_objects(np.where(added, out_frac[group] - bfrac, 0))).tolist()
            name = label if self.groups == 1 else f"{label}[group {group}]"
            made += cmvm.multiply(builder, x[group].tolist(), matrix, offsets, out_frac[group].tolist(), name)
        return made


def conv(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """Every position in one module: for types that differ from position to position."""
    tiles = ConvTiles(node, ranges[0])
    refs: list[int] = []
    for position in range(tiles.positions):
        read = tuple(args[0][i] for i in tiles.reads(position))
        refs += tiles.make(builder, position, read, f"{node.origin}[{position}]")
    return tuple(refs)
