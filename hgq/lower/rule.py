"""The shape of a lowering rule: how one IR node becomes netlist nodes."""

from __future__ import annotations

from collections.abc import Callable

from hgq.ir.graph import Node
from hgq.ir.range import Range
from hgq.netlist.module import Builder

Refs = tuple[int, ...]
"""The netlist node of each element of a tensor, in C order."""
Ranges = tuple[Range, ...]
"""Ranges of the arguments, in order."""
Args = tuple[Refs, ...]
"""Netlist nodes of the arguments, in order."""
Rule = Callable[[Builder, Node, Ranges, Args], Refs]
