"""The integers of forms for all values of what they are made of, in arrays with an axis for each variable."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import parts

Sum = tuple[tuple[int, int], ...]
"""Leaves and their coefficients, which have no common divisor, the first positive."""
Column = dict[int | Sum, np.ndarray]
"""Atoms, or one sum of leaves, that take values together, and the values of each, one after the other."""


class TooMany(Exception):
    """There are too many values to try, or too wide ones."""


class Trial:
    """The integers of forms, in arrays with an axis for each variable that they depend on.

    known: values of what does not change from part to part; `moving` changes, and all that is made of it.
    """

    def __init__(self, space: Space, known: Column, moving: Mapping[int | Sum, np.ndarray]):
        self.space, self.known = space, dict(known)
        self._part: Column = {}
        self._moves: dict[int | Sum, bool] = dict.fromkeys(known, False) | dict.fromkeys(moving, True)

    def begin(self, part: Column) -> None:
        """The next part of the values of what moves."""
        self._part = dict(part)

    def form(self, form: Form) -> np.ndarray:
        whole, by, rest = primitive(self.space, form)
        found = self._part.get(whole, self.known.get(whole)) if whole else None
        if found is None:
            columns = [(self._atom(atom), c) for atom, c in form.terms.items()]
        else:
            columns = [(found, by), *((self._atom(atom), c) for atom, c in rest.items())]
        reach = abs(form.const) + sum(
            abs(c) * max(abs(self.space.atoms[n].lo), abs(self.space.atoms[n].hi)) for n, c in form.terms.items()
        )
        if reach >> 62:
            raise TooMany
        total = np.full((), form.const, np.int64)
        for column, c in sorted(columns, key=lambda one: one[0].size):
            total = total + column * c
        return total

    def _atom(self, atom: int) -> np.ndarray:
        found = self.known.get(atom)
        if found is None:
            found = self._part.get(atom)
        if found is None:
            found = self._made(atom)
            (self._part if self._moving(atom) else self.known)[atom] = found
        return found

    def _moving(self, atom: int) -> bool:
        if atom not in self._moves:
            self._moves[atom] = self.space.atoms[atom].kind == "leaf" or any(
                self._moving(part) for part in parts(self.space, atom)
            )
        return self._moves[atom]

    def _of(self, number: int) -> np.ndarray:
        return self.form(self.space.forms[number])

    def _made(self, atom: int) -> np.ndarray:
        one = self.space.atoms[atom]
        if one.kind == "leaf":
            return self.form(Form(0, {atom: 1}, one.lo, one.hi))  # as a sum
        if one.kind == "window":
            number, a, n = one.args
            shifted = self._of(number) >> a
            return shifted if n is None else shifted & (1 << n) - 1
        if one.kind == "negative":
            return (self._of(one.args[0]) < 0).astype(np.int64)
        if one.kind == "limit":
            number, most = one.args
            return np.clip(self._of(number), 0, most)
        if one.kind == "largest":
            result = self._of(one.args[0])
            for number in one.args[1:]:
                result = np.maximum(result, self._of(number))
            return result
        if one.kind == "choice":
            condition, yes, no = (self._of(number) for number in one.args)
            return np.where(condition == 1, yes, no)
        if one.kind == "product":
            if max(abs(one.lo), abs(one.hi)) >> 62:
                raise TooMany
            result = self._atom(one.args[0])
            for factor in one.args[1:]:
                result = result * self._atom(factor)
            return result
        bits, entries = one.args
        index = sum((self._atom(bit) != 0).astype(np.int64) << i for i, bit in enumerate(bits))
        return np.array([e or 0 for e in entries], np.int64)[index]


def primitive(space: Space, form: Form) -> tuple[Sum, int, dict[int, int]]:
    """(s, k, rest) with the terms of a form = k * s + rest, where s is of leaves and rest of no leaves."""
    leaves = sorted((atom, c) for atom, c in form.terms.items() if space.atoms[atom].kind == "leaf")
    rest = {atom: c for atom, c in form.terms.items() if space.atoms[atom].kind != "leaf"}
    if not leaves:
        return (), 0, rest
    by = math.gcd(*(c for _, c in leaves)) * (1 if leaves[0][1] > 0 else -1)
    return tuple((leaf, c // by) for leaf, c in leaves), by, rest
