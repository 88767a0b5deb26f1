"""Every output by itself: canonical signed digits in a balanced tree. For effort 0, and for integers of any width."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from hgq.netlist.module import Builder


def signed_digits(value: int) -> list[tuple[int, int]]:
    """The canonical signed digits of an integer: (power, +1 or -1), lowest first; no two are adjacent.

    >>> signed_digits(7)
    [(0, -1), (3, 1)]
    """
    digits, power = [], 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)
            digits.append((power, digit))
            value -= digit
        value >>= 1
        power += 1
    return digits


def balanced_trees(
    builder: Builder, inputs: list[int], matrix: np.ndarray, offsets: list[int], fracs: list[int], origin: str
) -> list[int]:
    """What `hgq.lower.cmvm.multiply` states, without sharing anything between outputs."""
    results = []
    for column, (offset, frac) in enumerate(zip(offsets, fracs, strict=True)):
        builder.origin = f"{origin}[{column}]"
        terms = [
            (inputs[row], power, digit)
            for row in range(len(inputs))
            if not builder.nodes[inputs[row]].constant
            for power, digit in signed_digits(int(matrix[row, column]))
        ]
        constant = offset + sum(
            int(matrix[row, column]) * builder.nodes[ref].lo
            for row, ref in enumerate(inputs)
            if builder.nodes[ref].constant
        )
        results.append(_sum(builder, terms, constant, frac))
    return results


@dataclass(order=True, slots=True)
class _Term:
    """A signed, shifted node of the sum being built. The heap takes the first by (depth, shift, width, ref)."""

    depth: int
    shift: int
    width: int
    ref: int
    sign: int = field(compare=False)
    form: dict[int, int] = field(compare=False)  # the node as a sum of coefficient * input node

    @classmethod
    def of(cls, builder: Builder, depth: int, shift: int, ref: int, sign: int, form: dict[int, int]) -> _Term:
        return cls(depth, shift, builder.nodes[ref].type.width, ref, sign, form)


def _sum(builder: Builder, digits: list[tuple[int, int, int]], constant: int, frac: int) -> int:
    """The sum of ``sign * (node << shift)`` and a constant. The constant enters last, where rounding can join it."""
    # Shallow first keeps the tree balanced; then low shifts first, because neighbours in weight make narrow sums.
    heap = [_Term.of(builder, 0, shift, ref, sign, {ref: 1}) for ref, shift, sign in digits]
    heapq.heapify(heap)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        merged = _merge(builder, a, b, frac)
        if merged.form:
            heapq.heappush(heap, merged)
    if not heap:
        return builder.const(constant, frac)
    last = heap[0]
    offset = builder.const(constant, frac)
    if last.sign > 0:
        return builder.add(last.ref, offset, last.shift, 0, frac)
    return builder.sub(offset, last.ref, 0, last.shift, frac)


def _merge(builder: Builder, a: _Term, b: _Term, frac: int) -> _Term:
    """The sum of two terms; positive unless both are negative."""
    if a.sign < b.sign:
        a, b = b, a
    base = min(a.shift, b.shift)
    sa, sb = a.shift - base, b.shift - base
    second = 1 if a.sign == b.sign else -1
    form = {ref: c << sa for ref, c in a.form.items()}
    for ref, c in b.form.items():
        form[ref] = form.get(ref, 0) + second * (c << sb)
    form = {ref: c for ref, c in form.items() if c}
    join = builder.add if second > 0 else builder.sub
    ref = join(a.ref, b.ref, sa, sb, frac - base, exact_range(builder, form))
    return _Term.of(builder, max(a.depth, b.depth) + 1, base, ref, a.sign, form)


def exact_range(builder: Builder, form: dict[int, int]) -> tuple[int, int]:
    """The range of a sum of coefficient * node over independent nodes.

    Tighter than adding up the ranges of partial sums: 4x - x is 3x, not anything between -hi and 4*hi.
    """
    lo = hi = 0
    for ref, c in form.items():
        node = builder.nodes[ref]
        lo += c * (node.lo if c > 0 else node.hi)
        hi += c * (node.hi if c > 0 else node.lo)
    return lo, hi
