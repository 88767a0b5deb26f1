"""Signs, limits, largest ones, and choices between two numbers."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

from hgq.verify.proof.atoms import Form, content
from hgq.verify.proof.windows import split

if TYPE_CHECKING:
    from hgq.verify.proof.forms import Space  # which takes its rules from here


def negative(space: Space, form: Form) -> Form:
    """1 where the form is below 0, else 0."""
    if form.hi < 0:
        return space.constant(1)
    if form.lo >= 0:
        return space.constant(0)
    # g * x + c < 0  is  x + floor(c / g) < 0
    by = content(form)
    if by > 1:
        return negative(space, _divided(space, form, by))
    # 2**k * g + h < 0  is  g < 0  for h in 0 .. 2**k - 1
    parts = split(space, form, form.width)
    if parts is not None:
        return negative(space, parts[0])
    atom = next(iter(form.terms))
    one = space.atoms[atom]
    if form.only == 1:
        if one.kind == "limit" and -(one.hi if one.args[1] is None else one.args[1]) <= form.const < 0:
            # what is limited to 0 .. m passes each of 1 .. m where the number itself does
            return negative(space, space.scale(space.forms[one.args[0]], 1, form.const))
        if one.kind == "window" and one.args[2] is None and one.args[1] == space.forms[one.args[0]].width - 1:
            if not form.const and space.forms[one.args[0]].single is not None:
                return space.scale(form, -1)  # the sign of an atom, as a window
        elif one.kind == "leaf" or one.kind != "window":
            found = _top_bit(space, Form(0, {atom: 1}, one.lo, one.hi), -form.const)
            if found is not None:
                return found
    form = _from_low_bits(space, form)
    shifted = [
        (a, c)
        for a, c in form.terms.items()
        if abs(c) == 1 and space.atoms[a].kind == "window" and space.atoms[a].args[2] is None
    ]
    if len(shifted) == 1:
        (a, c), (base, k, _) = shifted[0], space.atoms[shifted[0][0]].args
        rest = space.form(form.const, {other: d for other, d in form.terms.items() if other != a})
        if c == 1:  # (f >> k) + r < 0  is  f + 2**k * r < 0
            return _plain(space, space.add(space.forms[base], rest, 1 << k))
        # r - (f >> k) < 0  is  f >> k >= r + 1
        moved = space.add(space.forms[base], space.scale(rest, 1, 1), -(1 << k))
        return space.scale(_plain(space, moved), -1, 1)
    return _plain(space, form)


def _from_low_bits(space: Space, form: Form) -> Form:
    """The form with low bits of a number as that number less its higher bits, where these are there too."""
    for atom, c in form.terms.items():
        one = space.atoms[atom]
        if one.kind == "window" and one.args[1] == 0 and one.args[2] is not None:
            base = space.forms[one.args[0]]
            above = space.window(base, one.args[2], None)
            if above.only == 1 and next(iter(above.terms)) in form.terms:
                parts = [(base, c), (above, -c << one.args[2]), (Form(0, {atom: 1}, one.lo, one.hi), -c)]
                terms = dict(form.terms)
                const = form.const
                for part, by in parts:
                    const += part.const * by
                    for other, d in part.terms.items():
                        terms[other] = terms.get(other, 0) + d * by
                # Not joined again.
                return Form(const, {other: d for other, d in terms.items() if d}, form.lo, form.hi)
    return form


def _plain(space: Space, form: Form) -> Form:
    """`negative` of a form that holds nothing to look into."""
    if form.hi < 0 or form.lo >= 0:
        return space.constant(int(form.hi < 0))
    by = content(form)
    if by > 1:
        return negative(space, _divided(space, form, by))
    if len(form.terms) == 1:
        atom = next(iter(form.terms))
        one = space.atoms[atom]
        if form.only == -1:  # c - x < 0  is  not x - c - 1 < 0
            return space.scale(negative(space, space.scale(form, -1, -1)), -1, 1)
        found = _top_bit(space, Form(0, {atom: 1}, one.lo, one.hi), -form.const)
        if found is not None:
            return found
    if form.terms[min(form.terms)] < 0:
        return space.scale(_plain(space, space.scale(form, -1, -1)), -1, 1)
    return space.atom("negative", (space.number(form),), 0, 1)


def _top_bit(space: Space, x: Form, bound: int) -> Form | None:
    """``x < bound`` for an atom x, if the highest bit says so."""
    if space.atoms[next(iter(x.terms))].kind in ("window", "table"):
        return None
    top = x.width - 1
    if x.lo < 0:
        return space.scale(space.window(x, top, None), -1) if bound == 0 else None
    return space.scale(space.window(x, top, None), -1, 1) if bound == 1 << top and top else None


def _divided(space: Space, form: Form, by: int) -> Form:
    """The form whose sign is that of `form`, which is `by` times something and a constant."""
    return Form(form.const // by, {atom: c // by for atom, c in form.terms.items()}, form.lo // by, form.hi // by)


def limit(space: Space, form: Form, most: int | None) -> Form:
    """``min(max(form, 0), most)``; None: no upper limit."""
    if most is not None and form.hi <= most:
        most = None
    if form.lo >= 0:
        # min(x, m) = m - max(m - x, 0), whose bounds are exact
        return form if most is None else space.scale(limit(space, space.scale(form, -1, most), None), -1, most)
    if form.hi <= 0:
        return space.constant(0)
    by = gcd(content(form), form.const, most or 0)
    if by > 1:
        return space.scale(limit(space, _divided(space, form, by), None if most is None else most // by), by)
    return space.atom("limit", (space.number(form), most), 0, form.hi if most is None else most)


def clamp(space: Space, form: Form, lo: int, hi: int) -> Form:
    """The nearest integer in ``lo..hi``."""
    return space.scale(limit(space, space.scale(form, 1, -lo), hi - lo), 1, lo)


def largest(space: Space, forms: list[Form]) -> Form:
    """The largest of several."""
    found: dict[int, Form] = {}
    todo = list(forms)
    while todo:
        form = todo.pop()
        one = space.atoms[next(iter(form.terms))] if form.only > 0 else None
        if one is not None and one.kind == "largest":
            todo += [space.scale(space.forms[number], form.only, form.const) for number in one.args]
        elif one is not None and one.kind == "limit" and one.args[1] is None and len(forms) > 1:
            # max(max(x, 0), y) = max(x, y, 0)
            todo += [space.scale(space.forms[one.args[0]], form.only, form.const), space.constant(form.const)]
        else:
            found[space.number(form)] = form
    least = max(form.lo for form in found.values())
    kept = {number: form for number, form in found.items() if form.hi > least or form.lo == least}
    constants = [form.const for form in kept.values() if not form.terms]
    if len(constants) > 1:
        kept = {n: f for n, f in kept.items() if f.terms or f.const == max(constants)}
    if len(kept) == 1:
        return next(iter(kept.values()))
    if constants:
        others = largest(space, [form for form in kept.values() if form.terms])
        return space.scale(limit(space, space.scale(others, 1, -max(constants)), None), 1, max(constants))
    least = min(form.const for form in kept.values())
    if least:  # what is added to all of them
        return space.scale(largest(space, [space.scale(form, 1, -least) for form in kept.values()]), 1, least)
    by = gcd(*(gcd(content(form), form.const) for form in kept.values()))
    if by > 1:
        return space.scale(largest(space, [_divided(space, form, by) for form in kept.values()]), by)
    bounds = max(form.lo for form in kept.values()), max(form.hi for form in kept.values())
    return space.atom("largest", tuple(sorted(kept)), *bounds)


def smallest(space: Space, forms: list[Form]) -> Form:
    """The smallest of several; of one and a constant, a limit."""
    if len(forms) == 2:
        for one, other in (forms, forms[::-1]):
            if not other.terms:
                limited = one.only == 1 and space.atoms[next(iter(one.terms))]
                if limited and limited.kind == "limit" and limited.args[1] is None and other.const > one.const:
                    most = other.const - one.const
                    return space.scale(limit(space, space.forms[limited.args[0]], most), 1, one.const)
                return space.scale(limit(space, space.scale(one, -1, other.const), None), -1, other.const)
    return space.scale(largest(space, [space.scale(form, -1) for form in forms]), -1)


def extreme(space: Space, condition: Form, a: Form, b: Form) -> Form | None:
    """`choose`, where the condition compares the two: the larger or the smaller of them."""
    if not condition.terms:
        return a if condition.const else b
    if a == b:
        return a
    difference = space.add(b, a, -1)
    less, not_more = negative(space, difference), negative(space, space.scale(difference, 1, -1))
    if condition in (less, not_more):  # a where b is less
        return largest(space, [a, b])
    opposite = space.scale(condition, -1, 1)
    return smallest(space, [a, b]) if opposite in (less, not_more) else None


def choose(space: Space, condition: Form, a: Form, b: Form) -> Form:
    """`a` where `condition` is 1, `b` where it is 0."""
    found = extreme(space, condition, a, b)
    if found is not None:
        return found
    opposite = space.scale(condition, -1, 1)
    if not a.terms and not a.const:
        return space.times(opposite, b)
    if not b.terms and not b.const:
        return space.times(condition, a)
    if condition.const:  # the condition is 1 - x: turned round, so that x itself chooses
        return choose(space, opposite, b, a)
    if a.lo == a.hi and b.lo == b.hi:
        return space.scale(condition, a.const - b.const, b.const)
    numbers = space.number(condition), space.number(a), space.number(b)
    return space.atom("choice", numbers, min(a.lo, b.lo), max(a.hi, b.hi))
