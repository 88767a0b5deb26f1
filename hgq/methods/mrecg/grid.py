"""The numbers that weights and activations may become, chosen for the smallest error before anything is learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.importers.types import Types

POWER = 2.4
"""Errors are summed as |error|^POWER when a scale is chosen, as the MSE observer of MQBench does."""
FINER = range(-1, 4)
"""Halvings of the step 2**(e - magnitude bits), for values below 2**e, that are tried: from one that covers all values
to those where large ones saturate."""
SHRUNK = np.linspace(1.0, 0.2, 41)
"""Parts of the full range that are tried for a float scale."""


@dataclass(frozen=True)
class Grid:
    """step * m for whole m from lo to hi; arrays that broadcast to the tensor (without a batch axis)."""

    step: np.ndarray
    lo: np.ndarray
    hi: np.ndarray

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """Each value rounded (half up) and saturated; float64."""
        return self.step * np.clip(np.floor(np.asarray(x, np.float64) / self.step + 0.5), self.lo, self.hi)


def grid_of(types: Types) -> Grid:
    """The grid of fixed-point types that saturate."""
    lowest = -(2.0**types.bits) + (types.overflow == Overflow.SAT_SYM)
    lo = np.where(types.signed > 0, lowest, 0.0)
    return Grid(np.ldexp(1.0, -types.frac), lo, 2.0**types.bits - 1)


def types_of(grid: Grid, kept: Types) -> Types:
    """The same types with the steps of the grid, which are powers of two."""
    frac = -(np.frexp(grid.step)[1].astype(np.int64) - 1)
    return Types(kept.signed, kept.bits, np.broadcast_to(frac, kept.bits.shape), kept.rounding, kept.overflow)


def fixed_point(x: np.ndarray, bits: int, signed: bool, axes: tuple[int, ...]) -> Types:
    """Saturating types of `bits` bits with the smallest error on `x`, one for each index of the axes not in `axes`.

    Args:
        x: samples of what is rounded; the types have its rank, with size 1 along `axes`.
        bits: width, with the sign where there is one.
    """
    magnitude = bits - signed
    largest = np.abs(x).max(axis=axes, keepdims=True).astype(np.float64)
    live = largest > 0
    exponent = np.frexp(np.where(live, largest, 1.0))[1] - magnitude
    one = np.where(live, 1, 0)

    def types(finer: int | np.ndarray) -> Types:
        return Types(one * signed, one * magnitude, one * (finer - exponent), Rounding.RND, Overflow.SAT)

    errors = np.stack([_error(x, grid_of(types(finer)), axes) for finer in FINER])
    return types(errors.argmin(axis=0) + FINER.start)


def floating(x: np.ndarray, bits: int, axes: tuple[int, ...]) -> Grid:
    """2**bits levels with a float step and 0 among them, as the paper has them (asymmetric); else as `fixed_point`."""
    levels = 2.0**bits - 1
    bottom = np.minimum(x.min(axis=axes, keepdims=True), 0).astype(np.float64)
    top = np.maximum(x.max(axis=axes, keepdims=True), 0).astype(np.float64)

    def grid(part: float | np.ndarray) -> Grid:
        span = (top - bottom) * part
        step = np.where(span > 0, span, 1.0) / levels
        zero = np.floor(-bottom * part / step + 0.5)
        return Grid(step, -zero, levels - zero)

    errors = np.stack([_error(x, grid(part), axes) for part in SHRUNK])
    return grid(SHRUNK[errors.argmin(axis=0)])


def _error(x: np.ndarray, grid: Grid, axes: tuple[int, ...]) -> np.ndarray:
    return (np.abs(x - grid.nearest(x)) ** POWER).sum(axis=axes, keepdims=True)
