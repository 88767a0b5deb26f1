"""Floating-point operations between an exact sum and the next quantizer, as the cheapest line that does the same.

What follows a sum of integers, such as a normalisation with floating-point constants, a ReLU and a Quant, makes a
staircase of it: for whole t from lo to hi a whole level that never falls (or never rises). `line` finds whole m, b and
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


class NoLine(Exception):
    """The staircase is no line of so few bits."""


@dataclass(frozen=True)
class Line:
    """``floor((m * t + b) / 2**f)``."""

    m: int
    b: int
    f: int


def lines(
    level: Callable[[np.ndarray], np.ndarray],
    lo: np.ndarray,
    hi: np.ndarray,
    slope: np.ndarray,
    bottom: int,
    top: int,
) -> list[Line]:
    """A line for each channel.

    Args:
        level: gives for whole t of shape ``(n, channels)`` the levels, whole numbers, as floats; monotone in t.
        lo, hi: the range of t in each channel, inclusive.
        slope: levels for each step of t, roughly, in each channel; its sign is that of the staircase.
        bottom, top: where levels end: a line may go on below or above.

    Raises:
        NoLine: no line of up to FRACS fractional bits has these levels, or they are too many.
    """
    turned = np.where(slope < 0, -1, 1).astype(np.int64)
    start, end = np.where(slope < 0, -hi, lo), np.where(slope < 0, -lo, hi)

    def rising(u: np.ndarray) -> np.ndarray:
        return level(turned * u).astype(np.int64)

    first, last = rising(start[None])[0], rising(end[None])[0]
    if (last - first).max() > MOST_LEVELS:
        raise NoLine(f"{int((last - first).max())} levels are too many; {MOST_LEVELS} are the limit")
    steps = _steps(rising, start, end, first, last)
    found = []
    for c in range(len(slope)):
        ends = (int(start[c]), int(first[c])), (int(end[c]), int(last[c]))
        line = _line(steps[c], *ends, abs(float(slope[c])), bottom, top)
        found.append(Line(int(turned[c]) * line.m, line.b, line.f))
    return found


def _steps(
    rising: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    end: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> list[np.ndarray]:
    """For each channel and each level above the first one the smallest u at which it is reached, by bisection."""
    count = int((last - first).max())
    levels = first + 1 + np.arange(count)[:, None]
    reached = levels <= last
    low, high = np.broadcast_to(start, levels.shape).copy(), np.broadcast_to(end, levels.shape).copy()
    while count and (low < high).any():
        middle = (low + high) // 2
        above = rising(middle) >= levels
        low, high = np.where(above, low, middle + 1), np.where(above, middle, high)
        low = np.minimum(low, high)
    return [low[reached[:, c], c] for c in range(len(first))]


def _line(steps: np.ndarray, start: tuple[int, int], end: tuple[int, int], slope: float, bottom: int, top: int) -> Line:
    """The line of one rising staircase that reaches level ``first + 1 + n`` at ``steps[n]``."""
    first, last = start[1], end[1]
    levels = first + 1 + np.arange(len(steps))
    # m t + b >= k 2^f where level k is reached, and < k 2^f one step before that; at the ends where nothing clips.
    reach_t, reach_k = steps, levels
    under_t, under_k = steps - 1, levels
    if first > bottom:
        reach_t, reach_k = np.append(reach_t, start[0]), np.append(reach_k, first)
    if last < top:
        under_t, under_k = np.append(under_t, end[0]), np.append(under_k, last + 1)
    for f in FRACS:
        scaled = np.ldexp(1.0, f)
        least = np.ceil(reach_k * scaled).astype(np.int64)
        most = np.ceil(under_k * scaled).astype(np.int64) - 1
        # Some slopes do, and the true one does: so one of the two whole ones beside it does, if any does.
        beside = np.floor(slope * scaled)
        if abs(beside) * max(abs(start[0]), abs(end[0]), 1) > 2.0**60:
            break
        for m in sorted({0, int(beside), int(beside) + 1}):
            if m == 0 and len(steps):
                continue
            lowest = int((least - m * reach_t).max()) if len(reach_t) else None
            highest = int((most - m * under_t).min()) if len(under_t) else None
            if lowest is None and highest is None:
                return Line(0, 0, 0)
            if lowest is None or highest is None:
                return Line(m, highest if lowest is None else lowest, f)
            if lowest <= highest:
                b = _roundest(lowest, highest)
                if max(_significant(m), _significant(b)) <= MOST_BITS:
                    return Line(m, b, f)
    raise NoLine(f"its steps are no line of up to {FRACS.stop - 1} fractional bits")


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
