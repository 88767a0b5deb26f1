"""Arithmetic on tensors that is exact in float32 and float64 on every backend. No gradients here.

All integers are held in floats; every function is exact as long as its integers have at most 24 (float32) or 53
(float64) significant bits.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import Overflow, Rounding

Tensor = Any
"""A tensor of whatever backend Keras runs on."""

_LEAST, _MOST = -126.0, 127.0
_IEEE = {"float32": ("int32", 127.0, 23), "float64": ("int64", 1023.0, 52)}
"""Per dtype of floats: integers of the same size, the bias of the exponent, the bits of the fraction."""


def read(variable: Any) -> Tensor:
    """The value of a Keras variable as a plain tensor.

    On TensorFlow `convert_to_tensor` hands out the variable itself, which a custom gradient refuses as argument.
    """
    return ops.reshape(variable, variable.shape)


def power_of_two(n: Tensor) -> Tensor:
    """``2**n`` for integers `n` in -126..127 held in a float tensor, in the dtype of `n`.

    Made from the bits of an IEEE number: `exp2` is off by an ulp for most integers on JAX 0.10, `pow` promises nothing,
    and a table takes 4 to 8 times as long on large tensors.
    """
    kind = _kind(n)
    integer, bias, fraction_bits = _IEEE[kind]
    return ops.view(ops.left_shift(ops.cast(ops.clip(n, _LEAST, _MOST) + bias, integer), fraction_bits), kind)


def steps(frac: Tensor) -> tuple[Tensor, Tensor]:
    """``2**frac`` and ``2**-frac`` of integers `frac` in -126..126: what to scale a batch by, and back.

    Quotients by 1: XLA computes cheap arithmetic on a small tensor again wherever a loop over a large one reads it,
    here once for each sample, but a quotient only once. (Without, a training step took 1.3 x as long.) The 1 is
    computed: of ``1.0 / x`` TensorFlow's graph optimizer makes a reciprocal, which Eigen approximates.
    """
    up, down = power_of_two(frac), power_of_two(ops.negative(frac))
    one = up * down
    return up / one, down / one


def inverse_root(v: Tensor) -> Tensor:
    """``1 / sqrt(v)`` of float32 `v` above 0, each step rounded once: the same bits compiled or not.

    Written so, compilers approximate: XLA the inverse root, TensorFlow's graph optimizer the reciprocal, which are an
    ulp off for three values in ten. Neither sees through a maximum and a 1 that is computed. PyTorch's root is an ulp
    off for one in six (MKL's; 2.13 on a CPU): that of float64, rounded, is not.
    """
    wide = keras.backend.backend() == "torch"
    root = ops.maximum(ops.cast(ops.sqrt(ops.cast(v, "float64")), v.dtype) if wide else ops.sqrt(v), 1e-18)
    return ops.where(root > 0.0, 1.0, 0.0) / root


def to_integer(t: Tensor, rounding: Rounding) -> Tensor:
    """Rounds `t` to an integer. ``floor(t + 0.5)`` would give 1 for 0.49999997, and is off above 2**23."""
    if rounding == Rounding.TRN:
        return ops.floor(t)
    if rounding == Rounding.RND_CONV:
        return ops.round(t)  # half to even on TensorFlow, JAX and PyTorch (tested)
    # With t = n + r this is (2n + [r >= 1/2]) - n: exact, and fewer passes over memory than comparing r.
    return ops.floor(t + t) - ops.floor(t)


def bits_of(m: Tensor) -> Tensor:
    """The number of bits of the integer ``m >= 0``: the smallest n >= 0 with ``m < 2**n``."""
    return _positive(_exponent(ops.view(m, _IEEE[_kind(m)][0]), m), m)


def _kind(t: Tensor) -> str:
    return keras.backend.standardize_dtype(t.dtype)


def _exponent(pattern: Tensor, like: Tensor) -> Tensor:
    """n, as an integer, of a number ``2**(n - 1) <= m < 2**n`` given by its bits; below 1 for ``m < 1``."""
    _, bias, fraction_bits = _IEEE[_kind(like)]
    return ops.right_shift(pattern, fraction_bits) - (int(bias) - 1)


def _positive(n: Tensor, like: Tensor) -> Tensor:
    return ops.cast(ops.maximum(n, 0), like.dtype)


_CHUNK = 13
_SET_BITS = np.array([n.bit_count() for n in range(1 << _CHUNK)], np.float32)
"""How many bits are set in each number of 13 bits."""


def signed_digits(m: Tensor) -> Tensor:
    """Of each integer ``|m| < 2**24``: how few powers of two, added or subtracted, make it: the digits of its CSD form.

    1, 4, 6 = 8 - 2 and 7 = 8 - 1 have 1, 1, 2 and 2 digits. They are the bits that differ between m and 3m.
    """
    whole = ops.cast(ops.abs(m), "int32")
    differ = ops.bitwise_xor(whole, whole * 3)
    table = ops.convert_to_tensor(_SET_BITS)
    low, high = ops.bitwise_and(differ, (1 << _CHUNK) - 1), ops.right_shift(differ, _CHUNK)
    return ops.cast(ops.take(table, low) + ops.take(table, high), m.dtype)


def straight_through(value: Tensor, slope: Tensor) -> Tensor:
    """`value`, with the gradient of `slope`."""
    return ops.stop_gradient(value) + (slope - ops.stop_gradient(slope))  # in this order the second part is exactly 0


def magnitude_bits(lo: Tensor, hi: Tensor, symmetric: bool) -> Tensor:
    """Bits without the sign that hold the integers ``lo..hi`` (``lo <= 0 <= hi``), or ``-max..max`` if symmetric."""
    down = ops.abs(lo)  # the negative of 0 has a sign bit
    if symmetric:
        return bits_of(ops.maximum(down, hi))
    integer = _IEEE[_kind(lo)][0]
    # The lower bound reaches one further: -2**n needs n bits only. The number before 2**n in floats has n bits; the
    # one before another number has as many as that. (Not down - 1: that may round.)
    below = _exponent(ops.view(down, integer) - 1, lo)
    return _positive(ops.maximum(below, _exponent(ops.view(hi, integer), lo)), lo)


def bounds(bits: Tensor, signed: Tensor, overflow: Overflow) -> tuple[Tensor, Tensor]:
    """Lowest and highest integer of `bits` magnitude bits. `signed` is 0 or 1, element by element."""
    top = power_of_two(bits)
    hi = top - 1.0
    lo = ops.negative(hi if overflow == Overflow.SAT_SYM else top)
    return lo * signed, hi


def fit(m: Tensor, bits: Tensor, signed: Tensor, overflow: Overflow) -> tuple[Tensor, Tensor]:
    """Brings the integers `m` into range; also returns which of them were inside before."""
    lo, hi = bounds(bits, signed, overflow)
    inside = ops.logical_and(m >= lo, m <= hi)
    if overflow != Overflow.WRAP:
        return ops.clip(m, lo, hi), inside
    # Each step is exact: size is a power of two, and what remains has no more bits than m or the type.
    size = power_of_two(bits + signed)
    rest = m - size * ops.floor(m / size)
    rest = rest - size * signed * ops.cast(rest * 2.0 >= size, m.dtype)
    return ops.where(inside, m, rest), inside


def sum_to(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums `t` over the axes along which a tensor of `shape` was broadcast to it."""
    extra = len(t.shape) - len(shape)
    axes = [*range(extra), *(extra + n for n, size in enumerate(shape) if size == 1 and t.shape[extra + n] != 1)]
    return ops.reshape(ops.sum(t, axis=axes), shape) if axes else t
