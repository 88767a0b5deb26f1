"""Inputs of few bits: tables of several at once in place of adders.

An adder of two single bits makes two bits, so it wins nothing. A table of six bits, whatever their weights, costs one
LUT for each bit of the partial sum, and one of five shares the LUTs of the adder that reads it.
What adders share between outputs is lost, so `multiply` compares.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

from hgq.fixed import FixedType
from hgq.netlist.cost import trailing_zeros
from hgq.netlist.module import Builder
from hgq.netlist.ops import table_params

OWN, SHARED = 6, 5
"""Input bits of a table that has LUTs of its own, and of one that shares those of an adder."""

Bit = tuple[int, int, int]
"""A weight, and what it weighs: a node and the place of a bit in it."""
Term = tuple[int, int]
"""A node, and how far it is shifted up."""


def table_sum(builder: Builder, refs: list[int], column: list[int], constant: int, frac: int) -> int:
    """``sum(column[i] * refs[i]) + constant``, with its exact range.

    The bits of all inputs, in the order of their weights (zeros at the end, then size), are dealt to tables, so that
    each table makes few bits. Each table of six is at once added to one of five. All tables start at 0: what is
    negative goes into the constant.

    Args:
        refs: nodes of few bits. column: their coefficients, not all 0. frac: fractional bits of the sum.
    """
    bits: list[Bit] = []
    lo = hi = constant
    for ref, weight in zip(refs, column, strict=True):
        node = builder.nodes[ref]
        lo, hi = lo + min(weight * node.lo, weight * node.hi), hi + max(weight * node.lo, weight * node.hi)
        for at in range(node.width) if weight else ():
            bits.append((-weight << at if node.type.signed and at == node.width - 1 else weight << at, ref, at))
    bits.sort(key=lambda bit: (trailing_zeros(bit[0]), abs(bit[0]), bit))
    if len(bits) <= OWN:
        # Not every pattern of bits is one of the inputs' values.
        ref, shift = _table(builder, bits, frac, constant, (lo, hi))
        return builder.keep(ref, -shift, FixedType.holding(lo, hi, frac)) if shift else ref
    constant += sum(min(weight, 0) for weight, _, _ in bits)
    bound = lo - constant, hi - constant
    terms: list[Term] = []
    while bits:
        first, second, bits = bits[:OWN], bits[OWN : OWN + SHARED], bits[OWN + SHARED :]
        terms.append(_table(builder, first, frac))
        if second:
            last = None if bits or terms[1:] else bound
            terms.append(_sum(builder, terms.pop(), _table(builder, second, frac), frac, last))
    while len(terms) > 1:
        # Narrow ones meet first, in a tree of least depth.
        terms.sort(key=lambda term: (_top(builder, term), term))
        odd = terms[-1:] if len(terms) % 2 else []
        last = bound if len(terms) == 2 else None
        terms = [_sum(builder, a, b, frac, last) for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    ((ref, shift),) = terms
    if not constant and shift:
        return builder.keep(ref, -shift, FixedType.holding(lo, hi, frac))
    return builder.add(ref, builder.const(constant, frac), shift, 0, frac, (lo, hi))


def _sum(builder: Builder, a: Term, b: Term, frac: int, bound: tuple[int, int] | None = None) -> Term:
    """The sum of two terms, which lies in `bound`.

    A table that is to share the LUTs of the sum is the wider operand, or else its negative is subtracted: see
    `absorbed` in hgq/netlist/cost.py.
    """
    base = min(a[1], b[1])
    within = (bound[0] >> base, bound[1] >> base) if bound is not None else None
    (narrow, _), (wide, _) = sorted([(a, _top(builder, a)), (b, _top(builder, b))], key=lambda x: x[1])
    small = [term for term in (wide, narrow) if _fits(builder, term)]
    if small and not (small[0] == wide and _top(builder, wide) > _top(builder, narrow)):
        table, other = builder.nodes[small[0][0]], narrow if small[0] == wide else wide
        entries = [-entry for entry in table_params(table.params)[1]]
        negative = builder.table(list(table.args), entries, table.frac)
        return builder.sub(other[0], negative, other[1] - base, small[0][1] - base, frac - base, within), base
    return builder.add(a[0], b[0], a[1] - base, b[1] - base, frac - base, within), base


def _fits(builder: Builder, term: Term) -> bool:
    """Whether the term is a table that may share the LUTs of a sum."""
    node = builder.nodes[term[0]]
    return node.op == "table" and len(node.args) <= SHARED


def _top(builder: Builder, term: Term) -> int:
    """Bits up to the highest of a term."""
    return builder.nodes[term[0]].width + term[1]


def _table(
    builder: Builder, bits: list[Bit], frac: int, constant: int | None = None, bound: tuple[int, int] | None = None
) -> Term:
    """The weighed sum of a few bits, with `constant` added, or without one less its least value.

    Entries outside `bound` are of no use to anybody.
    """
    args = [builder.bit(ref, at, frac) for _, ref, at in bits]
    entries = [-sum(min(weight, 0) for weight, _, _ in bits) if constant is None else constant]
    for weight, _, _ in bits:
        entries += [entry + weight for entry in entries]
    if bound is not None:
        entries = [min(max(entry, bound[0]), bound[1]) for entry in entries]
    shift = trailing_zeros(reduce(or_, entries))
    if shift:
        entries = [entry >> shift for entry in entries]
    if entries == [0, 1]:
        return args[0], shift
    return builder.table(args, entries, frac - shift), shift
