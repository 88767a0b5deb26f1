"""Forms made again, atom by atom from the inputs up. What a subclass leaves alone stays the same integer."""

from __future__ import annotations

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.choices import choose, largest, limit
from hgq.verify.proof.forms import Space
from hgq.verify.proof.patterns import possible


class Rewritten:
    """Forms of a space in which some atoms are others."""

    def __init__(self, space: Space):
        self.space = space
        self.made: dict[int, Form] = {}

    def form(self, form: Form) -> Form:
        """The form, made again."""
        return self.space.sum([(self.atom(atom), c) for atom, c in form.terms.items()], form.const)

    def atom(self, atom: int) -> Form:
        """What takes the place of an atom."""
        if atom not in self.made:
            self.made[atom] = self._again(atom)
        return self.made[atom]

    def numbered(self, number: int) -> Form:
        """A form by its number, made again."""
        return self.form(self.space.forms[number])

    def _again(self, atom: int) -> Form:
        space, one = self.space, self.space.atoms[atom]
        if one.kind == "window":
            number, a, n = one.args
            return self.window(self.numbered(number), a, n)
        if one.kind == "negative":
            return self.negative(one.args[0])
        if one.kind == "limit":
            return self.limit(*one.args)
        if one.kind == "largest":
            return largest(space, [self.numbered(number) for number in one.args])
        if one.kind == "choice":
            return choose(space, *(self.numbered(number) for number in one.args))
        if one.kind == "product":
            result = space.constant(1)
            for factor in one.args:
                result = space.times(result, self.atom(factor))
            return result
        if one.kind == "table":
            return self.table(atom)
        return Form(0, {atom: 1}, one.lo, one.hi)

    def window(self, form: Form, a: int, n: int | None) -> Form:
        return self.space.window(form, a, n)

    def negative(self, number: int) -> Form:
        return self.space.negative(self.numbered(number))

    def limit(self, number: int, most: int | None) -> Form:
        return limit(self.space, self.numbered(number), most)

    def table(self, atom: int) -> Form:
        """A table of the same entries; the old one where what it reads are no single bits any more."""
        one = self.space.atoms[atom]
        old, entries = one.args
        made = [self.atom(bit) for bit in old]
        inner = [self.space.atoms[bit] for form in made for bit in form.terms]
        wide = any(bit.hi - bit.lo > 1 for bit in inner)
        if wide or any(len(form.terms) > 1 or form.lo < -1 or form.hi > 1 or form.hi - form.lo > 1 for form in made):
            return Form(0, {atom: 1}, one.lo, one.hi)
        bits = sorted({bit for form in made for bit in form.terms})
        at = np.arange(1 << len(bits))
        index = sum(
            (((at >> bits.index(next(iter(form.terms))) & 1) if form.terms else 0) ^ int(form.const != 0)) << i
            for i, form in enumerate(made)  # other than 0 counts as 1
        )
        column = [entries[i] for i in (index + 0 * at).tolist()]
        return self.entered(bits, column) if any(e is not None for e in column) else Form(0, {atom: 1}, one.lo, one.hi)

    def entered(self, bits: list[int], entries: list[int | None]) -> Form:
        return self.space.table(tuple(bits), entries)


class Possible(Rewritten):
    """Tables without the entries that the bits of one sum never spell, and what is made of these tables."""

    def entered(self, bits: list[int], entries: list[int | None]) -> Form:
        there = possible(self.space, bits).tolist()
        kept = [e if can else None for e, can in zip(entries, there, strict=True)]
        return self.space.table(tuple(bits), kept if any(e is not None for e in kept) else entries)
