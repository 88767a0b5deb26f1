"""Which patterns bits can have together: those that are all of one sum, but for constants and what lies above them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hgq.verify.proof.atoms import Form, content
from hgq.verify.proof.forms import Space
from hgq.verify.proof.tables import reachable

MOST_VALUES = 1 << 16
"""Of a sum whose values are all looked at."""


def possible(space: Space, bits: Sequence[int]) -> np.ndarray:
    """Which patterns of the bits there can be, the first bit lowest. What is not told apart is taken to be possible."""
    there = reachable(space, bits)
    patterns = np.arange(len(there))
    left = list(bits)
    for base in _bases(space, bits):
        columns = {bit: column for bit in left if (column := _bit(space, bit, base)) is not None}
        if len(columns) > 1:
            left = [bit for bit in left if bit not in columns]
            known = sum(column << bits.index(bit) for bit, column in columns.items())
            mask = sum(1 << bits.index(bit) for bit in columns)
            there = there & np.isin(patterns & mask, known)
    return there


def _bases(space: Space, bits: Sequence[int]) -> list[Form]:
    """Sums that bits are of, those first that most bits may follow from: signs, then the highest bits."""
    found: dict[int, int] = {}
    for bit in bits:
        one = space.atoms[bit]
        if one.kind in ("window", "negative"):
            place = 1 << 30 if one.kind == "negative" or one.args[2] is None else one.args[1]
            found[one.args[0]] = max(found.get(one.args[0], 0), place)
    forms = [space.forms[number] for number in sorted(found, key=lambda number: -found[number])]
    return [form for form in forms if form.hi - form.lo < MOST_VALUES]


def _bit(space: Space, bit: int, base: Form) -> np.ndarray | None:
    """A bit, 0 or 1, for each integer that `base` can be; None where it does not follow from `base`."""
    one = space.atoms[bit]
    if one.kind not in ("window", "negative"):
        return None
    form = space.forms[one.args[0]]
    step = max(content(base), 1)
    values = np.arange(base.lo + (base.const - base.lo) % step, base.hi + 1, step)
    single = one.kind == "window" and one.args[2] == 1
    size = 1 << one.args[1] + 1 if single else 0  # what lies above makes no difference
    for sign in (1, -1):
        off = space.add(form, base, -sign)
        if not any(c % size if size else c for c in off.terms.values()):
            found = values * sign + off.const
            return (found < 0).astype(np.int64) if one.kind == "negative" else found >> one.args[1] & 1
    return _limited(space, form, base, values) if one.kind == "negative" else None


def _limited(space: Space, form: Form, base: Form, values: np.ndarray) -> np.ndarray | None:
    """Whether `form` is negative, which may follow from the limit of what it holds: m - x < 0 is m < max(x, 0)."""
    if base.single is None or space.atoms[base.single].kind != "limit":
        return None
    number, most = space.atoms[base.single].args
    for sign in (1, -1):
        off = space.add(form, space.forms[number], -sign)
        bound = -sign * off.const  # x < bound, or x > bound
        if not off.terms and (most is None or bound + (sign < 0) <= most) and bound >= (sign > 0):
            return (values < bound if sign > 0 else values > bound).astype(np.int64)
    return None
