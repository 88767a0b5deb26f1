"""Fixed-point numbers: the only module that says what a bit pattern is worth.

A value is an integer ``m`` counted in LSBs; it stands for ``m * 2**-frac``. Everything here is exact integer
arithmetic on NumPy arrays (int64 where the caller knows that it fits, Python integers otherwise) but for the border
functions `encode` and `decode`, which are exact too and refuse where they could not be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

MAX_WIDTH = 1024
"""The widest value supported, in bits: the default limit of ap_types (AP_INT_MAX_W)."""


class Rounding(StrEnum):
    """What happens to bits below the LSB. Names as in ap_fixed."""

    TRN = "TRN"  # towards minus infinity (floor)
    RND = "RND"  # to nearest, half towards plus infinity
    RND_CONV = "RND_CONV"  # to nearest, half to even


class Overflow(StrEnum):
    """What happens to values outside the range. Names as in ap_fixed."""

    WRAP = "WRAP"  # modulo 2**width
    SAT = "SAT"  # to the nearer bound
    SAT_SYM = "SAT_SYM"  # as SAT, but the lower bound is minus the upper one


def width_of(lo: int, hi: int) -> int:
    """Bits of the narrowest two's-complement number for every integer in ``lo..hi``, inclusive; at least one."""
    return (hi if hi > ~lo else ~lo).bit_length() + 1 if lo < 0 else hi.bit_length() or 1


@dataclass(frozen=True, slots=True, order=True)
class FixedType:
    """A two's-complement fixed-point number format.

    Args:
        signed: whether the top bit weighs ``-2**(width-1)`` LSBs.
        width: storage in bits, sign bit included; at least 1. A value pruned to zero bits is the constant 0.
        frac: bits right of the binary point. Negative: the LSB is worth more than 1; larger than `width` is allowed.

    >>> t = FixedType(signed=True, width=6, frac=4)
    >>> str(t), t.lo, t.hi, t.lsb
    ('s6f4', -32, 31, 0.0625)
    """

    signed: bool
    width: int
    frac: int

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise ValueError(f"FixedType needs 1 <= width <= {MAX_WIDTH} bits, got {self.width}")

    @property
    def lo(self) -> int:
        """Smallest value, in LSBs."""
        return -(1 << self.width - 1) if self.signed else 0

    @property
    def hi(self) -> int:
        """Largest value, in LSBs (inclusive)."""
        return (1 << self.width - self.signed) - 1

    @property
    def lsb(self) -> float:
        """Worth of one LSB, as a real number."""
        return 2.0**-self.frac

    @classmethod
    def holding(cls, lo: int, hi: int, frac: int) -> FixedType:
        """The narrowest type for every integer in ``lo..hi`` (LSBs, inclusive); at least one bit."""
        return cls(lo < 0, width_of(lo, hi), frac)

    @classmethod
    def parse(cls, text: str) -> FixedType:
        """Reads the text form back.

        >>> FixedType.parse("u4f-2")
        FixedType(signed=False, width=4, frac=-2)
        """
        match = re.fullmatch(r"([su])(\d+)f(-?\d+)", text)
        if not match:
            raise ValueError(f"{text!r} is no fixed-point type; write s16f8 (signed, 16 bits, 8 of them fractional)")
        return cls(match[1] == "s", int(match[2]), int(match[3]))

    @classmethod
    def from_kif(cls, k: int, i: int, f: int) -> FixedType | None:
        """From HGQ's notation: sign flag, integer bits *without* the sign, fractional bits. None at zero bits.

        >>> str(FixedType.from_kif(1, 2, 3)), FixedType.from_kif(0, -2, 2)
        ('s6f3', None)
        """
        return cls(bool(k), k + i + f, f) if k + i + f > 0 else None

    def to_ap_fixed(self, rounding: Rounding = Rounding.TRN, overflow: Overflow = Overflow.WRAP) -> str:
        """The C++ type. ap_fixed counts the sign among its integer bits.

        >>> FixedType.parse("s6f4").to_ap_fixed()
        'ap_fixed<6,2,AP_TRN,AP_WRAP,0>'
        """
        name = "ap_fixed" if self.signed else "ap_ufixed"
        return f"{name}<{self.width},{self.width - self.frac},AP_{rounding},AP_{overflow},0>"

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.width}f{self.frac}"


