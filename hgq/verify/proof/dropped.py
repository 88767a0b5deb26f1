"""Windows written without the low bits that they drop: asked only where two forms are not the same otherwise.

A table that differs from a sum in such bits alone has no other rule, as a fault in a table that rounding hides.
"""

from __future__ import annotations

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space


def without_dropped_bits(space: Space, form: Form) -> Form:
    """The same integer, its windows taken of numbers that were shifted down as far as the rules allow."""
    return space.sum([(_shorter(space, atom), c) for atom, c in form.terms.items()], form.const)


def _shorter(space: Space, atom: int) -> Form:
    one = space.atoms[atom]
    if one.kind != "window":
        return Form(0, {atom: 1}, one.lo, one.hi)
    number, a, n = one.args
    base = space.forms[number]
    if base.single is None or space.atoms[base.single].kind != "limit" or space.atoms[base.single].args[1] is not None:
        shifted, left = _shifted(space, base, a)
    else:  # relu(x) >> k = relu(x >> k)
        shifted, left = _shifted(space, space.forms[space.atoms[base.single].args[0]], a)
        shifted = space.limit(shifted, None)
    return space.window(shifted, left, n)


def _shifted(space: Space, form: Form, most: int) -> tuple[Form, int]:
    """(g, j) with form >> `most` = g >> j: bit after bit goes, as long as one term at most is odd."""
    for left in range(most, 0, -1):
        odd = [atom for atom, c in form.terms.items() if c % 2]
        if len(odd) > 1:
            return form, left
        # floor((2 g + h) / 2) = g + floor(h / 2)
        even = {atom: c >> 1 for atom, c in form.terms.items() if not c % 2}
        whole = space.form(form.const >> 1, even)
        form = space.add(whole, _half(space, odd[0], form.terms[odd[0]], form.const % 2)) if odd else whole
    return form, 0


def _half(space: Space, atom: int, c: int, const: int) -> Form:
    """``(c * atom + const) >> 1`` for an odd c."""
    one = space.atoms[atom]
    if one.kind == "table":
        bits, entries = one.args
        return space.table(bits, [None if e is None else c * e + const >> 1 for e in entries])
    alone = Form(0, {atom: 1}, one.lo, one.hi)
    return space.sum([(space.window(space.scale(alone, 1, const), 1, None), 1), (alone, c >> 1)])
