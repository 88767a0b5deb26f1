"""Integers as linear forms over atoms, in a normal form: equal forms are equal integers, whatever the inputs are.

A form is ``const + sum(coefficient * atom)``. Atoms are the inputs of a module, and what is not linear in them: windows
of bits, signs, limits, largest ones, products, tables. Every rule that makes or joins atoms is an identity on integers;
a rule that is missing makes equal integers look different, never the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hgq.verify.proof.atoms import Atom, Exhausted, Form
from hgq.verify.proof.choices import limit, negative
from hgq.verify.proof.identity import Identity
from hgq.verify.proof.tables import table
from hgq.verify.proof.windows import window

STEPS = 50000
"""Windows that the answer to one question (a cell, an expected element) may take."""


class Space:
    """The atoms and forms of one module."""

    def __init__(self) -> None:
        self.steps = STEPS
        self.atoms: list[Atom] = []
        self.forms: list[Form] = []
        self._atom_of: dict[tuple, int] = {}
        self._form_of: dict[tuple, int] = {}
        self._identity = Identity(self.atoms, self.forms)
        self._windows: dict[tuple, Form] = {}  # of sums, for the question at hand
        self._fragments: set[int] = set()  # atoms that may join with others: windows, products, tables, signs

    def begin(self) -> None:
        """A new question, which has `STEPS` steps of its own."""
        self.steps = STEPS
        self._windows.clear()

    def atom(self, kind: str, args: tuple, lo: int, hi: int) -> Form:
        """The form of an atom, made once."""
        if lo == hi:
            return self.constant(lo)
        number = self._atom_of.get((kind, args))
        if number is None:
            number = self._atom_of[kind, args] = len(self.atoms)
            self.atoms.append(Atom(kind, args, lo, hi))
            if kind in ("window", "product", "table", "negative"):
                self._fragments.add(number)
        known = self.atoms[number]
        return Form(0, {number: 1}, known.lo, known.hi)

    def leaf(self, number: int, lo: int, hi: int) -> Form:
        return self.atom("leaf", (number, lo, hi), lo, hi)

    def constant(self, value: int) -> Form:
        return Form(value, {}, value, value)

    def number(self, form: Form) -> int:
        """The number of a form, the same for those that are the same integer."""
        plain = (form.const, *sorted(form.terms.items()))
        found = self._form_of.get(plain)
        if found is None:
            key = self._identity.of(form)
            found = self._form_of.get(key)
            if found is None:
                found = self._form_of[key] = len(self.forms)
                self.forms.append(form)
            self._form_of[plain] = found
        return found

    def same(self, a: Form, b: Form) -> bool:
        """Whether two forms are the same integer by the rules; if not, they may still be."""
        return a == b or self._identity.of(self.add(a, b, -1)) == (0, ())

    def form(self, const: int, terms: dict[int, int]) -> Form:
        """The normal form of a sum; takes `terms` over, which hold no coefficient 0."""
        if len(terms) > 1 and not self._fragments.isdisjoint(terms):
            const, terms = self._joined(const, terms)
        lo = hi = const
        atoms = self.atoms
        for atom, c in terms.items():
            one = atoms[atom]
            if c > 0:
                lo += c * one.lo
                hi += c * one.hi
            else:
                lo += c * one.hi
                hi += c * one.lo
        return Form(const, terms, lo, hi)

    def scale(self, form: Form, by: int, plus: int = 0) -> Form:
        """``form * by + plus``."""
        if by == 1:
            return Form(form.const + plus, form.terms, form.lo + plus, form.hi + plus) if plus else form
        if by == 0:
            return self.constant(plus)
        ends = form.lo * by + plus, form.hi * by + plus
        return Form(form.const * by + plus, {a: c * by for a, c in form.terms.items()}, min(ends), max(ends))

    def add(self, a: Form, b: Form, by: int = 1) -> Form:
        """``a + by * b``."""
        if not b.terms:
            return self.scale(a, 1, by * b.const)
        if not a.terms:
            return self.scale(b, by, a.const)
        terms = dict(a.terms)
        for atom, c in b.terms.items():
            total = terms.get(atom, 0) + by * c
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        return self.form(a.const + by * b.const, terms)

    def sum(self, parts: Iterable[tuple[Form, int]], const: int = 0) -> Form:
        """``sum(form * coefficient) + const``."""
        terms: dict[int, int] = {}
        for form, by in parts:
            const += by * form.const
            for atom, c in form.terms.items():
                terms[atom] = terms.get(atom, 0) + by * c
        return self.form(const, {atom: c for atom, c in terms.items() if c})

    def times(self, a: Form, b: Form) -> Form:
        """The product, multiplied out."""
        if not a.terms or not b.terms:
            return self.scale(b, a.const) if not a.terms else self.scale(a, b.const)
        parts = [(a, b.const), (self._linear(b), a.const)]
        parts += [(self._product(x, y), c * d) for x, c in a.terms.items() for y, d in b.terms.items()]
        return self.sum(parts)

    def _linear(self, form: Form) -> Form:
        return self.scale(form, 1, -form.const)

    def _product(self, x: int, y: int) -> Form:
        factors = sorted(self._factors(x) + self._factors(y))
        by = 1
        kept: list[int] = []
        for factor in factors:
            one = self.atoms[factor]
            if kept and kept[-1] == factor and one.hi - one.lo == 1 and one.lo in (0, -1):
                by *= 1 if one.lo == 0 else -1  # 0 and 1 are their own squares
            else:
                kept.append(factor)
        if len(kept) == 1:
            one = self.atoms[kept[0]]
            return self.scale(Form(0, {kept[0]: 1}, one.lo, one.hi), by)
        lo = hi = 1
        for factor in dict.fromkeys(kept):
            ends = (self.atoms[factor].lo, self.atoms[factor].hi)
            power = kept.count(factor)
            corners = [e**power for e in ends] + ([0] if ends[0] < 0 < ends[1] else [])
            both = [p * q for p in (lo, hi) for q in (min(corners), max(corners))]
            lo, hi = min(both), max(both)
        return self.scale(self.atom("product", tuple(kept), lo, hi), by)

    def _factors(self, atom: int) -> list[int]:
        one = self.atoms[atom]
        return list(one.args) if one.kind == "product" else [atom]

    # Joining: 4 * x[2] + 2 * x[1] + x[0] is x, and so is what products and tables hold of it.

    def _joined(self, const: int, terms: dict[int, int]) -> tuple[int, dict[int, int]]:
        for _ in range(8):
            before = const, terms
            const, terms = self._join_windows(const, terms)
            const, terms = self._join_neighbours(const, terms)
            const, terms = self._join_products(const, terms)
            const, terms = self._join_tables(const, terms)
            if (const, terms) == before:
                break
        return const, terms

    def _join_windows(self, const: int, terms: dict[int, int]) -> tuple[int, dict[int, int]]:
        groups: dict[int, list[int]] = {}
        for atom in terms:
            one = self.atoms[atom]
            if one.kind == "window":
                groups.setdefault(one.args[0], []).append(atom)
        for number, members in groups.items():
            base = self.forms[number]
            whole = base.single
            present = list(members)
            sign: Form | None = None
            if whole is not None and whole in terms:
                present.append(whole)
            if whole is None or self.atoms[whole].kind == "limit":  # its highest bit may go by another name
                sign = self.scale(self.window(base, base.width - 1, None), -1 if base.lo < 0 else 1)
                if abs(sign.only) == 1 and next(iter(sign.terms)) in terms:
                    present += [] if next(iter(sign.terms)) in present else [next(iter(sign.terms))]
                else:
                    sign = None
            if len(present) > 1:
                made = self._bits_joined(base, {atom: terms[atom] for atom in present}, whole, sign)
                if made is not None:
                    rest = {atom: c for atom, c in terms.items() if atom not in present}
                    const, terms = self._plain_sum(const, rest, made)
        return const, terms

    def _join_neighbours(self, const: int, terms: dict[int, int]) -> tuple[int, dict[int, int]]:
        """Low bits of one form and higher bits of another, which only looks different: each is as short as can be."""
        below: dict[int, list[int]] = {}  # by the coefficient of what is to lie above
        for atom, c in terms.items():
            one = self.atoms[atom]
            if one.kind == "window" and one.args[2] is not None:
                below.setdefault(c << one.args[2], []).append(atom)
        for high, d in terms.items():
            one = self.atoms[high]
            if d not in below or one.kind != "window" or self.forms[one.args[0]].single is not None:
                continue
            number, a, m = one.args
            base = self.forms[number]
            for low in below[d]:
                n = self.atoms[low].args[2]
                if low != high and a >= n and self.window(base, a - n, n).single == low:
                    rest = {atom: e for atom, e in terms.items() if atom not in (low, high)}
                    whole = self.window(base, a - n, None if m is None else n + m)
                    return self._plain_sum(const, rest, [(whole, terms[low])])
        return const, terms

    @staticmethod
    def _plain_sum(const: int, terms: dict[int, int], parts: list[tuple[Form, int]]) -> tuple[int, dict[int, int]]:
        for form, by in parts:
            const += by * form.const
            for atom, c in form.terms.items():
                terms[atom] = terms.get(atom, 0) + by * c
        return const, {atom: c for atom, c in terms.items() if c}

    def _bits_joined(
        self, base: Form, members: dict[int, int], whole: int | None, sign: Form | None
    ) -> list[tuple[Form, int]] | None:
        """Windows of one form as the fewest windows; None if that changes nothing."""
        width, signed = base.width, base.lo < 0
        bits = [0] * width
        extra = 0
        for atom, c in members.items():
            if sign is not None and atom in sign.terms:
                # sign = s0 + s1 * atom, so c * atom = c * s1 * (sign - s0)
                bits[-1] += c * sign.only
                extra -= c * sign.only * sign.const
                continue
            _, a, n = (0, 0, None) if atom == whole else self.atoms[atom].args
            end = width if n is None else a + n
            for j in range(a, end):
                weight = c << j - a
                bits[j] += -weight if n is None and signed and j == width - 1 else weight
        runs: list[tuple[int, int | None, int]] = []
        j = 0
        while j < width:
            c = bits[j]
            if not c:
                j += 1
                continue
            if signed and j == width - 1:
                runs.append((j, None, -c))
                break
            end = j + 1
            while end < width - signed and bits[end] == c << end - j:
                end += 1
            top: int | None = end - j
            if end == width - 1 and signed and bits[end] in (c << end - j, -(c << end - j)):
                top = None if bits[end] != c << end - j else end + 1 - j
                end += 1
            elif end == width and not signed:
                top = None
            runs.append((j, top, c))
            j = end
        made = [(self.window(base, a, n), c) for a, n, c in runs]
        if extra:
            made.append((self.constant(extra), 1))
        const, terms = self._plain_sum(0, {}, made)
        return None if not const and terms == members else made

    def _join_products(self, const: int, terms: dict[int, int]) -> tuple[int, dict[int, int]]:
        products = [atom for atom in terms if self.atoms[atom].kind == "product"]
        if len(products) < 2:
            return const, terms
        groups: dict[tuple[int, ...], dict[int, int]] = {}
        for atom in products:
            factors = self.atoms[atom].args
            for place in range(len(factors)):
                rest = factors[:place] + factors[place + 1 :]
                if factors[place] in self._fragments:
                    groups.setdefault(rest, {})[factors[place]] = atom
        for rest, members in groups.items():
            if len(members) < 2 or any(atom not in terms for atom in members.values()):
                continue
            # The plain factor too: x * y beside x[0] * y.
            for atom in products:
                left_over = list(self.atoms[atom].args)
                if atom in terms and Counter(rest) <= Counter(left_over):
                    for r in rest:
                        left_over.remove(r)
                    if len(left_over) == 1:
                        members.setdefault(left_over[0], atom)
            inner = {factor: terms[atom] for factor, atom in members.items()}
            joined = self._join_windows(0, dict(inner))
            if joined != (0, inner):
                left = {atom: c for atom, c in terms.items() if atom not in members.values()}
                other = self._atoms_product(rest)
                made = [(self.times(self.form(0, {factor: 1}), other), c) for factor, c in joined[1].items()]
                const, terms = self._plain_sum(const, left, [*made, (other, joined[0])])
        return const, terms

    def _atoms_product(self, atoms: tuple[int, ...]) -> Form:
        result = self.constant(1)
        for atom in atoms:
            result = self.times(result, self.form(0, {atom: 1}))
        return result

    def _join_tables(self, const: int, terms: dict[int, int]) -> tuple[int, dict[int, int]]:
        groups: dict[tuple, list[int]] = {}
        for atom in terms:
            if self.atoms[atom].kind == "table":
                groups.setdefault(self.atoms[atom].args[0], []).append(atom)
        for bits, members in groups.items():
            if len(members) > 1:
                columns = [(self.atoms[atom].args[1], terms[atom]) for atom in members]
                entries = [
                    None if None in row else sum(e * c for e, (_, c) in zip(row, columns, strict=True))
                    for row in zip(*(column for column, _ in columns), strict=True)
                ]
                rest = {atom: c for atom, c in terms.items() if atom not in members}
                const, terms = self._plain_sum(const, rest, [(self.table(bits, entries), 1)])
        return const, terms

    def parted(self, form: Form) -> bool:
        """Whether the form holds bits of a number apart from other bits of it."""
        if self._fragments.isdisjoint(form.terms):
            return False
        bases = [self.atoms[atom].args[0] for atom in form.terms if self.atoms[atom].kind == "window"]
        return len(set(bases)) < len(bases)

    # The rules for what is not linear stand in files of their own.

    def window(self, form: Form, a: int, n: int | None) -> Form:
        """Bits ``a .. a + n - 1`` of two's complement as a positive number; n None: ``form >> a``."""
        key = form.const, form.lo, form.hi, a, n, *form.terms.items()
        found = self._windows.get(key)
        if found is None:
            self.steps -= 1
            if self.steps < 0:
                raise Exhausted
            found = self._windows[key] = window(self, form, a, n)
        return found

    def negative(self, form: Form) -> Form:
        """1 where the form is below 0, else 0."""
        return negative(self, form)

    def limit(self, form: Form, most: int | None) -> Form:
        """``min(max(form, 0), most)``."""
        return limit(self, form, most)

    def table(self, bits: tuple[int, ...], entries: list) -> Form:
        """The entry that atoms of two values spell."""
        return table(self, bits, entries)
