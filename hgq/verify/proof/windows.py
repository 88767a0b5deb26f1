"""Windows of bits: what shifting down and cutting off leave of a form.

``window(f, a, None)`` is ``floor(f / 2**a)``; ``window(f, a, n)`` is that modulo ``2**n``. Each rule is an identity on
integers that holds within the bounds of the form, so that both sides of a comparison come out alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hgq.verify.proof.atoms import Form, lowest_zeros, zeros

if TYPE_CHECKING:
    from hgq.verify.proof.forms import Space  # which takes its rules from here


def window(space: Space, form: Form, a: int, n: int | None) -> Form:
    """Bits ``a .. a + n - 1`` of two's complement as a positive number; n None: ``form >> a``."""
    if not form.terms:
        value = form.const >> a
        return space.constant(value if n is None else value % (1 << n))
    if n is not None and 0 <= form.lo >> a and form.hi >> a < 1 << n:
        n = None  # nothing is cut off at the top
    return _floor(space, form, a) if n is None else _cut(space, form, a, n)


def _floor(space: Space, form: Form, a: int) -> Form:
    """``form >> a``."""
    if form.lo < 0:
        a = min(a, form.width - 1)  # from there on there is nothing but the sign
    if a == 0 or not form.terms:
        return space.constant(form.const >> a) if not form.terms else form
    if form.hi >> a == (form.lo >> a) + 1 and (form.single is None or space.atoms[form.single].kind == "limit"):
        # One of two: whether it reaches the larger.
        larger = form.hi >> a
        return space.scale(space.negative(space.scale(form, 1, -larger << a)), -1, larger)
    # floor((2**a * g + h) / 2**a) = g + floor(h / 2**a)
    whole, rest = space.constant(0), form
    coarse = {atom: c >> a for atom, c in form.terms.items() if not c % (1 << a)}
    if coarse or not 0 <= form.const < 1 << a:
        whole = space.form(form.const >> a, coarse)
        fine = {atom: c for atom, c in form.terms.items() if c % (1 << a)}
        rest = space.form(form.const % (1 << a), fine)
    return space.add(whole, _fraction(space, rest, a)) if coarse or whole.const else _fraction(space, rest, a)


def _fraction(space: Space, form: Form, a: int) -> Form:
    """``form >> a`` where no coefficient is a multiple of ``2**a``."""
    if form.lo < 0:
        a = min(a, form.width - 1)
    if a == 0:
        return form
    if not form.terms or form.lo >> a == form.hi >> a:
        return space.constant(form.lo >> a)
    # What lies below all other bits and never reaches them goes: floor((4 x + y) / 8) = floor(x / 2) for y in 0..3.
    parts = split(space, form, a)
    if parts is not None:
        high, _, k = parts
        return _floor(space, high, a - k)
    lifted = _lifted(space, form)
    if lifted is not None:
        return _floor(space, lifted[0], a + lifted[1])
    atom = space.atoms[next(iter(form.terms))]
    if form.only == 1 and atom.kind == "limit" and atom.args[1] is None and form.const:
        # (relu(x) + c) >> a = relu(x + c) >> a for 0 <= c < 2**a: they differ only where both are 0.
        return _floor(space, space.limit(space.scale(space.forms[atom.args[0]], 1, form.const), None), a)
    if form.single is not None:
        if atom.kind == "window":
            base, low, n = atom.args
            if n is not None:
                return space.window(space.forms[base], low + a, n - a)
        if atom.kind == "table":
            return _table_window(space, form, a, None)
    lo, hi = form.lo >> a, form.hi >> a
    if hi == lo + 1 and (form.single is None or atom.kind == "limit"):
        return space.scale(space.negative(space.scale(form, 1, -hi << a)), -1, hi)
    lo, hi = _even_rounding(space, form, a) or (lo, hi)
    return space.atom("window", (space.number(form), a, None), lo, hi)


def _cut(space: Space, form: Form, a: int, n: int) -> Form:
    """``(form >> a) % 2**n`` where bits are cut off at the top."""
    width = form.width
    if form.lo < 0 and n == 1 and a >= width - 1:
        return space.scale(_floor(space, form, width - 1), -1)  # the sign
    if a + n > width:
        # Above the sign bit there is nothing but the sign: the number itself, with its negative ones lifted by 2**n.
        lifted_sign = space.scale(space.window(form, width - 1, None), -(1 << n))
        return space.add(_floor(space, form, a), lifted_sign)
    size = 1 << a + n
    half = size >> 1
    terms = {atom: (c + half - 1) % size - half + 1 for atom, c in form.terms.items() if c % size}
    if terms != form.terms or not 0 <= form.const < size:
        return space.window(space.form(form.const % size, terms), a, n)
    if not terms:
        return space.constant(form.const >> a)
    fitting = alike(space, form, a + n, 0, size - 1)
    if fitting is not None:
        return _floor(space, fitting, a)
    top = size >> 1
    if form.const >= top:  # adding to the top bit turns it over
        rest = space.scale(form, 1, -top)
        turned = space.scale(space.window(rest, a + n - 1, 1), -1, 1)
        return space.add(space.window(rest, a, n - 1), turned, 1 << n - 1) if n > 1 else turned
    low = lowest_zeros(terms)
    if low:
        # Bits below `low` are those of the constant.
        rest = Form(form.const >> low, {x: c >> low for x, c in terms.items()}, form.lo >> low, form.hi >> low)
        if low <= a:
            return space.window(rest, a - low, n)
        known = (form.const >> a) % (1 << low - a)
        return space.scale(space.window(rest, 0, n - (low - a)), 1 << low - a, known)
    parts = split(space, form, a + n - 1)
    if parts is not None:
        high, below, k = parts
        if k <= a:
            return space.window(high, a - k, n)
        upper = space.window(high, 0, a + n - k)
        return space.add(space.window(below, a, k - a), upper, 1 << k - a)
    for atom, c in terms.items():
        one = space.atoms[atom]
        if one.kind == "window" and one.args[1] == 0 and one.args[2] is not None:
            base, _, held = one.args
            if held + zeros(c) >= a + n:  # what it was cut from is as good
                whole = space.forms[base]
                return space.window(space.add(form, space.add(whole, space.form(0, {atom: 1}), -1), c), a, n)
    lifted = _lifted(space, form)
    if lifted is not None:
        return space.window(lifted[0], a + lifted[1], n)
    if form.single is not None:
        one = space.atoms[form.single]
        if one.kind == "window":
            base, start, held = one.args
            if held is None or a + n <= held:
                return space.window(space.forms[base], start + a, n)
        if one.kind == "table":
            return _table_window(space, form, a, n)
    if form.only == -1 and not form.const and (form.lo, form.hi) == (-1, 0):
        return Form(0, {next(iter(terms)): 1}, 0, 1)  # every bit of -b is b
    return space.atom("window", (space.number(form), a, n), 0, (1 << n) - 1)


