"""Functions of a few bits: as a sum or a product of what the bits spell where they are one, else as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from hgq.verify.proof.atoms import Form

if TYPE_CHECKING:
    from hgq.verify.proof.forms import Space  # which takes its rules from here

MOST_BITS = 14
"""A table of more bits has no rule."""


@dataclass(slots=True)
class _Group:
    """Bits of one form among those of a table. axes: their places; low: of the first. spelled: what each pattern is
    worth as a number, in an array with an axis for each bit. reached: which patterns there are. word: that number."""

    axes: list[int]
    spelled: np.ndarray
    reached: np.ndarray
    word: Form | None


def table(space: Space, bits: Sequence[int], entries: Sequence[int | None]) -> Form:
    """The entry that atoms spell which are 0 or 1 (or 0 or -1, for 1), the first lowest.

    Args:
        entries: ``2 ** len(bits)`` integers; None where the bits can never be so.
    """
    order = sorted(range(len(bits)), key=lambda i: bits[i])
    bits = [bits[i] for i in order]
    known = [e for e in entries if e is not None]
    wide = max(map(abs, known), default=0) >> 60
    flat = np.array([0 if e is None else e for e in entries], object if wide else np.int64)
    shape = (2,) * len(bits)
    values = flat.reshape(shape, order="F").transpose(order)
    reached = np.array([e is not None for e in entries]).reshape(shape, order="F").transpose(order)
    for group in _groups(space, bits):
        reached = reached & _spread(group.reached, group.axes, len(bits))
    bits, values, reached = _used(bits, values, reached)
    lo, hi = (int(pick(values[reached])) for pick in (np.min, np.max))
    if lo == hi:
        return space.constant(lo)
    groups = _groups(space, bits)
    found = _linear(space, bits, values, reached, groups) or _square(space, values, reached, groups)
    if found is not None:  # the bounds of a sum of products would be wider than the table's own
        return Form(found.const, found.terms, max(found.lo, lo), min(found.hi, hi))
    by = gcd(*(int(e) - lo for e in values[reached].tolist()))
    kept = [(int(e) - lo) // by if there else None for e, there in zip(
        values.ravel(order="F").tolist(), reached.ravel(order="F").tolist(), strict=True)]  # fmt: skip
    return space.scale(space.atom("table", (tuple(bits), tuple(kept)), 0, (hi - lo) // by), by, lo)


def of_values(space: Space, x: Form, value: Callable[[int], int]) -> Form | None:
    """What is `value` of the integer that a form of few bits is; None where its bits depend on each other."""
    if x.hi - x.lo == 1:  # its lowest bit may be x itself, turned over and moved
        first = value(x.lo)
        by = value(x.hi) - first
        return space.scale(x, by, first - x.lo * by)
    bits, known = [], 0
    for j in range(x.width):
        bit = space.window(x, j, 1)
        if bit.terms:
            if not _is_bit(space, bit):
                return None
            bits.append((j, next(iter(bit.terms))))
        known |= bit.const << j  # 1 for a bit that is turned over, too
    column: list[int | None] = []
    for pattern in range(1 << len(bits)):
        spelled = known ^ sum((pattern >> i & 1) << j for i, (j, _) in enumerate(bits))
        spelled -= (x.lo < 0 and spelled >> x.width - 1) << x.width
        column.append(value(spelled) if x.lo <= spelled <= x.hi else None)
    return space.table(tuple(atom for _, atom in bits), column)


def _is_bit(space: Space, form: Form) -> bool:
    """Whether a form is an atom that is 0 or 1 (or -1), or 1 without it."""
    if len(form.terms) != 1 or abs(form.only) != 1:
        return False
    atom = space.atoms[next(iter(form.terms))]
    return (atom.lo, atom.hi, form.only, form.const) in ((0, 1, 1, 0), (0, 1, -1, 1), (-1, 0, -1, 0), (-1, 0, 1, 1))


def reachable(space: Space, bits: Sequence[int]) -> np.ndarray:
    """Which patterns of the bits there can be, the first bit lowest."""
    reached = np.ones((2,) * len(bits), bool)
    for group in _groups(space, bits):
        reached = reached & _spread(group.reached, group.axes, len(bits))
    return reached.ravel(order="F")


def _spread(values: np.ndarray, axes: list[int], whole: int) -> np.ndarray:
    """An array over some axes, in ascending order, as one that broadcasts over all."""
    return values.reshape([2 if i in axes else 1 for i in range(whole)])


def _used(bits: list[int], values: np.ndarray, reached: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Without the bits that make no difference."""
    kept = list(bits)
    axis = 0
    while axis < len(kept):
        (zero, one), (there0, there1) = (np.moveaxis(a, axis, 0) for a in (values, reached))
        if bool((zero == one)[there0 & there1].all()):
            values, reached = np.where(there0, zero, one), there0 | there1
            del kept[axis]
        else:
            axis += 1
    return kept, values, reached


