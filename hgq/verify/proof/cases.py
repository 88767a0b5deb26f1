"""Two forms are the same if they are so where a number is negative and where it is not: asked only where no rule helps.

An adder that adds the low bits of a sum outside of the product with its own sign has no other rule.
"""

from __future__ import annotations

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.choices import limit
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms
from hgq.verify.proof.rewritten import Rewritten

DEPTH = 2
"""Signs that are assumed at a time."""
MOST_SIGNS = 8
"""More in two forms: no case is tried."""


def same_by_cases(space: Space, a: Form, b: Form, depth: int = DEPTH) -> bool:
    """Whether two forms are the same integer in both cases of one sign, and there perhaps of another.

    Raises:
        Exhausted: it takes too many steps.
    """
    signs = [n for n in sorted(inner_atoms(space, a) | inner_atoms(space, b)) if space.atoms[n].kind == "negative"]
    if not depth or len(signs) > MOST_SIGNS:
        return False
    for sign in signs:
        for value in (1, 0):
            case = _Case(space, sign, value)
            one, other = case.form(a), case.form(b)
            if not space.same(one, other) and not same_by_cases(space, one, other, depth - 1):
                break
        else:
            return True
    return False


class _Case(Rewritten):
    """Forms as they are where a sign has a value."""

    def __init__(self, space: Space, sign: int, value: int):
        super().__init__(space)
        self.value = value
        self.judged = space.forms[space.atoms[sign].args[0]]
        self.made[sign] = space.constant(value)

    def window(self, form: Form, a: int, n: int | None) -> Form:
        if n is not None and not self.value and form.hi >> a < 1 << n and self._follows(form):
            n = None  # it is not negative here: nothing is cut off
        return super().window(form, a, n)

    def negative(self, number: int) -> Form:
        return self.space.constant(self.value) if self._follows(self.space.forms[number]) else super().negative(number)

    def limit(self, number: int, most: int | None) -> Form:
        if not self._follows(self.space.forms[number]):
            return super().limit(number, most)
        if self.value:
            return self.space.constant(0)
        inner = self.numbered(number)  # min(x, m) = m - max(m - x, 0)
        return (
            inner
            if most is None
            else self.space.scale(limit(self.space, self.space.scale(inner, -1, most), None), -1, most)
        )

    def _follows(self, form: Form) -> bool:
        """Whether a form is negative where the one of the case is: k * x + r for r in 0 .. k - 1."""
        judged = self.judged
        ratios = {form.terms[atom] // c for atom, c in judged.terms.items() if atom in form.terms}
        for by in sorted(ratio for ratio in ratios if ratio > 0):
            rest = self.space.add(form, judged, -by)
            if rest.lo >= 0 and rest.hi < by:
                return True
        return False
