"""Forms in which all that reads one input of few bits is one table of that input.

So sums become the same whose operands were rounded one by one, as tables on one side and as windows on the other, also
where they stand inside of windows: all inputs together have too many values to try, one operand has a hundred.
"""

from __future__ import annotations

import math

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms
from hgq.verify.proof.rewritten import Rewritten
from hgq.verify.proof.tables import of_values
from hgq.verify.proof.trial import TooMany, Trial

MOST_VALUES = 1 << 10
"""Of an input that is tried."""
Terms = tuple[tuple[int, int], ...]


class ByInput(Rewritten):
    """What was made of terms comes back in other outputs of a module, with other factors."""

    def __init__(self, space: Space):
        super().__init__(space)
        self._leaves: dict[int, frozenset[int]] = {}
        self._written: dict[Terms, Form] = {}

    def form(self, form: Form) -> Form:
        groups: dict[int, dict[int, int]] = {}
        parts: list[tuple[Form, int]] = []
        for atom, c in form.terms.items():
            leaf = self._only_input(atom)
            if leaf is None:
                parts.append((super().atom(atom), c))
            else:
                groups.setdefault(leaf, {})[atom] = c
        for leaf, terms in groups.items():
            by = math.gcd(*terms.values()) * (1 if min(terms.items())[1] > 0 else -1)
            parts.append((self._of(leaf, tuple(sorted((atom, c // by) for atom, c in terms.items()))), by))
        return self.space.sum(parts, form.const)

    def atom(self, atom: int) -> Form:
        leaf = self._only_input(atom)
        return super().atom(atom) if leaf is None else self._of(leaf, ((atom, 1),))

    def _only_input(self, atom: int) -> int | None:
        """The leaf that an atom reads, if it is one alone and has few values."""
        if atom not in self._leaves:
            atoms = inner_atoms(self.space, Form(0, {atom: 1}, 0, 0))
            self._leaves[atom] = frozenset(n for n in atoms if self.space.atoms[n].kind == "leaf")
        if len(self._leaves[atom]) != 1:
            return None
        (leaf,) = self._leaves[atom]
        one = self.space.atoms[leaf]
        return leaf if one.hi - one.lo < MOST_VALUES else None

    def _of(self, leaf: int, terms: Terms) -> Form:
        """A sum of terms that read one leaf."""
        if terms not in self._written:
            self._written[terms] = self._tried(leaf, terms)
        return self._written[terms]

    def _tried(self, leaf: int, terms: Terms) -> Form:
        space, one = self.space, self.space.atoms[leaf]
        as_it_is = space.form(0, dict(terms))
        try:
            values = Trial(space, {leaf: np.arange(one.lo, one.hi + 1)}, {}).form(as_it_is).tolist()
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
            groups.setdefault(self._only_input(bit), []).append(place)
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
