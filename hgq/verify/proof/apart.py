"""Two forms are the same if their difference is a sum of parts that read other inputs, each of which is a constant.

So is a long sum whose operands were rounded one by one, written as tables on one side and as windows on the other: all
inputs together have too many values to try, those behind one operand a hundred.
"""

from __future__ import annotations

import math

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms
from hgq.verify.proof.trial import TooMany, Trial

MOST_VALUES = 1 << 14
"""Combinations of inputs behind one part."""
Terms = tuple[tuple[int, int], ...]


class Apart:
    """What is known of parts, which come back in other outputs of a module with other factors."""

    def __init__(self, space: Space):
        self.space = space
        self._leaves: dict[int, frozenset[int]] = {}
        self._constants: dict[Terms, int | None] = {}

    def same(self, a: Form, b: Form) -> bool:
        """Whether two forms are shown to be the same; of forms of one part nothing is.

        Raises:
            Exhausted: their difference takes too many steps.
        """
        off = self.space.add(a, b, -1)
        total = off.const
        parts = self._parts(off)
        if len(parts) < 2:
            return False
        for part in parts:
            by = math.gcd(*part.values()) * (1 if min(part.items())[1] > 0 else -1)
            constant = self._constant(tuple(sorted((atom, c // by) for atom, c in part.items())))
            if constant is None:
                return False
            total += by * constant
        return total == 0

    def _parts(self, form: Form) -> list[dict[int, int]]:
        """The terms, apart by the inputs that they read."""
        groups: list[tuple[frozenset[int], dict[int, int]]] = []
        for atom, c in form.terms.items():
            leaves, terms = self._behind(atom), {atom: c}
            for group in [group for group in groups if group[0] & leaves]:
                groups.remove(group)
                leaves, terms = leaves | group[0], terms | group[1]
            groups.append((leaves, terms))
        return [terms for _, terms in groups]

    def _behind(self, atom: int) -> frozenset[int]:
        if atom not in self._leaves:
            atoms = inner_atoms(self.space, _of({atom: 1}))
            self._leaves[atom] = frozenset(n for n in atoms if self.space.atoms[n].kind == "leaf")
        return self._leaves[atom]

    def _constant(self, terms: Terms) -> int | None:
        """The value that a part always has, if all values of its inputs say so."""
        if terms not in self._constants:
            self._constants[terms] = self._tried(dict(terms))
        return self._constants[terms]

    def _tried(self, terms: dict[int, int]) -> int | None:
        leaves = sorted(frozenset().union(*(self._behind(atom) for atom in terms)))
        ranges = [(self.space.atoms[n].lo, self.space.atoms[n].hi) for n in leaves]
        if math.prod(hi - lo + 1 for lo, hi in ranges) > MOST_VALUES:
            return None
        axes = np.meshgrid(*(np.arange(lo, hi + 1) for lo, hi in ranges), indexing="ij")
        try:
            values = Trial(self.space, {n: axis.ravel() for n, axis in zip(leaves, axes, strict=True)}, {}).form(
                _of(terms)
            )
        except TooMany:
            return None
        return int(values.flat[0]) if (values == values.flat[0]).all() else None


def _of(terms: dict[int, int]) -> Form:
    """A sum of terms, to look at: bounds are not known."""
    return Form(0, terms, 0, 0)
