"""Two forms are the same if they are so for all values of what they are made of: asked only where no rule helps.

What they are made of is cut where few values are left: at the inputs of the module; at sums of inputs of which both
forms hold nothing but multiples; and at tables that read long sums, of which those that share bits go together. A cut
lets values come together that never do: what holds for all of them holds; where they are all of inputs, a difference
is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms, parts
from hgq.verify.proof.patterns import possible
from hgq.verify.proof.trial import Column, TooMany, Trial, primitive

MOST = 1 << 26
"""Combinations of values that are tried for one question."""
MOST_BEHIND = 1 << 12
"""Combinations of inputs behind one table; of more, the table itself is where the cut goes."""
MOST_TOGETHER = 16
"""Bits of tables that go together."""
AT_ONCE = 1 << 18
"""Combinations that are tried at a time."""


def inputs_that_differ(space: Space, a: Form, b: Form) -> dict[int, int] | None:
    """Values of leaves for which two forms differ, by the leaf's number; none (empty) where there are no such values.

    Returns:
        None where that cannot be told: there are too many values, or they differ where the cut lets them alone.
    """
    if not a.terms and not b.terms:
        return {} if a.const == b.const else None
    ways = ((True, MOST_BEHIND, False), None, (True, 0, False), (False, 0, False), (True, 0, True))
    for cut in (None if way is None else _Cut(space, a, b, *way) for way in ways):
        try:
            found_at = _sums(space, a, b) if cut is None else cut.variables()
            variables = sorted(found_at, key=_size, reverse=True)
            sizes = [_size(column) for column in variables]
            if not 0 < math.prod(sizes) <= (AT_ONCE if cut is None else MOST):
                continue  # of no values nothing is shown
            wrong = _first_difference(space, a, b, variables, sizes)
        except TooMany:
            continue
        if wrong is None:
            return {}
        if all(isinstance(n, int) and space.atoms[n].kind == "leaf" for column in variables for n in column):
            found = {one.args[0]: one.lo for one in space.atoms if one.kind == "leaf"}
            for column, at in zip(variables, wrong, strict=True):
                found |= {space.atoms[n].args[0]: int(values[at]) for n, values in column.items() if isinstance(n, int)}
            return found
    return None


def _size(column: Column) -> int:
    return len(next(iter(column.values())))


def _first_difference(
    space: Space, a: Form, b: Form, variables: list[Column], sizes: list[int]
) -> tuple[int, ...] | None:
    """The place of a value of each variable for which forms differ. Some values of the first variable at a time."""
    placed = [
        {atom: values.reshape([-1 if i == axis else 1 for i in range(len(sizes))]) for atom, values in column.items()}
        for axis, column in enumerate(variables)
    ]
    trial = Trial(space, {atom: values for column in placed[1:] for atom, values in column.items()}, placed[0])
    step = max(1, AT_ONCE // math.prod(sizes[1:]))
    for start in range(0, sizes[0], step):
        trial.begin({atom: values[start : start + step] for atom, values in placed[0].items()})
        differ = trial.form(a) != trial.form(b)
        if differ.any():
            at = [int(i) for i in np.argwhere(differ)[0]]
            return at[0] + start, *at[1:]
    return None


def _sums(space: Space, a: Form, b: Form) -> Iterator[Column]:
    """The sums of leaves that the two forms are made of."""
    forms = [a, b]
    for atom in inner_atoms(space, a, b):
        one = space.atoms[atom]
        if one.kind in ("table", "product"):
            forms += [space.form(0, {part: 1}) for part in parts(space, atom)]
        elif one.kind != "leaf":
            forms += [
                space.forms[number] for number in (one.args if one.kind in ("largest", "choice") else one.args[:1])
            ]
    for total in {primitive(space, form)[0] for form in forms} - {()}:
        ends = [sorted((c * space.atoms[leaf].lo, c * space.atoms[leaf].hi)) for leaf, c in total]
        lo, hi = sum(lo for lo, _ in ends), sum(hi for _, hi in ends)
        if hi - lo >= AT_ONCE:
            raise TooMany
        yield {total: np.arange(lo, hi + 1, dtype=np.int64)}


class _Cut:
    """Where two forms are cut.

    lowest: at tables that read no other table. behind: but at inputs, if these are few. beside: and at bits and signs
    of the sums that tables read.
    """

    def __init__(self, space: Space, a: Form, b: Form, lowest: bool, behind: int, beside: bool):
        self.space, self.lowest, self.behind, self.beside = space, lowest, behind, beside
        self._known: dict[int, bool] = {}
        self.forms = a, b

    def variables(self) -> Iterator[Column]:
        """What the two forms are made of: leaves, and tables that share bits."""
        atoms = self.space.atoms
        cut = {bit for table in self._reached(set()) if self._opaque(table) for bit in atoms[table].args[0]}
        if self.beside:
            sums = {self._base(bit) for bit in cut} - {None}
            single = [atom for atom in self._reached(cut) if atoms[atom].hi - atoms[atom].lo == 1]
            cut |= {atom for atom in single if self._base(atom) in sums}
        groups: list[tuple[set[int], set[int], set[frozenset]]] = []  # bits, what is read of them, and what they are of
        for atom in self._reached(cut):
            one = atoms[atom]
            if atom in cut or self._opaque(atom):
                bits, read = ({atom} if atom in cut else set(one.args[0])), {atom}
                bases = {base for bit in bits if (base := self._base(bit)) is not None}
                for group in [group for group in groups if group[0] & bits or group[2] & bases]:
                    groups.remove(group)
                    bits, read, bases = bits | group[0], read | group[1], bases | group[2]
                groups.append((bits, read, bases))
            elif one.kind == "leaf":
                if one.hi - one.lo >= MOST:
                    raise TooMany
                yield {atom: np.arange(one.lo, one.hi + 1, dtype=np.int64)}
        for bits, read, _ in groups:
            yield _together(self.space, sorted(bits), sorted(read))

    def _opaque(self, atom: int) -> bool:
        """Whether an atom is a table of so many inputs that its own values are tried."""
        if self.space.atoms[atom].kind != "table":
            return False
        if atom not in self._known:
            inner = [self.space.atoms[n] for n in inner_atoms(self.space, self.space.form(0, {atom: 1}))]
            values = math.prod(one.hi - one.lo + 1 for one in inner if one.kind == "leaf")
            tables = sum(one.kind == "table" for one in inner)
            self._known[atom] = values > self.behind and not (self.lowest and tables > 1)
        return self._known[atom]

    def _base(self, bit: int) -> frozenset | None:
        """The terms of the sum that a bit is of, with either sign."""
        one = self.space.atoms[bit]
        if one.kind not in ("window", "negative"):
            return None
        terms = self.space.forms[one.args[0]].terms
        turn = -1 if terms[min(terms)] < 0 else 1
        return frozenset((atom, c * turn) for atom, c in terms.items())

    def _reached(self, cut: set[int]) -> list[int]:
        """Atoms down to leaves, tables of many inputs, and those of `cut`."""
        todo = [atom for form in self.forms for atom in form.terms]
        found = dict.fromkeys(todo)
        while todo:
            atom = todo.pop()
            if atom not in cut and not self._opaque(atom):
                new = [part for part in parts(self.space, atom) if part not in found]
                found |= dict.fromkeys(new)
                todo += new
        return list(found)


def _together(space: Space, bits: list[int], read: list[int]) -> Column:
    """The values of tables and bits for each pattern of `bits` that can be, each combination once."""
    if len(bits) > MOST_TOGETHER:
        raise TooMany
    there = possible(space, bits)
    patterns = np.arange(len(there))
    columns = []
    for atom in read:
        one = space.atoms[atom]
        if one.kind == "table" and atom not in bits:
            own, entries = one.args
            index = sum((patterns >> bits.index(bit) & 1) << i for i, bit in enumerate(own))
            if max(abs(one.lo), abs(one.hi)) >> 62:
                raise TooMany
            there &= np.array([e is not None for e in entries])[index]
            columns.append(np.array([e or 0 for e in entries], np.int64)[index])
        else:
            columns.append((patterns >> bits.index(atom) & 1) * (-1 if one.lo < 0 else 1))
    values = np.unique(np.stack(columns)[:, there], axis=1)
    return dict(zip(read, values, strict=True))
