"""Power-of-two ranges that lose the least of a tensor at a given width."""

from __future__ import annotations

import numpy as np

LOWER = 6
"""How many powers of two below the one that holds the largest value are tried."""


def least_error(values: np.ndarray, width: int, *, signed: bool, constant: bool, axes: tuple[int, ...]) -> np.ndarray:
    """For each group the exponent e for which rounding to `width` bits with the range 2^e has the least square error.

    The step is ``2^e / 2^width``, or ``2^e / 2^(width-1)`` if signed; what lies beyond the range saturates. A range
    below the largest value is often best at few bits: what is clipped is rare.

    Args:
        values: a kernel, or samples of an activation.
        width: bits, the sign included.
        constant: symmetric integers, as for kernels.
        axes: those over which values share a range; the result has size 1 there.

    Returns:
        Whole numbers, 0 for a group of zeros.
    """
    values = np.asarray(values, np.float64)
    largest = np.abs(values).max(axis=axes, keepdims=True)
    top = np.where(largest > 0, np.frexp(largest)[1], 0)
    hi = 2.0 ** (width - signed) - 1
    lo = (-hi if constant else -hi - 1) if signed else 0.0
    best, error = top, np.full(top.shape, np.inf)
    # The highest first: of equal errors (an exact tensor, a group of zeros) the widest range is kept.
    for down in range(-1, LOWER + 1):
        e = top - down
        step = np.ldexp(1.0, e - width + signed)
        rounded = np.clip(np.floor(values / step + 0.5), lo, hi) * step
        found = np.square(values - rounded).sum(axis=axes, keepdims=True)
        best, error = np.where(found < error, e, best), np.minimum(found, error)
    return np.where(largest > 0, best, 0).astype(np.int64)
