"""Floating-point operations between an exact sum and the next quantizer, as the cheapest line that does the same.

What follows a sum of integers, such as a normalisation with floating-point constants, a ReLU and a Quant, makes a
staircase of it: for whole t from lo to hi a whole level that never falls (or never rises). `lines` finds whole m, b and
f such that ``floor((m * t + b) / 2**f)`` is the same staircase for **every** t of the range, with the fewest
fractional bits. FINN finds the same thresholds and compares with each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_LEVELS = 1 << 12
FRACS = range(-24, 41)
MOST_BITS = 24
"""Of m and b: float32 has no more."""

Levels = Callable[[np.ndarray], np.ndarray]


class NoLine(Exception):
    """The staircase is no line of so few bits."""


@dataclass(frozen=True)
class Line:
    """``floor((m * t + b) / 2**f)``."""

    m: int
    b: int
    f: int


@dataclass(frozen=True)
class _Stairs:
    """A rising staircase from `first` at `start` to `last` at `end`.

    over, under: of each level from ``first + 1`` to `last` the smallest u where it must be reached, and the largest one
        where it must not.
    """

    start: int
    end: int
    first: int
    last: int
    over: np.ndarray
    under: np.ndarray


def lines(
    level: Levels, exact: Levels, lo: np.ndarray, hi: np.ndarray, slope: np.ndarray, bottom: int, top: int
) -> list[Line]:
    """A line for each channel.

    Args:
        level: gives for whole t of shape ``(n, channels)`` the levels, whole numbers, as floats; monotone in t. It
            computes as the other library does, in float32.
        exact: the same in float64. Where no line has the levels of the first, rounding errors of float32 have decided
            some: a sum for which the two disagree may then have either level.
        lo, hi: the range of t in each channel, inclusive.
        slope: levels for each step of t, roughly, in each channel; its sign is that of the staircase.
        bottom, top: where levels end: a line may go on below or above.

    Raises:
        NoLine: no line of up to FRACS fractional bits has these levels, or they are too many.
    """
    turned = np.where(slope < 0, -1, 1).astype(np.int64)
    start, end = np.where(slope < 0, -hi, lo), np.where(slope < 0, -lo, hi)
    first, last = (level(turned * u[None])[0].astype(np.int64) for u in (start, end))
    if (last - first).max() > MOST_LEVELS:
        raise NoLine(f"{int((last - first).max())} levels are too many; {MOST_LEVELS} are the limit")
    levels = first + 1 + np.arange(int((last - first).max()))[:, None]
    steps = _steps(lambda u: level(turned * u), start, end, levels)
    other = None
    found = []
    for c in range(len(slope)):
        count = int(last[c] - first[c])
        ends = int(start[c]), int(end[c]), int(first[c]), int(last[c])
        reached = steps[:count, c]
        try:
            line = _line(_Stairs(*ends, reached, reached - 1), abs(float(slope[c])), bottom, top)
        except NoLine:
            if other is None:
                other = _steps(lambda u: exact(turned * u), start, end, levels)
            also = other[:count, c]
            stairs = _Stairs(*ends, np.maximum(reached, also), np.minimum(reached, also) - 1)
            line = _line(stairs, abs(float(slope[c])), bottom, top)
        found.append(Line(int(turned[c]) * line.m, line.b, line.f))
    return found


def _steps(rising: Levels, start: np.ndarray, end: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """For each level and channel the smallest u at which it is reached, by bisection; ``end + 1`` if it never is."""
    low = np.broadcast_to(start, levels.shape).copy()
    high = np.broadcast_to(end + 1, levels.shape).copy()
    while (low < high).any():
        middle = (low + high) // 2
        above = (rising(middle) >= levels) | (middle > end)
        low, high = np.where(above | (low >= high), low, middle + 1), np.where(above, middle, high)
    return low


def _line(stairs: _Stairs, slope: float, bottom: int, top: int) -> Line:
    """The line of one staircase."""
    levels = stairs.first + 1 + np.arange(len(stairs.over))
    # m t + b >= k 2^f where level k is reached, and < k 2^f one step before that; at the ends where nothing clips.
    inside = stairs.over <= stairs.end
    reach_t, reach_k = stairs.over[inside], levels[inside]
    inside = stairs.under >= stairs.start
    under_t, under_k = stairs.under[inside], levels[inside]
    if stairs.first > bottom:
        reach_t, reach_k = np.append(reach_t, stairs.start), np.append(reach_k, stairs.first)
    if stairs.last < top:
        under_t, under_k = np.append(under_t, stairs.end), np.append(under_k, stairs.last + 1)
    if not len(reach_t) or not len(under_t):
        return _one_sided(reach_k, under_k)
    for f in FRACS:
        scaled = np.ldexp(1.0, f)
        least = np.ceil(reach_k * scaled).astype(np.int64)
        most = np.ceil(under_k * scaled).astype(np.int64) - 1
        # Some slopes do, and the true one does: so one of the two whole ones beside it does, if any does.
        beside = int(slope * scaled)
        if beside * max(abs(stairs.start), abs(stairs.end), 1) > 1 << 60:
            break
        for m in sorted({0, beside, beside + 1}):
            lowest, highest = int((least - m * reach_t).max()), int((most - m * under_t).min())
            if lowest <= highest:
                b = _roundest(lowest, highest)
                if max(_significant(m), _significant(b)) <= MOST_BITS:
                    return Line(m, b, f)
    raise NoLine(f"its steps are no line of up to {FRACS.stop - 1} fractional bits")


def _one_sided(reach_k: np.ndarray, under_k: np.ndarray) -> Line:
    """All levels are the lowest or the highest one: a constant beyond it."""
    if len(reach_k):
        return Line(0, int(reach_k.max()), 0)
    return Line(0, int(under_k.min()) - 1 if len(under_k) else 0, 0)


def _significant(n: int) -> int:
    """Bits from the first one to the last one."""
    return (abs(n) // (n & -n)).bit_length() if n else 0


def _roundest(lowest: int, highest: int) -> int:
    """Of the numbers lowest..highest one with the most zero bits at its end."""
    for shift in range(64, 0, -1):
        found = -(-lowest >> shift) << shift
        if found <= highest:
            return found
    return lowest
