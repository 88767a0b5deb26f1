"""Products of two values, and matrix products of two tensors."""

from __future__ import annotations

import numpy as np

from hgq.fixed import FixedType
from hgq.ir.graph import Node
from hgq.ir.ops.product import product_terms
from hgq.lower import cmvm
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder

CHAIN = 6
"""Rows of a product that are added one after the other: an adder's LUTs then also select the row, where a tree would
need them for each second row. Longer operands have several chains, side by side."""
TABLE_BITS = 6
"""Operands with so many bits together are multiplied by a table: one LUT for each bit of the product."""


def mul(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """The product of two tensors, element by element."""
    return tuple(product(builder, a, b, f"{node.origin}[{i}]") for i, (a, b) in enumerate(zip(*args, strict=True)))


def matmul(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """The matrix product of two tensors: for each element its products, and the adder tree over them."""
    lowest, highest, _, ups = product_terms(*ranges)
    live = ((lowest != 0) | (highest != 0)).astype(bool)
    a, b = (np.array(refs, np.int64).reshape(r.shape) for refs, r in zip(args, ranges, strict=True))
    frac = node.range.frac.ravel().tolist()
    refs = []
    for i, (g, row, column) in enumerate(np.ndindex(node.shape)):
        label = f"{node.origin}[{i}]"
        inner = np.flatnonzero(live[g, row, :, column]).tolist()
        terms = [product(builder, int(a[g, row, k]), int(b[g, k, column]), label) for k in inner]
        matrix = np.array([[1 << int(ups[g, row, k, column])] for k in inner], object).reshape(len(inner), 1)
        refs += cmvm.multiply(builder, terms, matrix, [0], [frac[i]], label)
    return tuple(refs)


def product(builder: Builder, a: int, b: int, label: str) -> int:
    """``a * b`` in steps between which registers can stand.

    A constant is a matrix product; few bits are a table; else each bit of the narrower operand selects the wider one
    or 0, and chains of adders add up these rows. The sign bit's row is subtracted.
    """
    builder.origin = label
    nodes = builder.nodes
    frac = nodes[a].frac + nodes[b].frac
    for one, other in ((a, b), (b, a)):
        if nodes[one].constant:
            return cmvm.multiply(builder, [other], np.array([[nodes[one].lo]], object), [0], [frac], label)[0]
    if nodes[a].type.width + nodes[b].type.width <= TABLE_BITS:
        return _table(builder, a, b, frac)
    wide, narrow = (a, b) if nodes[a].type.width >= nodes[b].type.width else (b, a)
    return _rows(builder, wide, narrow, frac)


def _table(builder: Builder, a: int, b: int, frac: int) -> int:
    """The product as a table of both operands' bits side by side."""
    low, high = builder.nodes[b], builder.nodes[a]
    if a == b:
        return builder.lookup(a, [n * n for n in range(low.lo, low.hi + 1)], frac)
    width = low.type.width
    bits = builder.keep(b, 0, FixedType(False, width, low.frac))
    index = builder.concat(a, bits, width, frac)
    first, last = builder.nodes[index].lo, builder.nodes[index].hi
    entries = []
    for n in range(first, last + 1):
        rest = n % (1 << width)
        rest -= low.type.signed and rest >> (width - 1) << width
        # Entries for integers that an operand cannot be are as good as any: the nearest product that is possible.
        entries.append(min(max(n >> width, high.lo), high.hi) * min(max(rest, low.lo), low.hi))
    return builder.lookup(index, entries, frac)


def _rows(builder: Builder, wide: int, narrow: int, frac: int) -> int:
    t = builder.nodes[narrow].type
    a, b = builder.nodes[wide], builder.nodes[narrow]
    corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    bound = min(corners), max(corners)
    bits = [builder.keep(narrow, n, FixedType(False, 1, 0)) for n in range(t.width)]
    # The sign bit comes last: what has been added up so far is then positive for a positive operand.
    chains = np.array_split(np.arange(t.width), -(-t.width // CHAIN))
    sums = []
    for chain in chains:
        total = -1
        for n in chain.tolist():
            row, shift = builder.mul(wide, bits[n]), n - int(chain[0])
            negative = t.signed and n == t.width - 1
            if total < 0:
                total = builder.neg(row, frac) if negative else row
            else:
                whole = bound if n - shift == 0 and n == t.width - 1 else None
                total = (builder.sub if negative else builder.add)(total, row, 0, shift, frac, whole)
        sums.append((total, int(chain[0])))
    while len(sums) > 1:
        pairs = [sums[n : n + 2] for n in range(0, len(sums), 2)]
        whole = bound if len(pairs) == 1 else None
        sums = [
            (builder.add(p[0][0], p[1][0], 0, p[1][1] - p[0][1], frac, whole), p[0][1]) if len(p) > 1 else p[0]
            for p in pairs
        ]
    return sums[0][0]
