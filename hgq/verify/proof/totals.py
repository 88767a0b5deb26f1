"""Sums of functions of single inputs: what the names of forms in `functions.py` are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hgq.verify.proof.atoms import Exhausted

WIDEST = 60
"""Bits of an integer of a function."""
Key = tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]


class Function:
    """Integers in ``lo..hi`` for each value of an input, of which the first is 0 and not all are. One for equal ones.

    every: all of them, or-ed: where its low bits are 0, theirs are.
    """

    __slots__ = ("_made", "_near", "_plus", "_times", "every", "hi", "lo", "number", "values")

    def __init__(self, values: np.ndarray, made: dict[bytes, Function]):
        self.values, self.number, self._made = values, len(made), made
        self.lo, self.hi = int(values.min()), int(values.max())
        self.every = int(np.bitwise_or.reduce(values))
        self._near: dict[int, tuple[Function | None, Function | None]] = {}
        self._times: dict[int, Function] = {}
        self._plus: dict[int, Function | None] = {}

    def other(self, values: np.ndarray) -> Function | None:
        """The function of other integers, the first 0; None if all are."""
        return function(values, self._made)

    def times(self, by: int) -> Function:
        """Each integer times a number other than 0.

        Raises:
            Exhausted: they are too wide.
        """
        if by not in self._times:
            if max(-self.lo, self.hi) * abs(by) >> WIDEST:
                raise Exhausted
            made = self.other(self.values * by)
            assert made is not None
            self._times[by] = made
        return self._times[by]

    def plus(self, other: Function) -> Function | None:
        """The sum with another function of this input; None if it is 0.

        Raises:
            Exhausted: it is too wide.
        """
        if other.number not in self._plus:
            if max(-self.lo, self.hi) + max(-other.lo, other.hi) >> WIDEST:
                raise Exhausted
            self._plus[other.number] = self.other(self.values + other.values)
        return self._plus[other.number]

    def near(self, a: int) -> tuple[Function | None, Function | None]:
        """(r, q) with the function = r + q * 2**a, the integers of r as near to each other as can be; None is 0.

        So a sum of such r has the closest bounds, and the same residues have the same r.
        """
        if a not in self._near:
            self._near[a] = self, None
            if a <= WIDEST:
                size = 1 << a
                residues = self.values & size - 1
                there = np.unique(residues)
                gaps = np.diff(there, append=there[0] + size)
                start = int(there[(int(gaps.argmax()) + 1) % len(there)])  # behind the widest gap
                rest = (residues - start & size - 1) + start
                rest -= rest[0]
                self._near[a] = self.other(rest), self.other(self.values - rest >> a)
        return self._near[a]


def function(values: np.ndarray, made: dict[bytes, Function]) -> Function | None:
    """A function by its integers, the first 0; None if all are. made: all that there are, to which it is added."""
    key = values.tobytes()
    found = made.get(key)
    if found is None and values.any():
        found = made[key] = Function(values, made)
    return found


class Total:
    """``const + sum(functions of leaves) + sum(coefficient * part)``. Never changed.

    functions: by leaf. parts: coefficients other than 0, by the number of a part.
    """

    __slots__ = ("const", "functions", "parts")

    def __init__(self, const: int, functions: Mapping[int, Function], parts: Mapping[int, int]):
        self.const, self.functions, self.parts = const, functions, parts

    @property
    def key(self) -> Key:
        """Equal for equal ones."""
        functions = tuple(sorted((leaf, function.number) for leaf, function in self.functions.items()))
        return self.const, functions, tuple(sorted(self.parts.items()))

    @property
    def constant(self) -> bool:
        return not self.functions and not self.parts

    def alone(self) -> tuple[int, int] | None:
        """(part, coefficient) if that is all but the constant."""
        return next(iter(self.parts.items())) if not self.functions and len(self.parts) == 1 else None

    def low_zeros(self) -> int:
        """Zero bits in which all ends but the constant; 0 where there is nothing else."""
        every = 0
        for c in self.parts.values():
            every |= c
        for one in self.functions.values():
            every |= one.every
        return (every & -every).bit_length() - 1 if every else 0

    def odd(self) -> tuple[list[int], list[int]]:
        """Leaves and parts that are not always even."""
        leaves = [leaf for leaf, one in self.functions.items() if one.every & 1]
        return leaves, [part for part, c in self.parts.items() if c & 1]


class Sum:
    """A total to which more is added."""

    def __init__(self, const: int = 0):
        self.const = const
        self.functions: dict[int, Function] = {}
        self.parts: dict[int, int] = {}

    def add(self, total: Total, by: int = 1) -> None:
        self.const += by * total.const
        for leaf, one in total.functions.items():
            self.function(leaf, one, by)
        for part, c in total.parts.items():
            self.part(part, by * c)

    def part(self, part: int, c: int) -> None:
        found = self.parts.get(part, 0) + c
        if found:
            self.parts[part] = found
        else:
            self.parts.pop(part, None)

    def function(self, leaf: int, one: Function | None, by: int = 1) -> None:
        """Adds a function of a leaf, `by` times.

        Raises:
            Exhausted: it is too wide.
        """
        if one is None or not by:
            return
        more = one if by == 1 else one.times(by)
        known = self.functions.pop(leaf, None)
        total = more if known is None else known.plus(more)
        if total is not None:
            self.functions[leaf] = total

    def total(self) -> Total:
        return Total(self.const, self.functions, self.parts)