def _groups(space: Space, bits: Sequence[int]) -> list[_Group]:
    """The bits by the form that they are of."""
    found: dict[tuple, list[tuple[int, int]]] = {}
    for axis, atom in enumerate(bits):
        one = space.atoms[atom]
        key = ("of", one.args[0]) if one.kind == "window" else ("alone", atom)
        found.setdefault(key, []).append((one.args[1] if one.kind == "window" else 0, axis))
    groups = []
    for (kind, number), members in found.items():
        base = space.forms[number] if kind == "of" else space.form(0, {number: 1})
        members.sort()
        places, axes = [place for place, _ in members], [axis for _, axis in members]
        width, signed = base.width, base.lo < 0
        patterns = np.arange(1 << len(places))
        reached = np.ones(len(patterns), bool)
        if kind == "of" and base.hi - base.lo < 1 << MOST_BITS + 1:
            every = np.arange(base.lo, base.hi + 1)
            reached[:] = False
            reached[sum((every >> place & 1) << i for i, place in enumerate(places))] = True
        low = places[0]
        spelled = sum(
            (patterns >> i & 1) * (-1 if signed and place == width - 1 else 1) << place - low
            for i, place in enumerate(places)
        )
        word = None
        if places == list(range(low, low + len(places))):
            count = len(places)
            word = space.window(base, low, None if low + count == width else count) if kind == "of" else base
        # From the order of places to that of axes.
        turn = np.argsort(axes)
        shape = (2,) * len(places)
        both = [np.asarray(a).reshape(shape, order="F").transpose(turn) for a in (spelled, reached)]
        groups.append(_Group(sorted(axes), both[0], both[1], word))
    return groups


def _linear(
    space: Space, bits: list[int], values: np.ndarray, reached: np.ndarray, groups: list[_Group]
) -> Form | None:
    """The table as a sum over its bits, and over numbers where not every pattern of their bits can be."""
    parts: list[tuple[Form, int]] = []
    start = _first(groups, len(bits))
    total = np.full((1,) * len(bits), int(values[start]), values.dtype)
    const = int(values[start])
    for group in groups:
        if group.reached.all():
            for axis in group.axes:
                other = tuple(1 - at if i == axis else at for i, at in enumerate(start))
                step = (int(values[other]) - int(values[start])) * (1 - 2 * start[axis])
                atom = bits[axis]
                sign = -1 if space.atoms[atom].lo < 0 else 1
                parts.append((Form(0, {atom: 1}, space.atoms[atom].lo, space.atoms[atom].hi), step * sign))
                const -= step * start[axis]
                column = np.array([0, step], values.dtype) - step * start[axis]
                total = total + column.reshape([2 if i == axis else 1 for i in range(len(bits))])
        else:
            if group.word is None:
                return None
            (x0, x1, *_), moved = _values(group, start)
            if not bool(reached[moved[1]]):
                return None
            rise = int(values[moved[1]]) - int(values[moved[0]])
            if rise % (x1 - x0):
                return None
            step = rise // (x1 - x0)
            here = int(group.spelled[tuple(start[axis] for axis in group.axes)])
            parts.append((group.word, step))
            const -= step * here
            column = (group.spelled.astype(values.dtype) - here) * step
            total = total + _spread(column, group.axes, len(bits))
    if bool((np.broadcast_to(total, values.shape) == values)[reached].all()):
        return space.sum(parts, const)
    return None


