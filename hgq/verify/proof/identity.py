"""When two forms are the same integer: windows written as differences of shifts, of which fewer are alike by accident.

Bits ``a .. b - 1`` of f are ``(f >> a) - 2**(b - a) * (f >> b)``. A shift by a keeps of each coefficient what ``2**a``
leaves of it. Bounds play no part here, so that what is good for bounds (the windows themselves) need not be unique.
"""

from __future__ import annotations

from dataclasses import dataclass

from hgq.verify.proof.atoms import Atom, Form

Shifts = tuple[int, tuple[tuple[int, int], ...]]
"""A constant, and coefficients by atom in ascending order; negative numbers are shifts."""


@dataclass(slots=True)
class _Sum:
    const: int
    parts: dict[int, int]

    def add(self, part: int, c: int) -> None:
        total = self.parts.get(part, 0) + c
        if total:
            self.parts[part] = total
        else:
            self.parts.pop(part, None)

    def frozen(self) -> Shifts:
        return self.const, tuple(sorted(self.parts.items()))


class Identity:
    """Unique names of forms. atoms, forms: those of the space, which grow."""

    def __init__(self, atoms: list[Atom], forms: list[Form]):
        self._atoms, self._forms = atoms, forms
        self._number: dict[tuple[Shifts, int], int] = {}
        self._shift: dict[int, tuple[Shifts, int]] = {}
        self._whole: dict[int, Shifts] = {}

    def of(self, form: Form) -> Shifts:
        """Equal for forms that are the same integer by these rules."""
        found = _Sum(form.const, {})
        for atom, c in form.terms.items():
            self._add_atom(found, atom, c)
        return found.frozen()

    def _add_atom(self, to: _Sum, atom: int, c: int) -> None:
        one = self._atoms[atom]
        if one.kind != "window":
            to.add(atom, c)
            return
        number, a, n = one.args
        if number not in self._whole:
            self._whole[number] = self.of(self._forms[number])
        self._add_shift(to, self._whole[number], a, c)
        if n is not None:
            self._add_shift(to, self._whole[number], a + n, -c << n)

    def _add_shift(self, to: _Sum, form: Shifts, a: int, c: int) -> None:
        """Adds ``c * (form >> a)``."""
        const, parts = form
        if a == 0:
            to.const += c * const
            for part, e in parts:
                to.add(part, c * e)
            return
        size, half = 1 << a, 1 << a - 1
        rest: dict[int, int] = {}
        to.const += c * (const >> a)
        const %= size
        for part, e in parts:
            left = (e + half - 1) % size - half + 1
            if left:
                rest[part] = left
            if e != left:
                to.add(part, c * (e - left >> a))
        if not rest:
            return
        low = min((e & -e).bit_length() - 1 for e in rest.values())
        if low:
            const, a = const >> low, a - low
            rest = {part: e >> low for part, e in rest.items()}
            if a == 0:
                raise AssertionError("a coefficient is a multiple of what was taken out")
        shifted = [part for part, e in rest.items() if part < 0 and e == 1]
        if len(shifted) == 1:  # r + (f >> k) = (2**k * r + f) >> k
            (inner, inner_parts), k = self._shift[shifted[0]]
            joined = _Sum((const << k) + inner, {p: e << k for p, e in rest.items() if p != shifted[0]})
            for p, e in inner_parts:
                joined.add(p, e)
            self._add_shift(to, joined.frozen(), a + k, c)
            return
        half = 1 << a - 1
        if const >= half:  # Hermite: (h + 2**(a - 1)) >> a  =  (h >> a - 1) - (h >> a)
            const -= half
            self._add_shift(to, (const, tuple(rest.items())), a - 1, c)
            c = -c
        key = (const, tuple(sorted(rest.items()))), a
        if key not in self._number:
            self._number[key] = -1 - len(self._number)
            self._shift[self._number[key]] = key
        to.add(self._number[key], c)
