"""When two forms are the same integer: sums of functions of single inputs, and shifts of such sums.

As identity.py, but all that reads one input of few values is what it is for each of these values, whatever it is made
of: a table, a window, a product. So sums become the same whose operands are rounded one by one, as tables on one side
and as windows on the other, also where they stand inside of windows: all inputs together have too many values to try,
one has a thousand. Of a function, a shift by a keeps what it is modulo ``2**a`` (`Function.near`) and lets the rest out; and a window of n bits at
a asks only for what the sum is modulo ``2**(a + n)``, so that a table of several inputs may be a sum of functions of
them modulo that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.one_input import OneInput
from hgq.verify.proof.totals import WIDEST, Function, Sum, Total, function
from hgq.verify.proof.trial import TooMany


@dataclass(frozen=True, slots=True)
class Part:
    """What is no sum of functions of single inputs, in ``lo..hi``. key: what it is, with parts and sums by number.

    shift: (s, a) where it is ``s >> a``. limit: (s, m) where it is ``min(max(s, 0), m)``, without m if that is None.
    inside: what a product, a largest one, a choice or a table is made of, in the order of the key.
    """

    key: tuple
    lo: int
    hi: int
    shift: tuple[Total, int] | None = None
    limit: tuple[Total, int | None] | None = None
    inside: tuple[Total, ...] = ()


class Functions:
    """Unique names of the forms of a space, as sums of functions of its leaves."""

    def __init__(self, space: Space):
        self.space = space
        self.inputs = OneInput(space)
        self.parts: list[Part] = []
        self._functions: dict[bytes, Function] = {}
        self._part_of: dict[tuple, int] = {}
        self._number_of: dict[tuple, int] = {}
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

    def _numbered(self, number: int, size: int = 0) -> Total:
        if (number, size) not in self._forms:
            self._forms[number, size] = self.total(self.space.forms[number], size)
        return self._forms[number, size]

    def _atom(self, atom: int, size: int) -> Total:
        """What an atom is; modulo `size`, unless that is 0, which makes a difference for tables."""
        key = atom, size if self.space.atoms[atom].kind == "table" else 0
        if key not in self._atoms:
            self.space.steps -= 1
            if self.space.steps < 0:
                raise Exhausted
            leaf = self.inputs.of(atom)
            self._atoms[key] = self._made(*key) if leaf is None else self._function(leaf, atom)
        return self._atoms[key]

    def _function(self, leaf: int, atom: int) -> Total:
        one, found = self.space.atoms[atom], Sum()
        try:
            values = self.inputs.values(Form(0, {atom: 1}, one.lo, one.hi), leaf)
        except TooMany:
            raise Exhausted from None
        self._tabulated(found, leaf, values)
        return found.total()

    def _tabulated(self, to: Sum, leaf: int, values: np.ndarray) -> None:
        """Adds what is known for each value of a leaf."""
        if int(np.abs(values).max()) >> WIDEST - 1:
            raise Exhausted
        to.const += int(values[0])
        to.function(leaf, function(values - values[0], self._functions))

    def _made(self, atom: int, size: int) -> Total:
        one, found = self.space.atoms[atom], Sum()
        if one.kind == "window":
            number, a, n = one.args
            inner = self._numbered(number, 0 if n is None else 1 << a + n)
            self._add_shift(found, inner, a, 1)
            if n is not None:
                self._add_shift(found, inner, a + n, -1 << n)
        elif one.kind == "negative":
            inner = self._numbered(one.args[0])
            self._add_shift(found, inner, self._reach(inner), -1)
        elif one.kind == "limit":
            found.add(self._limited(self._numbered(one.args[0]), one.args[1]))
        elif one.kind == "table":
            return self._separated(atom, size) or self._table(atom)
        elif one.kind == "leaf":
            found.part(self._part(("leaf", atom), one.lo, one.hi), 1)
        else:
            inside = [self._atom(n, 0) if one.kind == "product" else self._numbered(n) for n in one.args]
            if one.kind != "choice":
                inside.sort(key=self._number)
            key = one.kind, *map(self._number, inside)
            found.part(self._part(key, one.lo, one.hi, inside=tuple(inside)), 1)
        return found.total()

    def _part(self, key: tuple, lo: int, hi: int, **made: tuple) -> int:
        if key not in self._part_of:
            self._part_of[key] = len(self.parts)
            self.parts.append(Part(key, lo, hi, **made))
        return self._part_of[key]

    def _number(self, total: Total) -> int:
        return self._number_of.setdefault(total.key, len(self._number_of))

    def bounds(self, total: Total) -> tuple[int, int]:
        lo = hi = total.const
        for one in total.functions.values():
            lo, hi = lo + one.lo, hi + one.hi
        for part, c in total.parts.items():
            ends = c * self.parts[part].lo, c * self.parts[part].hi
            lo, hi = lo + min(ends), hi + max(ends)
        return lo, hi

    def _reach(self, total: Total) -> int:
        """The least a with the sum in ``-2**a .. 2**a - 1``: what lies above is its sign."""
        lo, hi = self.bounds(total)
        return max((~lo if lo < 0 else lo).bit_length(), (~hi if hi < 0 else hi).bit_length())

    # Shifts.

    def _add_shift(self, to: Sum, total: Total, a: int, c: int) -> None:
        """Adds ``c * (total >> a)``."""
        self.space.steps -= 1
        if self.space.steps < 0:
            raise Exhausted
        if a == 0:
            to.add(total, c)
            return
        if self._add_known(to, total, a, c):
            return
        size = 1 << a
        rest = Sum(total.const % size)
        to.const += c * (total.const >> a)
        for leaf, one in total.functions.items():
            near, over = one.near(a)
            rest.function(leaf, near)
            to.function(leaf, over, c)
        for part, e in total.parts.items():
            left = (e + size // 2 - 1) % size - size // 2 + 1
            if left:
                rest.parts[part] = left
            if e != left:
                to.part(part, c * (e - left >> a))
        self._add_rest(to, rest.total(), a, c)

    def _add_known(self, to: Sum, total: Total, a: int, c: int) -> bool:
        """As `_add_shift` where the bounds tell, or that a shift by less is enough; False where they do not."""
        lo, hi = self.bounds(total)
        if lo >> a == hi >> a:
            to.const += c * (lo >> a)
            return True
        if hi >> a == (lo >> a) + 1:  # one of two: a sign
            top = hi >> a
            moved = Total(total.const - (top << a), total.functions, total.parts)
            reach = self._reach(moved)
            if reach < a:
                to.const += c * top
                self._add_shift(to, moved, reach, c)
                return True
        return False

    def _add_rest(self, to: Sum, total: Total, a: int, c: int) -> None:
        """As `_add_shift`, of what is left of a sum modulo ``2**a``."""
        if self._add_known(to, total, a, c):
            return
        low = min(total.low_zeros(), a)
        if low:
            less = Sum(total.const >> low)
            for leaf, one in total.functions.items():
                less.function(leaf, one.other(one.values >> low))
            less.parts = {part: e >> low for part, e in total.parts.items()}
            self._add_shift(to, less.total(), a - low, c)
            return
        leaves, odd = total.odd()
        if len(leaves) == 1 and not odd:  # floor((2 g + f) / 2) = g + floor(f / 2)
            half = Sum(total.const >> 1)
            for leaf, one in total.functions.items():
                values = one.values + (total.const & 1 if leaf == leaves[0] else 0)
                half.function(leaf, one.other(values >> 1))
            half.parts = {part: e >> 1 for part, e in total.parts.items()}
            self._add_shift(to, half.total(), a - 1, c)
            return
        inner = [part for part, e in total.parts.items() if e in (1, -1) and self.parts[part].shift]
        if len(inner) == 1:  # r + (f >> k) = (2**k * r + f) >> k
            if total.parts[inner[0]] < 0:
                self._add_negated(to, total, a, c)
                return
            f, k = self.parts[inner[0]].shift or (total, 0)
            joined = Sum()
            joined.add(total, 1 << k)
            joined.part(inner[0], -1 << k)
            joined.add(f)
            self._add_shift(to, joined.total(), a + k, c)
            return
        alone = total.alone()
        if alone is not None and self.parts[alone[0]].limit and alone[1] in (1, -1):
            if alone[1] < 0:
                self._add_negated(to, total, a, c)
                return
            # (clamp(x, 0, m) + c) >> a = clamp((x + c) >> a, c >> a, (m + c) >> a): what never falls changes places
            x, most = self.parts[alone[0]].limit or (total, None)
            shifted = Sum()
            self._add_shift(shifted, Total(x.const + total.const, x.functions, x.parts), a, 1)
            to.add(self._limited(shifted.total(), None if most is None else most + total.const >> a), c)
            return
        if self._mirrored(total, a).key < Total(0, total.functions, total.parts).key:
            self._add_negated(to, total, a, c)
            return
        half = 1 << a - 1
        if total.const >= half:  # Hermite: (h + 2**(a - 1)) >> a  =  (h >> a - 1) - (h >> a)
            total = Total(total.const - half, total.functions, total.parts)
            self._add_shift(to, total, a - 1, c)
            c = -c
        lo, hi = self.bounds(total)
        to.part(self._part(("shift", self._number(total), a), lo >> a, hi >> a, shift=(total, a)), c)

    @staticmethod
    def _mirrored(total: Total, a: int) -> Total:
        """What is left of ``-total`` modulo ``2**a``, but for the constant."""
        found = Sum()
        for leaf, one in total.functions.items():
            found.function(leaf, one.times(-1).near(a)[0])
        found.parts = {part: -e if 2 * e != 1 << a else e for part, e in total.parts.items()}
        return found.total()

    def _add_negated(self, to: Sum, total: Total, a: int, c: int) -> None:
        """As `_add_shift`, by ``x >> a = -((2**a - 1 - x) >> a)``."""
        other = Sum((1 << a) - 1)
        other.add(total, -1)
        self._add_shift(to, other.total(), a, -c)

    def _limited(self, total: Total, most: int | None) -> Total:
        """``min(max(total, 0), most)``; None: no upper limit."""
        lo, hi = self.bounds(total)
        if most is not None and hi <= most:
            most = None
        found = Sum()
        if hi <= 0:
            return found.total()
        if lo < 0:
            key = "limit", self._number(total), most
            found.part(self._part(key, 0, hi if most is None else most, limit=(total, most)), 1)
        elif most is None:
            return total
        else:  # min(x, m) = m - max(m - x, 0)
            above = Sum(most)
            above.add(total, -1)
            found.const = most
            found.add(self._limited(above.total(), None), -1)
        return found.total()

    # Tables of several inputs.

    def _separated(self, atom: int, size: int) -> Total | None:
        """A table as a sum of one for each input that it reads, exactly or modulo `size`; None if it is none."""
        one = self.space.atoms[atom]
        bits, entries = one.args
        groups: dict[int, list[int]] = {}
        if one.hi * len(bits) >> WIDEST:
            return None
        for place, bit in enumerate(bits):
            leaf = self.inputs.of(bit)
            if leaf is None:
                return None
            groups.setdefault(leaf, []).append(place)
        base = next(i for i, entry in enumerate(entries) if entry is not None)
        at = np.arange(len(entries))
        known = np.array([entry is not None for entry in entries])
        values = np.array([entry or 0 for entry in entries], np.int64)
        total, columns = np.full(len(entries), entries[base]), {}
        for leaf, places in groups.items():
            mask = sum(1 << place for place in places)
            alone = at & mask | base & ~mask
            if (known & ~known[alone]).any():
                return None
            total += values[alone] - entries[base]
            columns[leaf] = mask, values - entries[base]
        off = (total - values)[known]
        if (off % size if size else off).any():
            return None
        found = Sum(entries[base])
        for leaf, (mask, column) in columns.items():
            index = base & ~mask | self._spelled(leaf, bits, mask)
            if not known[index].all():
                return None
            self._tabulated(found, leaf, column[index])
        return found.total()

    def _spelled(self, leaf: int, bits: tuple[int, ...], mask: int) -> np.ndarray:
        """The pattern of the bits of `mask` for each value of the leaf that they read."""
        index = np.zeros((), np.int64)
        for place, bit in enumerate(bits):
            if mask >> place & 1:
                one = self.space.atoms[bit]
                values = self.inputs.values(Form(0, {bit: 1}, one.lo, one.hi), leaf)
                index = index + ((values != 0).astype(np.int64) << place)
        return index

    def _table(self, atom: int) -> Total:
        """A table by what its bits are, in the order of their names."""
        one, found = self.space.atoms[atom], Sum()
        bits, entries = one.args
        totals = [self._atom(bit, 0) for bit in bits]
        order = sorted(range(len(bits)), key=lambda place: self._number(totals[place]))
        inside = tuple(totals[place] for place in order)
        at = np.arange(len(entries))
        moved = sum((at >> i & 1) << place for i, place in enumerate(order))
        key = "table", tuple(map(self._number, inside)), tuple(entries[i] for i in np.asarray(moved).tolist())
        found.part(self._part(key, one.lo, one.hi, inside=inside), 1)
        return found.total()