def _first(groups: list[_Group], count: int) -> tuple[int, ...]:
    """A pattern that can be."""
    at = [0] * count
    for group in groups:
        for axis, bit in zip(group.axes, np.argwhere(group.reached)[0].tolist(), strict=True):
            at[axis] = bit
    return tuple(at)


def _values(group: _Group, start: tuple[int, ...]) -> tuple[list[int], list[tuple[int, ...]]]:
    """The numbers that a group can be, ascending, and the pattern of the table with each, else as `start`."""
    where = np.argwhere(group.reached)
    numbers = group.spelled[group.reached]
    order = np.argsort(numbers, kind="stable")
    patterns = []
    for place in order.tolist():
        at = list(start)
        for axis, bit in zip(group.axes, where[place].tolist(), strict=True):
            at[axis] = bit
        patterns.append(tuple(at))
    return numbers[order].tolist(), patterns


def _square(space: Space, values: np.ndarray, reached: np.ndarray, groups: list[_Group]) -> Form | None:
    """The table as a polynomial of degree two of the one or two numbers that its bits spell."""
    count = values.ndim
    if len(groups) > 2 or values.dtype == object:
        return None
    words = [group.word for group in groups if group.word is not None]
    if len(words) < len(groups):
        return None
    start = _first(groups, count)
    columns = [_spread(group.spelled.astype(np.int64), group.axes, count) for group in groups]
    if len(groups) == 1:
        numbers, patterns = _values(groups[0], start)
        if len(numbers) < 3 or numbers[2] - numbers[0] != 2:
            return None
        e0, e1, e2 = (int(values[p]) for p in patterns[:3])
        twice = e2 - 2 * e1 + e0
        if twice % 2:
            return None
        # Newton's formula at x0: e0 + (x - x0) * (e1 - e0) + (x - x0) * (x - x0 - 1) * twice / 2
        x0, square = numbers[0], twice // 2
        linear = e1 - e0 - square * (2 * x0 + 1)
        const = e0 - linear * x0 - square * x0 * x0
        total = columns[0] * linear + columns[0] * columns[0] * square + const
        form = space.sum([(words[0], linear), (space.times(words[0], words[0]), square)], const)
    else:
        (u, pu), (v, _) = _values(groups[0], start), _values(groups[1], start)
        corner = [[int(values[_both(pu[i], groups[1], v, j)]) for j in (0, 1)] for i in (0, 1)]
        area = (u[1] - u[0]) * (v[1] - v[0])
        mixed = corner[1][1] - corner[1][0] - corner[0][1] + corner[0][0]
        if mixed % area or u[1] - u[0] != 1 or v[1] - v[0] != 1:
            return None
        both = mixed // area
        cu = corner[1][0] - corner[0][0] - both * v[0]
        cv = corner[0][1] - corner[0][0] - both * u[0]
        const = corner[0][0] - cu * u[0] - cv * v[0] - both * u[0] * v[0]
        total = columns[0] * cu + columns[1] * cv + columns[0] * columns[1] * both + const
        parts = [(words[0], cu), (words[1], cv), (space.times(words[0], words[1]), both)]
        form = space.sum(parts, const)
    return form if bool((np.broadcast_to(total, values.shape) == values)[reached].all()) else None


def _both(pattern: tuple[int, ...], group: _Group, numbers: list[int], index: int) -> tuple[int, ...]:
    return _values(group, pattern)[1][index]