def alike(space: Space, form: Form, bits: int, lo: int, hi: int) -> Form | None:
    """A form that is equal modulo ``2**bits`` and stays in ``lo..hi``, at most so many numbers; None: none found."""
    size, half = 1 << bits, 1 << bits - 1
    terms = {atom: (c + half - 1) % size - half + 1 for atom, c in form.terms.items()}  # in -half + 1 .. half
    terms = {atom: c for atom, c in terms.items() if c}
    choices = [_regrouped(space, terms, size), terms]
    if half in terms.values():  # as good as -half
        choices.append({atom: -c if c == half else c for atom, c in terms.items()})
    if lo >= 0:
        choices.append({atom: c % size for atom, c in terms.items()})
    for choice in choices:
        reduced = space.form(form.const, dict(choice))
        up = -(-(lo - reduced.lo) // size) * size
        if reduced.lo + up >= lo and reduced.hi + up <= hi:
            return space.scale(reduced, 1, up)
    return None


def _regrouped(space: Space, terms: dict[int, int], size: int) -> dict[int, int]:
    """Coefficients of top bits such that they join with the bits below, where that is the same modulo `size`."""
    found = dict(terms)
    lower = {}
    for atom, c in terms.items():
        one = space.atoms[atom]
        if one.kind == "window" and one.args[2] is not None:
            lower[one.args[0], one.args[1] + one.args[2]] = c << one.args[2]
    for atom, c in terms.items():
        one = space.atoms[atom]
        if one.kind == "window" and one.args[2] == 1:
            wished = lower.get((one.args[0], one.args[1]))
            if wished is not None and not (wished - c) % size:
                found[atom] = wished
    return found


def split(space: Space, form: Form, most: int) -> tuple[Form, Form, int] | None:
    """(g, h, k) for form = ``2**k * g + h`` with h in ``0 .. 2**k - 1`` and the least k of 1 .. `most`, if there is."""
    levels = sorted({zeros(c) for c in form.terms.values()})
    lo = hi = 0
    for k in levels:
        if k > most:
            return None
        if k:
            shift = (form.const + lo) >> k  # so that the lowest h is not negative, and below 2**k
            const = form.const - (shift << k)
            if 0 <= const + lo and const + hi < 1 << k:
                fine = {atom: c for atom, c in form.terms.items() if zeros(c) < k}
                coarse = {atom: c >> k for atom, c in form.terms.items() if zeros(c) >= k}
                return space.form(shift, coarse), space.form(const, fine), k
        for atom, c in form.terms.items():
            if zeros(c) == k:
                one = space.atoms[atom]
                lo += min(c * one.lo, c * one.hi)
                hi += max(c * one.lo, c * one.hi)
        if hi - lo >= 1 << levels[-1]:
            return None
    return None


def _lifted(space: Space, form: Form) -> tuple[Form, int] | None:
    """(g, k) with form = ``g >> k``, if the form holds one number that was shifted down: r + (x >> k)."""
    found = [
        atom
        for atom, c in form.terms.items()
        if c == 1 and space.atoms[atom].kind == "window" and space.atoms[atom].args[2] is None
    ]
    if len(found) != 1:
        return None
    base, k, _ = space.atoms[found[0]].args
    rest = space.form(form.const, {atom: c for atom, c in form.terms.items() if atom != found[0]})
    return space.add(space.forms[base], rest, 1 << k), k


def _even_rounding(space: Space, form: Form, a: int) -> tuple[int, int] | None:
    """Bounds of ``(x + x[a] + half - 1) >> a``, which rounds x to the nearest, ties to even, and so never falls."""
    for atom, c in form.terms.items():
        one = space.atoms[atom]
        if c == 1 and one.kind == "window" and one.args[2] == 1:
            rest = {other: d for other, d in form.terms.items() if other != atom}
            x = space.form(form.const - (1 << a - 1) + 1, rest)
            if space.window(x, a, 1).single == atom:
                return half_even(x.lo, a), half_even(x.hi, a)
    return None


def half_even(value: int, drop: int) -> int:
    """`value` without its `drop` low bits, rounded to the nearest, ties to even."""
    return (value + (value >> drop & 1) + (1 << drop - 1) - 1) >> drop


def _table_window(space: Space, form: Form, a: int, n: int | None) -> Form:
    """A window of one table is a table."""
    bits, entries = space.atoms[next(iter(form.terms))].args
    size = None if n is None else 1 << n
    moved = [None if e is None else e >> a if size is None else (e >> a) % size for e in entries]
    return space.table(bits, moved)
