"""Two forms are the same if they are so for all values of one sum that all of both is made of.

Where the sign of a sum, its bits and its limits come together no rule helps, and the inputs behind them have too many
values together; their sum has some hundred.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.functions import Functions
from hgq.verify.proof.totals import WIDEST, Function, Sum, Total

MOST_VALUES = 1 << 16
"""Of a sum that is tried."""
MOST_SUMS = 8
"""Tried for one question, those of most inputs first."""


def same_by_one_sum(functions: Functions, a: Form, b: Form) -> bool:
    """Whether two forms are the same integer for all values of a sum that both depend on alone.

    Raises:
        Exhausted: it takes too many steps.
    """
    off = functions.difference(a, b)
    return any(_OneSum(functions, total).is_zero(off) for total in _sums(functions, off)[:MOST_SUMS])


def _sums(functions: Functions, total: Total) -> list[Total]:
    """The sums inside, each with other functions, those of most inputs and least values first."""
    found: dict[tuple, Total] = {}
    seen: set[int] = set()  # parts, and tables as negative numbers
    todo = [total]
    while todo:
        one = todo.pop()
        tables = {leaf for leaf in one.functions if leaf < 0} - seen
        seen |= tables
        todo += [bit for leaf in tables for bit in functions.tables[-1 - leaf][0]]
        for number in one.parts:
            if number not in seen:
                seen.add(number)
                part = functions.shifts.parts[number]
                inner = [made[0] for made in (part.shift, part.limit) if made]
                todo += [*inner, *part.inside]
                found |= {made.key[1]: made for made in inner if made.functions and not made.parts}

    def order(one: Total) -> tuple[int, int]:
        lo, hi = functions.shifts.bounds(one)
        return -len(one.functions), hi - lo

    return [one for one in sorted(found.values(), key=order) if order(one)[1] < MOST_VALUES]


class _No(Exception):
    """Something depends on more than the sum."""


class _OneSum:
    """What totals are for each value of one sum, if that is all that they depend on."""

    def __init__(self, functions: Functions, total: Total):
        self.functions = functions
        self.unit = total.functions
        lo, hi = functions.shifts.bounds(total)
        self.values = np.arange(lo - total.const, hi - total.const + 1)
        self._known: dict[int, tuple[np.ndarray, Total]] = {}

    def is_zero(self, total: Total) -> bool:
        """Whether a total is 0 for all values of the sum; False where it depends on more."""
        try:
            return not self._exactly(total).any()
        except _No:
            return False

    def _exactly(self, total: Total) -> np.ndarray:
        values, rest = self._of(total)
        return values + self.values * self._ratio(rest.functions, 0)

    def _of(self, total: Total) -> tuple[np.ndarray, Total]:
        """Integers for each value of the sum, and functions of inputs that are to be added to them."""
        values, rest = np.full(len(self.values), total.const), Sum()
        for leaf, one in total.functions.items():
            if leaf >= 0 or leaf in self.unit:
                rest.function(leaf, one)
            else:
                values = values + one.values[self._patterns(leaf)]
        for number, c in total.parts.items():
            own, functions = self._part(number)
            if abs(c) * int(np.abs(own).max()) >> WIDEST - 1:
                raise _No
            values = values + c * own
            if int(np.abs(values).max()) >> WIDEST:
                raise _No
            rest.add(functions, c)
        return values, rest.total()

    def _part(self, number: int) -> tuple[np.ndarray, Total]:
        if number not in self._known:
            self.functions.space.steps -= 1
            if self.functions.space.steps < 0:
                raise Exhausted
            self._known[number] = self._made(number)
        return self._known[number]

    def _patterns(self, leaf: int) -> np.ndarray:
        """Which of the patterns of a table there are the bits spell."""
        bits, there = self.functions.tables[-1 - leaf]
        index = sum((self._exactly(bit) != 0).astype(np.int64) << place for place, bit in enumerate(bits))
        return np.maximum(np.cumsum(there) - 1, 0)[index]  # any where there is none: no inputs make this value

    def _made(self, number: int) -> tuple[np.ndarray, Total]:
        part = self.functions.shifts.parts[number]
        none = Sum().total()
        if part.shift:
            total, a = part.shift
            values, rest = self._of(total)
            ratio = self._ratio(rest.functions, a)
            left = Sum()
            left.add(rest)
            for leaf, one in self.unit.items():
                left.function(leaf, one, -ratio)
            over = {leaf: one.near(a)[1] for leaf, one in left.functions.items()}  # all are multiples of 2**a
            return values + self.values * ratio >> a, Total(0, {leaf: one for leaf, one in over.items() if one}, {})
        if part.limit:
            total, most = part.limit
            return np.clip(self._exactly(total), 0, most), none
        kind = part.key[0]
        if kind == "leaf":
            raise _No
        inside = [self._exactly(total) for total in part.inside]
        if kind == "product":
            if max(abs(part.lo), abs(part.hi)) >> WIDEST:
                raise _No
            return np.prod(inside, axis=0), none
        if kind == "largest":
            return np.max(inside, axis=0), none
        return np.where(inside[0] == 1, inside[1], inside[2]), none

    def _ratio(self, functions: Mapping[int, Function], a: int) -> int:
        """How often the sum is in functions of inputs; modulo ``2**a``, unless that is 0, for shifts by a."""
        if not functions:
            return 0
        size = 1 << a
        wished = [(leaf, one.values & 1 if a else one.values != 0) for leaf, one in self.unit.items()]
        leaf, at = next(((leaf, int(np.argmax(these))) for leaf, these in wished if these.any()), (-1, 0))
        if leaf < 0:
            raise _No
        unit, wanted = int(self.unit[leaf].values[at]), int(functions[leaf].values[at]) if leaf in functions else 0
        ratio = wanted * pow(unit, -1, size) % size if a else wanted // unit
        ratio -= size if ratio > size // 2 and a else 0
        widest = max(int(self.values[-1] - self.values[0]), *(max(-one.lo, one.hi) for one in self.unit.values()))
        if abs(ratio) * widest >> WIDEST or a > WIDEST:
            raise _No
        none = np.zeros(1, np.int64)
        for other in {*functions, *self.unit}:
            there, own = (known[other].values if other in known else none for known in (functions, self.unit))
            off = there - ratio * own
            if (off & size - 1 if a else off).any():
                raise _No
        return ratio
