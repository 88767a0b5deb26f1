"""When two forms are the same integer: sums of functions of single inputs, and shifts of such sums.

As identity.py, but all that reads one input of few values is what it is for each of these values, whatever it is made
of: a table, a window, a product. So sums become the same whose operands are rounded one by one, as tables on one side
and as windows on the other, also where they stand inside of windows: all inputs together have too many values to try,
one has a thousand. A window of n bits at a asks only for what a sum is modulo ``2**(a + n)``, so that a table of
several inputs may be a sum of functions of them modulo that. One that is none is a function of its bits.
"""

from __future__ import annotations

import numpy as np

from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.one_input import OneInput
from hgq.verify.proof.shifts import Part, Shifts
from hgq.verify.proof.totals import WIDEST, Function, Sum, Total, function
from hgq.verify.proof.trial import TooMany


class Functions:
    """Unique names of the forms of a space, as sums of functions of its leaves.

    tables: what several inputs make together counts as one more input, whose values are the patterns of some bits; by
    ``-1 - leaf`` of these the bits, and which patterns there are.
    """

    def __init__(self, space: Space):
        self.space = space
        self.inputs = OneInput(space)
        self.shifts = Shifts(self._step)
        self.tables: list[tuple[tuple[Total, ...], np.ndarray]] = []
        self._table_of: dict[tuple, int] = {}
        self._functions: dict[bytes, Function] = {}
        self._atoms: dict[tuple[int, int], Total] = {}
        self._forms: dict[tuple[int, int], Total] = {}

    def same(self, a: Form, b: Form) -> bool:
        """Whether two forms are the same integer by these rules.

        Raises:
            Exhausted: numbers are too wide, or it takes too many steps.
        """
        off = self.difference(a, b)
        return not off.const and off.constant

    def difference(self, a: Form, b: Form) -> Total:
        """``a - b``."""
        found = Sum()
        found.add(self.total(a))
        found.add(self.total(b), -1)
        return found.total()

    def total(self, form: Form, size: int = 0) -> Total:
        """The sum that a form is; modulo `size`, a power of two, unless that is 0."""
        found = Sum(form.const)
        for atom, c in form.terms.items():
            found.add(self._atom(atom, size // min(c & -c, size) if size else 0), c)
        return found.total()

    def _step(self) -> None:
        self.space.steps -= 1
        if self.space.steps < 0:
            raise Exhausted

    def _numbered(self, number: int, size: int = 0) -> Total:
        if (number, size) not in self._forms:
            self._forms[number, size] = self.total(self.space.forms[number], size)
        return self._forms[number, size]

    def _atom(self, atom: int, size: int = 0) -> Total:
        """What an atom is; modulo `size`, unless that is 0, which makes a difference for tables."""
        key = atom, size if self.space.atoms[atom].kind == "table" else 0
        if key not in self._atoms:
            self._step()
            leaf = self.inputs.of(atom)
            if leaf is None:
                self._atoms[key] = self._made(*key)
            else:
                found = Sum()
                self._tabulated(found, leaf, self._values(atom, leaf))
                self._atoms[key] = found.total()
        return self._atoms[key]

    def _values(self, atom: int, leaf: int) -> np.ndarray:
        one = self.space.atoms[atom]
        try:
            return self.inputs.values(Form(0, {atom: 1}, one.lo, one.hi), leaf)
        except TooMany:
            raise Exhausted from None

    def _tabulated(self, to: Sum, leaf: int, values: np.ndarray) -> None:
        """Adds what is known for each value of a leaf."""
        if int(np.abs(values).max()) >> WIDEST - 1:
            raise Exhausted
        to.const += int(values[0])
        to.function(leaf, function(values - values[0], self._functions))

    def _made(self, atom: int, size: int) -> Total:
        one, found, shifts = self.space.atoms[atom], Sum(), self.shifts
        if one.kind == "window":
            number, a, n = one.args
            inner = self._numbered(number, 0 if n is None else 1 << a + n)
            shifts.add_shift(found, inner, a, 1)
            if n is not None:
                shifts.add_shift(found, inner, a + n, -1 << n)
        elif one.kind == "negative":
            inner = self._numbered(one.args[0])
            shifts.add_shift(found, inner, shifts.reach(inner), -1)
        elif one.kind == "limit":
            return shifts.limited(self._numbered(one.args[0]), one.args[1])
        elif one.kind == "table":
            return self._separated(atom, size) or self._table(atom)
        elif one.kind == "leaf":
            found.part(shifts.part(Part(("leaf", atom), one.lo, one.hi)), 1)
        else:
            inside = [self._atom(n) if one.kind == "product" else self._numbered(n) for n in one.args]
            if one.kind != "choice":
                inside.sort(key=shifts.number)
            key = one.kind, *map(shifts.number, inside)
            found.part(shifts.part(Part(key, one.lo, one.hi, inside=tuple(inside))), 1)
        return found.total()

    def _table(self, atom: int) -> Total:
        """A table as a function of its bits, in the order of their numbers."""
        bits, entries = self.space.atoms[atom].args
        totals = [self._atom(bit) for bit in bits]
        order = sorted(range(len(bits)), key=lambda place: self.shifts.number(totals[place]))
        at = np.arange(len(entries))
        moved = np.asarray(sum((at >> i & 1) << place for i, place in enumerate(order)))
        column = [entries[i] for i in moved.tolist()]
        there = np.array([entry is not None for entry in column])
        inside = tuple(totals[place] for place in order)
        key = *map(self.shifts.number, inside), there.tobytes()
        if key not in self._table_of:
            self.tables.append((inside, there))
            self._table_of[key] = -len(self.tables)
        values = [entry for entry in column if entry is not None]
        if max(values) >> WIDEST:
            raise Exhausted
        found = Sum()
        self._tabulated(found, self._table_of[key], np.array(values, np.int64))
        return found.total()

    def _separated(self, atom: int, size: int) -> Total | None:
        """A table as a sum of one for each input that it reads, exactly or modulo `size`; None if it is none."""
        one = self.space.atoms[atom]
        bits, entries = one.args
        groups: dict[int, list[int]] = {}
        for place, bit in enumerate(bits):
            leaf = self.inputs.of(bit)
            if leaf is None:
                return None
            groups.setdefault(leaf, []).append(place)
        if one.hi * len(bits) >> WIDEST or size >> WIDEST:
            return None
        base = next(i for i, entry in enumerate(entries) if entry is not None)
        at = np.arange(len(entries))
        known = np.array([entry is not None for entry in entries])
        values = np.array([entry or 0 for entry in entries], np.int64)
        total, patterns = np.full(len(entries), entries[base]), {}
        for leaf, places in groups.items():
            mask = sum(1 << place for place in places)
            alone = at & mask | base & ~mask
            patterns[leaf] = base & ~mask | self._spelled(leaf, bits, places)
            total += values[alone] - entries[base]
        off = (total - values)[known]  # where there is no entry, any number is as good
        if (off % size if size else off).any():
            return None
        found = Sum(entries[base])
        for leaf, index in patterns.items():
            self._tabulated(found, leaf, values[index] - entries[base])
        return found.total()

    def _spelled(self, leaf: int, bits: tuple[int, ...], places: list[int]) -> np.ndarray:
        """What the bits of a table at these places spell, for each value of the leaf that they read."""
        return np.sum([(self._values(bits[n], leaf) != 0).astype(np.int64) << n for n in places], axis=0)
