"""Einsum equations of two operands, and how each of them is a batched matrix product.

Equations are those of `keras.ops.einsum`. The batch axis is the first one of whatever has it and is left out here.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Einsum:
    """``out = sum over all letters that out lacks of left * right``; a letter for each axis, no batch axis.

    sizes: of each letter. As a matrix product, each letter is of one kind:

    groups: in both operands and the result. rows: in the left one and the result. columns: in the right one and the
    result. inner: not in the result; an operand that lacks it is repeated along it.
    """

    left: str
    right: str
    out: str
    sizes: Mapping[str, int]

    @cached_property
    def groups(self) -> str:
        return "".join(c for c in self.out if c in self.left and c in self.right)

    @cached_property
    def rows(self) -> str:
        return "".join(c for c in self.out if c in self.left and c not in self.right)

    @cached_property
    def columns(self) -> str:
        return "".join(c for c in self.out if c not in self.left)

    @cached_property
    def inner(self) -> str:
        return "".join(c for c in dict.fromkeys(self.left + self.right) if c not in self.out)

    def shape(self, letters: str) -> tuple[int, ...]:
        return tuple(self.sizes[c] for c in letters)

    def count(self, letters: str) -> int:
        return math.prod(self.shape(letters))

    def places(self, letters: str, *order: str) -> np.ndarray:
        """Where the elements of a tensor with the axes `letters` go when it is arranged as `order`.

        Returns:
            Flat indices into the tensor, with one axis for each string of `order`, whose letters it runs through in C
            order. The tensor is repeated along letters that it lacks; of an axis that stands twice it is the diagonal.
        """
        strides: dict[str, int] = {}
        step = 1
        for c in reversed(letters):
            strides[c] = strides.get(c, 0) + step
            step *= self.sizes[c]
        along = "".join(order)
        index = np.zeros(self.shape(along), np.int64)
        for axis, c in enumerate(along):
            own = np.arange(self.sizes[c]) * strides.get(c, 0)
            index += own.reshape([-1 if axis == n else 1 for n in range(len(along))])
        return index.reshape([self.count(part) for part in order])

    def result_places(self, *order: str) -> np.ndarray:
        """For each element of the result its place in a tensor arranged as `order`."""
        return self.places("".join(order), *self.out).reshape(self.shape(self.out))

    @property
    def products(self) -> str:
        """The equation that adds up all products, as of the widths of their operands."""
        return f"{self.left},{self.right}->"


def parse(equation: str, ranks: tuple[int, int | None]) -> tuple[str, str, str]:
    """The letters of left, right and result, batch axis included; ``...`` becomes the capital letters it needs.

    Args:
        ranks: of the operands; None where that is what the equation says.

    Raises:
        ValueError: it is no equation of two operands, or does not fit the ranks.
    """
    text = equation.replace(" ", "")
    match = re.fullmatch(r"([a-zA-Z]*(?:\.\.\.)?[a-zA-Z]*),([a-zA-Z]*(?:\.\.\.)?[a-zA-Z]*)->([a-zA-Z.]*)", text)
    if not match:
        raise ValueError(f"equation={equation!r} has not the form 'ab,bc->ac'")
    left, right, out = match.groups()
    spare = [c for c in reversed(string.ascii_letters) if c not in text]
    letters = ""
    for part, rank in ((left, ranks[0]), (right, ranks[1])):
        named = part.replace("...", "")
        if rank is None and "..." in part:
            raise ValueError(f"equation={equation!r}: the second operand must name its axes")
        if rank is not None and (len(named) > rank or ("..." not in part and len(named) != rank)):
            raise ValueError(f"equation={equation!r}: {part!r} does not name the axes of a tensor of rank {rank}")
        if "..." in part and rank is not None:
            own = "".join(spare[: rank - len(named)])[::-1]  # shorter ellipses align at the end, as NumPy's do
            letters = max(letters, own, key=len)
    filled = []
    for part, rank in ((left, ranks[0]), (right, ranks[1]), (out, None)):
        count = len(letters) if rank is None else rank - len(part.replace("...", ""))
        filled.append(part.replace("...", letters[len(letters) - count :] if count else ""))
    left, right, out = filled
    if "." in out or len(set(out)) < len(out) or set(out) - set(left) - set(right):
        raise ValueError(f"equation={equation!r}: the result must name axes of the operands, each once")
    return left, right, out
