"""Power-of-two scales: from a range and a number of bits to exact types."""

from __future__ import annotations

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.importers.types import Types


def symmetric(largest: np.ndarray | float, bits: int | np.ndarray, rounding: Rounding = Rounding.RND) -> Types:
    """Types of weights: integers from -(2**(bits-1) - 1) to 2**(bits-1) - 1, times a power of two.

    The power is the smallest for which nothing saturates: lsb = 2**ceil(log2(largest / (2**(bits-1) - 1))).

    Args:
        largest: max|w| of each group that shares a type, in the rank of the weights, as (1, outputs); 0: no bits.
        bits: width with the sign, at least 2; one for all or one for each group.
    """
    largest, bits = np.broadcast_arrays(np.asarray(largest, np.float64), np.asarray(bits, np.int64))
    if (bits < 2).any():
        raise ValueError(f"bits={int(bits.min())}; symmetric weights have 2 or more: a sign and a magnitude")
    live = largest > 0
    frac = -_exponent(np.where(live, largest, 1.0) / (2.0 ** (bits - 1) - 1))
    one = np.where(live, 1, 0)
    return Types(one, one * (bits - 1), one * frac, rounding, Overflow.SAT_SYM)


def covering(
    lo: np.ndarray | float,
    hi: np.ndarray | float,
    bits: int | np.ndarray,
    overflow: Overflow = Overflow.SAT,
    rounding: Rounding = Rounding.RND,
) -> Types:
    """Types of activations: `bits` bits for values from `lo` to `hi`, signed where `lo` is below 0.

    The lsb is the smallest power of two for which the bound moves by at most one of it: 0..1 in 8 bits is u8f8.

    Args:
        lo, hi: of each group that shares a type, in the rank of the tensor without its batch axis; 0, 0: no bits.
        bits: width, with the sign where there is one.
    """
    lo, hi, bits = np.broadcast_arrays(np.asarray(lo, np.float64), np.asarray(hi, np.float64), np.asarray(bits))
    if not (np.isfinite(lo) & np.isfinite(hi) & (lo <= hi)).all():
        raise ValueError(f"the range {lo.min()} to {hi.max()} is none")
    signed = (lo < 0).astype(np.int64)
    magnitude = bits.astype(np.int64) - signed
    if (magnitude < 1).any():
        raise ValueError(f"bits={int(bits.min())}; it must be at least 1, and 2 for values below 0")
    needed = np.maximum(hi, -lo) / 2.0**magnitude
    live = needed > 0
    frac = -_exponent(np.where(live, needed, 1.0))
    one = np.where(live, 1, 0)
    return Types(one * signed, one * magnitude, one * frac, rounding, overflow)


def _exponent(x: np.ndarray) -> np.ndarray:
    """The smallest n with 2**n >= x, exactly: log2 of a float is not."""
    mantissa, exponent = np.frexp(x)
    return exponent.astype(np.int64) - (mantissa == 0.5)
