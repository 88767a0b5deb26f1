"""Sums of functions of single inputs: what the names of forms in `functions.py` are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hgq.verify.proof.atoms import Exhausted

WIDEST = 60
"""Bits of an integer of a function."""
Key = tuple[int, tuple[tuple[int, bytes], ...], tuple[tuple[int, int], ...]]


class Total:
    """``const + sum(functions of leaves) + sum(coefficient * part)``. Never changed.

    functions: by leaf, the integers for each of its values, of which the first is 0 and not all are. parts: coefficients
    other than 0, by the number of a part.
    """

    __slots__ = ("const", "functions", "parts")

    def __init__(self, const: int, functions: Mapping[int, np.ndarray], parts: Mapping[int, int]):
        self.const, self.functions, self.parts = const, functions, parts

    @property
    def key(self) -> Key:
        """Equal for equal ones."""
        functions = tuple(sorted((leaf, values.tobytes()) for leaf, values in self.functions.items()))
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
        for values in self.functions.values():
            every |= int(np.bitwise_or.reduce(values))
        return (every & -every).bit_length() - 1 if every else 0

    def odd(self) -> tuple[list[int], list[int]]:
        """Leaves and parts that are not always even."""
        leaves = [leaf for leaf, values in self.functions.items() if (values & 1).any()]
        return leaves, [part for part, c in self.parts.items() if c & 1]


class Sum:
    """A total to which more is added."""

    def __init__(self, const: int = 0):
        self.const = const
        self.functions: dict[int, np.ndarray] = {}
        self.parts: dict[int, int] = {}

    def add(self, total: Total, by: int = 1) -> None:
        self.const += by * total.const
        for leaf, values in total.functions.items():
            self.function(leaf, values, by)
        for part, c in total.parts.items():
            self.part(part, by * c)

    def part(self, part: int, c: int) -> None:
        found = self.parts.get(part, 0) + c
        if found:
            self.parts[part] = found
        else:
            self.parts.pop(part, None)

    def function(self, leaf: int, values: np.ndarray, by: int = 1) -> None:
        """Integers for each value of a leaf.

        Raises:
            Exhausted: they are too wide.
        """
        if abs(by) * int(np.abs(values).max()) >> WIDEST:
            raise Exhausted
        found = values * by
        if leaf in self.functions:
            found = self.functions[leaf] + found
        if int(np.abs(found).max()) >> WIDEST:
            raise Exhausted
        self.const += int(found[0])
        if found[0]:
            found = found - found[0]
        if found.any():
            self.functions[leaf] = found
        else:
            self.functions.pop(leaf, None)

    def total(self) -> Total:
        return Total(self.const, self.functions, self.parts)


def nearest(values: np.ndarray, a: int) -> np.ndarray:
    """Integers that are the same modulo ``2**a`` and as near to each other as can be, the first 0 as before.

    So a sum of them has the closest bounds, and the same residues make the same integers. `values` itself where it is
    that.
    """
    if a > WIDEST:
        return values
    size = 1 << a
    residues = values & size - 1
    there = np.unique(residues)
    gaps = np.diff(there, append=there[0] + size)
    start = int(there[(int(gaps.argmax()) + 1) % len(there)])  # behind the widest gap
    found = (residues - start & size - 1) + start
    found = found - found[0]
    return values if (found == values).all() else found
