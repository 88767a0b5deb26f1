"""Forms in which all that reads one input of few values is one table of that input.

So the tables that only one of two forms holds are few, and inputs that differ are looked for where these have their
entries. That forms are the same is said by other names (functions.py), which need no tables.
"""

from __future__ import annotations

import math

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.one_input import OneInput
from hgq.verify.proof.rewritten import Rewritten
from hgq.verify.proof.tables import of_values
from hgq.verify.proof.trial import TooMany

Terms = tuple[tuple[int, int], ...]


class ByInput(Rewritten):
    """What was made of terms comes back in other outputs of a module, with other factors."""

    def __init__(self, space: Space, inputs: OneInput):
        super().__init__(space)
        self._inputs = inputs
        self._written: dict[Terms, Form] = {}

    def form(self, form: Form) -> Form:
        groups: dict[int, dict[int, int]] = {}
        parts: list[tuple[Form, int]] = []
        for atom, c in form.terms.items():
            leaf = self._inputs.of(atom)
            if leaf is None:
                parts.append((super().atom(atom), c))
            else:
                groups.setdefault(leaf, {})[atom] = c
        for leaf, terms in groups.items():
            by = math.gcd(*terms.values()) * (1 if min(terms.items())[1] > 0 else -1)
            parts.append((self._of(leaf, tuple(sorted((atom, c // by) for atom, c in terms.items()))), by))
        return self.space.sum(parts, form.const)

    def atom(self, atom: int) -> Form:
        leaf = self._inputs.of(atom)
        return super().atom(atom) if leaf is None else self._of(leaf, ((atom, 1),))

    def _of(self, leaf: int, terms: Terms) -> Form:
        """A sum of terms that read one leaf."""
        if terms not in self._written:
            self._written[terms] = self._tried(leaf, terms)
        return self._written[terms]

    def _tried(self, leaf: int, terms: Terms) -> Form:
        space, one = self.space, self.space.atoms[leaf]
        as_it_is = space.form(0, dict(terms))
        try:
            values = self._inputs.values(as_it_is, leaf).tolist()
        except TooMany:
            return as_it_is
        turn = next((-1 if value < values[0] else 1 for value in values if value != values[0]), 1)
        made = of_values(space, Form(0, {leaf: 1}, one.lo, one.hi), lambda x: turn * values[x - one.lo])
        return as_it_is if made is None else space.scale(made, turn)

    def table(self, atom: int) -> Form:
        """A table as a sum of one for each input that it reads, if it is one."""
        bits, entries = self.space.atoms[atom].args
        groups: dict[int | None, list[int]] = {}
        for place, bit in enumerate(bits):
            groups.setdefault(self._inputs.of(bit), []).append(place)
        base = next(i for i, entry in enumerate(entries) if entry is not None)
        if None in groups or len(groups) < 2:
            return super().table(atom)
        at = np.arange(len(entries))
        total = np.full(len(entries), entries[base], object)
        parts = []
        for places in groups.values():
            mask = sum(1 << place for place in places)
            alone = [entries[i] for i in (at & mask | base & ~mask).tolist()]
            if any(e is None and entries[i] is not None for i, e in enumerate(alone)):
                return super().table(atom)
            total += np.array([0 if e is None else e - entries[base] for e in alone], object)
            column = [
                alone[sum((p >> k & 1) << place for k, place in enumerate(places))] for p in range(1 << len(places))
            ]
            parts.append((self.space.table(tuple(bits[place] for place in places), column), 1))
        if any(e is not None and e != t for e, t in zip(entries, total.tolist(), strict=True)):
            return super().table(atom)
        return self.form(self.space.sum(parts, -entries[base] * (len(parts) - 1)))
