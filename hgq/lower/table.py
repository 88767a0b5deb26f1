"""Functions as tables."""

from __future__ import annotations

from hgq.ir.graph import Node
from hgq.ir.ops.table import table_of
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder


def lookup(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """A table for each element; equal tables are one function of the module. Entries never asked for are left out."""
    refs = []
    for i, ref in enumerate(args[0]):
        builder.origin = f"{node.origin}[{i}]"
        lowest, entries = table_of(node.attrs, i)
        lo, hi = builder.nodes[ref].lo, builder.nodes[ref].hi
        reached = entries[lo - lowest : hi - lowest + 1].tolist()
        refs.append(builder.lookup(ref, reached, int(node.range.frac.ravel()[i])))
    return tuple(refs)


def take(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """Wires only; lowered where the arrangement leaves the design as an output."""
    pool = [ref for refs in args for ref in refs]
    return tuple(pool[i] if i >= 0 else builder.const(0) for i in node.attrs["index"].ravel().tolist())
