"""Vectors that no data set holds: each input at its extremes, and random ones over the full range of the port."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hgq.fixed import FixedArray, Overflow, as_objects

SEED = 20260101


def corner_vectors(
    ports: Mapping[str, FixedArray], count: int, overflows: Mapping[str, Overflow | None] | None = None
) -> dict[str, np.ndarray]:
    """`count` integer vectors for the input ports, the same at every call.

    First all elements at their lowest, highest, and 0; then one element at an extreme while the others are at 0, at
    their lowest or at their highest; then every element at a random extreme, in a quarter of what is left; the rest
    is uniform over the full range.

    Args:
        ports: types of each input, by name.
        count: number of vectors; below 4 it is raised to 4.
        overflows: how values are brought into the types of an input, by name. What SAT_SYM makes is never the lowest
            value of a signed type, and the quantizer of the Keras model would change it.
    """
    known = overflows or {}
    lo = np.concatenate([_lowest(types, known.get(name)) for name, types in ports.items()])
    hi = np.concatenate([types.hi.ravel() for types in ports.values()])
    wide = max((int(v).bit_length() for v in np.concatenate([lo, hi])), default=0) > 62
    if not wide:
        lo, hi = lo.astype(np.int64), hi.astype(np.int64)
    count = max(count, 4)
    live = np.flatnonzero(lo != hi)
    rng = np.random.default_rng(SEED)
    zero = np.zeros_like(lo)
    rows = [lo, hi, zero, np.where(np.arange(len(lo)) % 2 == 0, lo, hi)]
    for background in (zero, lo, hi):
        for position in live.tolist():
            for extreme in (lo, hi):
                if len(rows) < count and extreme[position] != background[position]:
                    row = background.copy()
                    row[position] = extreme[position]
                    rows.append(row)
    rest = count - len(rows)
    picks = rng.integers(0, 2, (rest // 4, len(lo)))
    extremes = np.where(picks == 1, hi, lo)
    uniform = _uniform(rng, lo, hi, rest - rest // 4)
    table = np.concatenate([np.stack(rows), extremes.reshape(-1, len(lo)), uniform])
    result, start = {}, 0
    for name, types in ports.items():
        result[name] = table[:, start : start + types.size].reshape(len(table), *types.shape)
        start += types.size
    return result


def _lowest(types: FixedArray, overflow: Overflow | None) -> np.ndarray:
    lo = types.lo.ravel()
    return np.where(lo < 0, -types.hi.ravel(), lo) if overflow == Overflow.SAT_SYM else lo


def _uniform(rng: np.random.Generator, lo: np.ndarray, hi: np.ndarray, count: int) -> np.ndarray:
    if lo.dtype != object:
        return rng.integers(lo, hi + 1, (count, len(lo)))
    words = as_objects(rng.integers(0, 1 << 32, (count, len(lo)), dtype=np.int64))
    for _ in range(int(max(int(v).bit_length() for v in hi - lo)) // 32 + 1):
        words = words * (1 << 32) + as_objects(rng.integers(0, 1 << 32, (count, len(lo)), dtype=np.int64))
    return words % (hi - lo + 1) + lo