@dataclass(frozen=True, slots=True, eq=False)
class FixedArray:
    """One fixed-point type for each element of a tensor; three integer arrays of the tensor's shape (no batch axis).

    Width 0 marks an element that is the constant 0 and takes no hardware; its `signed` and `frac` are kept at 0.
    """

    signed: np.ndarray
    width: np.ndarray
    frac: np.ndarray

    def __post_init__(self) -> None:
        shape = np.shape(self.width)
        if not (np.shape(self.signed) == np.shape(self.frac) == shape):
            raise ValueError(
                f"FixedArray needs equal shapes, got {np.shape(self.signed)}, {shape}, {np.shape(self.frac)}"
            )
        width = np.asarray(self.width, np.int64)
        if width.size and not (0 <= width.min() and width.max() <= MAX_WIDTH):
            raise ValueError(f"FixedArray needs 0 <= width <= {MAX_WIDTH} bits, got {width.min()}..{width.max()}")
        live = width > 0
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "signed", np.where(live, np.asarray(self.signed, bool), False))
        object.__setattr__(self, "frac", np.where(live, np.asarray(self.frac, np.int64), 0))

    @classmethod
    def from_kif(cls, k: np.ndarray, i: np.ndarray, f: np.ndarray) -> FixedArray:
        """From HGQ's notation, element by element; elements of ``k + i + f <= 0`` bits become width 0."""
        k, i, f = (np.asarray(a).astype(np.int64) for a in np.broadcast_arrays(k, i, f))
        return cls(k > 0, np.maximum(k + i + f, 0), f)

    @classmethod
    def full(cls, shape: tuple[int, ...], t: FixedType) -> FixedArray:
        """The same type everywhere."""
        return cls(np.full(shape, t.signed), np.full(shape, t.width), np.full(shape, t.frac))

    @classmethod
    def holding(cls, lo: np.ndarray, hi: np.ndarray, frac: np.ndarray) -> FixedArray:
        """The narrowest types for the integers ``lo..hi``, element by element; width 0 where both are 0."""
        lo_list, hi_list = np.asarray(lo).ravel().tolist(), np.asarray(hi).ravel().tolist()
        signed = [a < 0 for a in lo_list]
        width = [
            max(b.bit_length() if b > 0 else 0, (~a).bit_length() if a < 0 else 0) + (a < 0)
            for a, b in zip(lo_list, hi_list, strict=True)
        ]
        shape = np.shape(lo)
        return cls(np.array(signed, bool).reshape(shape), np.array(width, np.int64).reshape(shape), frac)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.width.shape

    @property
    def size(self) -> int:
        return self.width.size

    @property
    def lo(self) -> np.ndarray:
        """Smallest values, in LSBs; an object array of Python integers."""
        return _objects([t.lo if t else 0 for t in self], self.shape)

    @property
    def hi(self) -> np.ndarray:
        """Largest values, in LSBs (inclusive); an object array of Python integers."""
        return _objects([t.hi if t else 0 for t in self], self.shape)

    def __iter__(self) -> Iterator[FixedType | None]:
        """The elements' types in C order; None for zero-bit ones."""
        columns = (self.signed.ravel().tolist(), self.width.ravel().tolist(), self.frac.ravel().tolist())
        return (FixedType(s, w, f) if w else None for s, w, f in zip(*columns, strict=True))

    def reshape(self, shape: tuple[int, ...]) -> FixedArray:
        return FixedArray(self.signed.reshape(shape), self.width.reshape(shape), self.frac.reshape(shape))

    def broadcast_to(self, shape: tuple[int, ...]) -> FixedArray:
        return FixedArray(*(np.broadcast_to(a, shape) for a in (self.signed, self.width, self.frac)))

    def cover(self) -> FixedType | None:
        """The narrowest single type that holds every value of every element; None if all have zero bits."""
        live = [t for t in self if t]
        if not live:
            return None
        signed = any(t.signed for t in live)
        frac = max(t.frac for t in live)
        integer = max(t.width - t.frac - t.signed for t in live)
        return FixedType(signed, max(integer + frac + signed, 1), frac)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FixedArray):
            return NotImplemented
        return all(np.array_equal(a, b) for a, b in zip(self._arrays(), other._arrays(), strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.signed, self.width, self.frac

    def __str__(self) -> str:
        """Run-length text in C order, as in ``[4,2]{u4f0*3 0 s3f1*4}``; `parse` reads it back."""
        runs: list[list] = []
        for t in self:
            text = str(t) if t else "0"
            if runs and runs[-1][0] == text:
                runs[-1][1] += 1
            else:
                runs.append([text, 1])
        body = " ".join(text if n == 1 else f"{text}*{n}" for text, n in runs)
        return f"[{','.join(map(str, self.shape))}]{{{body}}}"

    @classmethod
    def parse(cls, text: str) -> FixedArray:
        """Reads ``str(types)`` back."""
        match = re.fullmatch(r"\[([\d,]*)\]\{([^}]*)\}", text)
        if not match:
            raise ValueError(f"{text[:60]!r} is no list of types; expected e.g. [4,2]{{u4f0*3 0 s3f1*4}}")
        shape = tuple(int(n) for n in match[1].split(",") if n)
        types: list[FixedType | None] = []
        size = math.prod(shape)
        for run in match[2].split():
            one, _, n = run.partition("*")
            if int(n or 1) > size - len(types):  # before a list of that length takes all memory
                raise ValueError(f"{text[:60]!r} states more than the {size} types of its shape")
            types += [None if one == "0" else FixedType.parse(one)] * int(n or 1)
        rows = [(t.signed, t.width, t.frac) if t else (False, 0, 0) for t in types]
        table = np.array(rows, np.int64).reshape(-1, 3)
        return cls(*(table[:, column].reshape(shape) for column in range(3)))


def _objects(values: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """An object array of Python integers: no width limit, no silent float."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def as_objects(values: np.ndarray) -> np.ndarray:
    """The same integers as Python integers in an object array."""
    values = np.asarray(values)
    return values if values.dtype == object else _objects(values.ravel().tolist(), values.shape)


def shift(m: np.ndarray, by: np.ndarray | int) -> np.ndarray:
    """``m * 2**by``, rounded down where `by` is negative, element by element.

    The dtype stays: the caller vouches that int64 holds the result.
    """
    by = np.asarray(by)
    if m.dtype == object:
        by = as_objects(by)
        return (m << np.maximum(by, 0)) >> np.maximum(-by, 0)
    # A shift by 64 or more is undefined in C: rounding down by more than 63 bits equals doing so by 63.
    return (m << np.maximum(by, 0)) >> np.minimum(np.maximum(-by, 0), 63)


def round_off(m: np.ndarray, drop: np.ndarray | int, rounding: Rounding) -> np.ndarray:
    """Drops the `drop` low bits of `m` (negative: appends zero bits) with the given rounding.

    >>> round_off(np.array([-3, -1, 1, 3]), 1, Rounding.RND).tolist()
    [-1, 0, 1, 2]
    >>> round_off(np.array([-3, -1, 1, 3]), 1, Rounding.RND_CONV).tolist()
    [-2, 0, 0, 2]
    """
    drop = np.asarray(drop)
    floor = shift(m, -drop)
    if rounding == Rounding.TRN or not (drop > 0).any():
        return floor
    half = np.where(drop > 0, shift(m, 1 - drop), 0) & 1  # the highest dropped bit
    if rounding == Rounding.RND:
        return floor + half
    below = m - shift(shift(m, 1 - drop), drop - 1)  # what lies under the highest dropped bit
    sticky = (np.where(drop > 0, below, 0) != 0).astype(half.dtype if half.dtype != object else np.int64)
    return floor + (half & (sticky | (floor & 1)))


def fit(m: np.ndarray, types: FixedArray, overflow: Overflow) -> np.ndarray:
    """Brings the integers `m` (already on the grid of `types`) into the range of `types`."""
    if m.dtype == object or (types.size and types.width.max() > 62):
        m, lo, hi = as_objects(m), types.lo, types.hi
    else:
        hi = (np.int64(1) << np.maximum(types.width - types.signed, 0)) - 1
        lo = np.where(types.signed, -hi - 1, 0)
    if overflow == Overflow.SAT_SYM:
        lo = np.where(types.signed, -hi, lo)
    if overflow == Overflow.WRAP:
        size = hi - lo + 1
        return (m - lo) % size + lo
    return np.minimum(np.maximum(m, lo), hi)


def requantize(
    m: np.ndarray, frac: np.ndarray | int, types: FixedArray, rounding: Rounding, overflow: Overflow
) -> np.ndarray:
    """The integers `m` with `frac` fractional bits, as integers of `types`. Zero-bit elements become 0."""
    live = types.width > 0
    drop = np.where(live, np.asarray(frac) - types.frac, 0)
    return np.where(live, fit(round_off(m, drop, rounding), types, overflow), 0)


def encode(x: np.ndarray, types: FixedArray, rounding: Rounding, overflow: Overflow) -> np.ndarray:
    """Real numbers to integers of `types`; exactly what a quantizer layer does to the same float32 values.

    Args:
        x: floats of shape ``(batch, *types.shape)``; finite.

    Raises:
        ValueError: NaN or infinity in `x`, or a shape that does not end in `types.shape`.
    """
    return np.where(types.width > 0, fit(_on_grid(x, types, rounding), types, overflow), 0)


def outside(x: np.ndarray, types: FixedArray, rounding: Rounding) -> np.ndarray:
    """Which of the real numbers lie outside the range of `types` once they are rounded; boolean, shape of `x`."""
    m = _on_grid(x, types, rounding)
    return np.asarray(((m < types.lo) | (m > types.hi)) & (types.width > 0), bool)


def _on_grid(x: np.ndarray, types: FixedArray, rounding: Rounding) -> np.ndarray:
    """Real numbers rounded to integers of the grid of `types`, without a bound."""
    x = np.asarray(x)
    if x.shape[1:] != types.shape:
        raise ValueError(f"data of shape {x.shape} does not fit the port: expected (samples, *{types.shape})")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        where = tuple(int(n) for n in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"data holds {x[where]} at index {where}; remove or replace it")
    scaled = np.ldexp(x, types.frac)
    floor = np.floor(scaled)
    rest = scaled - floor  # exact: both have the exponent of `scaled`
    if rounding == Rounding.RND:
        floor = floor + (rest >= 0.5)
    elif rounding == Rounding.RND_CONV:
        floor = floor + ((rest > 0.5) | ((rest == 0.5) & (np.floor(floor / 2) * 2 != floor)))
    if np.abs(floor).max(initial=0) < 2.0**62:
        return floor.astype(np.int64)
    return _objects([int(v) for v in floor.ravel().tolist()], floor.shape)


def decode(m: np.ndarray, frac: np.ndarray | int) -> np.ndarray:
    """Integers to the real numbers they stand for, as float64.

    Raises:
        ValueError: an integer of more than 53 bits, which float64 would round. Compare such values as integers.
    """
    m = np.asarray(m)
    if m.dtype == object:
        # A wide integer is still exact if its low bits are zero; Python's comparison is exact on both sides.
        if any(float(v) != v for v in m.ravel().tolist()):
            raise ValueError("a value has more than 53 significant bits: float64 cannot hold it; compare integers")
        m = m.astype(np.float64)
    elif m.size and np.abs(m).max() >= 1 << 53 and (m.astype(np.float64).astype(object) != as_objects(m)).any():
        raise ValueError("a value has more than 53 significant bits: float64 cannot hold it; compare integers")
    return np.ldexp(m.astype(np.float64), -np.asarray(frac))
