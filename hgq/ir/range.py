"""Which integers each element of a tensor can take: exact interval arithmetic with Python integers, no width limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.fixed import FixedArray, as_objects


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """Per element, the integers ``lo..hi`` (inclusive) at `frac` fractional bits.

    An element that can only be 0 has `frac` 0, so that it never widens what it is added to.
    """

    lo: np.ndarray
    hi: np.ndarray
    frac: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "lo", as_objects(self.lo))
        object.__setattr__(self, "hi", as_objects(self.hi))
        frac = np.where(self.zero, 0, np.broadcast_to(np.asarray(self.frac, np.int64), self.lo.shape))
        object.__setattr__(self, "frac", frac)

    @classmethod
    def of(cls, types: FixedArray) -> Range:
        """Everything that the types can hold."""
        return cls(types.lo, types.hi, types.frac)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lo.shape

    @property
    def zero(self) -> np.ndarray:
        """Which elements can only be 0."""
        return ((self.lo == 0) & (self.hi == 0)).astype(bool)

    @property
    def types(self) -> FixedArray:
        """The narrowest types that hold the range; width 0 where it is only 0."""
        return FixedArray.holding(self.lo, self.hi, self.frac)

    @property
    def magnitude(self) -> np.ndarray:
        """Largest absolute value, in LSBs, per element; Python integers."""
        return np.maximum(-self.lo, self.hi)

    @property
    def bits(self) -> int:
        """Bits of the widest element as a signed integer: int64 holds the tensor where this is at most 64."""
        return int(max((int(v).bit_length() for v in self.magnitude.ravel()), default=0)) + 1

    def reshape(self, shape: tuple[int, ...]) -> Range:
        return Range(self.lo.reshape(shape), self.hi.reshape(shape), self.frac.reshape(shape))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        pairs = ((self.lo, other.lo), (self.hi, other.hi), (self.frac, other.frac))
        return all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]
