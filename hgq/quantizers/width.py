"""The (b, i) parametrisation: magnitude bits and integer bits are trained, and values outside saturate."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from hgq.fixed import Overflow, Rounding
from hgq.quantizers.base import LARGEST_BITS, Between, Quantizer
from hgq.quantizers.exact import Tensor, bounds, fit, power_of_two, read, sum_to, to_integer


@keras.saving.register_keras_serializable(package="hgq_fpga")
class WidthQuantizer(Quantizer):
    """Trains b magnitude bits and i integer bits (both without the sign); ``f = b - i`` fractional bits.

    Forward, with B = round(b), I = round(i), lsb = 2**(I - B), m = round(x / lsb)::

        y = lsb * fit(m)        fit saturates or wraps to -(2**B - 1) .. 2**B - 1   (SAT_SYM)
                                                      -2**B       .. 2**B - 1   (SAT, WRAP)
                                                      0           .. 2**B - 1   (not signed)

    B = 0 is the constant 0 under every overflow mode: the value is pruned.

    Backward (straight through the roundings of b, i and m), times the upstream gradient::

        inside:         dy/dx = 1    dy/db = ln2 * (x - y)      dy/di = -ln2 * (x - y)
        at upper bound: dy/dx = 0    dy/db = ln2 * lsb          dy/di = ln2 * y
        at lower bound: dy/dx = 0    dy/db = -ln2 * lsb         dy/di = ln2 * y          (SAT_SYM, or pruned)
                                     dy/db = 0                  dy/di = ln2 * y          (SAT)
        wrapped:        dy/dx = 1    dy/db = ln2 * (x - lsb*m)  dy/di = -ln2 * (x - y)   (WRAP)
        pruned:         dy/dx = 1    dy/db = ln2 * x            dy/di = -ln2 * x         (WRAP)

    so a saturated value moves with its bound, and a pruned one can come back.

    Args:
        b0: initial magnitude bits.
        i0: initial integer bits; None takes them from the largest value of each group, if it is a constant.
        signed: whether negative values exist.
    """

    def __init__(
        self,
        *,
        b0: float = 3.0,
        i0: float | None = 0.0,
        signed: bool = True,
        rounding: Rounding | str = Rounding.RND,
        overflow: Overflow | str = Overflow.SAT_SYM,
        granularity: str = "element",
        **kwargs: Any,
    ):
        super().__init__(rounding=rounding, overflow=overflow, granularity=granularity, **kwargs)
        if not 0 <= b0 <= LARGEST_BITS:
            raise ValueError(f"{self}: b0={b0}; it must lie in 0..{LARGEST_BITS:.0f} bits")
        if i0 is not None and not abs(i0) <= LARGEST_BITS:
            raise ValueError(f"{self}: i0={i0}; it must lie in -{LARGEST_BITS:.0f}..{LARGEST_BITS:.0f} bits")
        self.b0, self.i0, self.signed = b0, i0, bool(signed)

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        if self.i0 is None and self._value is None:
            raise ValueError(f"{self}: i0=None reads the range off a constant. Fix: give i0 a number here.")
        bounded = Between(0.0, LARGEST_BITS), Between(-LARGEST_BITS, LARGEST_BITS)
        self.b = self.add_weight(self.group, keras.initializers.Constant(self.b0), name="b", constraint=bounded[0])
        self.i = self.add_weight(self.group, self._first_integer_bits, name="i", constraint=bounded[1])

    def _first_integer_bits(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        if self.i0 is not None:
            return ops.full(shape, self.i0, dtype=dtype)
        value = ops.abs(self._value())  # type: ignore[misc]
        axes = [axis for axis, size in enumerate(shape) if size == 1]
        largest = ops.max(value, axis=axes, keepdims=True) if axes else value
        # A start, not a type: log2 need not be exact here. Zeros (a fresh bias) start at one integer bit less.
        bits = ops.where(largest > 0, ops.ceil(ops.log2(ops.maximum(largest, 2.0**-LARGEST_BITS))), -1.0)
        return ops.cast(bits, dtype or "float32")

    def quantized(self, x: Tensor, training: bool) -> Tensor:  # noqa: ARG002 (both phases are the same here)
        return _quantize(self.rounding, self.overflow, self.signed, self.group)(x, read(self.b), read(self.i))

    def bits(self, sign: bool) -> Tensor:
        """Gradient: 1/sqrt(group) to b where b > 0."""
        magnitude, signed = self._kept_width(self._magnitude_and_sign)
        return magnitude + signed if sign and self.signed else magnitude

    def _magnitude_and_sign(self) -> tuple[Tensor, Tensor]:
        b = read(self.b)
        fixed = ops.stop_gradient(b)
        whole = ops.round(fixed)
        slope = ops.cast(fixed > 0.0, b.dtype) * self.share
        return whole + slope * (b - fixed), ops.cast(whole > 0.0, b.dtype)

    def _formats(self) -> tuple[Tensor, Tensor, Tensor]:
        b, i = ops.round(self.b), ops.round(self.i)
        return ops.full(self.group, float(self.signed)), b, b - i

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"b0": self.b0, "i0": self.i0, "signed": self.signed}


def _quantize(rounding: Rounding, overflow: Overflow, is_signed: bool, group: tuple[int, ...]) -> Any:
    """The function (x, b, i) -> y of the class, with its gradient."""

    @ops.custom_gradient
    def quantize(x: Tensor, b: Tensor, i: Tensor) -> Any:
        whole_b = ops.round(b)
        frac = whole_b - ops.round(i)
        scale = power_of_two(frac)
        # B = 0 leaves no sign bit either, so that 0 is the only value.
        signed = ops.cast(whole_b > 0.0, x.dtype) * float(is_signed)
        m = to_integer(x * scale, rounding)
        fitted, inside = fit(m, whole_b, signed, overflow)
        y = fitted / scale  # as exact as a product, and XLA does it once for a whole batch: see `steps`

        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor, Tensor]:
            up = args[0] if upstream is None else upstream
            lsb = power_of_two(ops.negative(frac))  # cheap, where a quotient would be one more array
            if overflow == Overflow.WRAP:
                to_b = x - m * lsb * ops.cast(whole_b > 0.0, x.dtype)
                return up, sum_to(up * to_b, group) * _LN2, sum_to(up * (y - x), group) * _LN2
            lo, hi = bounds(whole_b, signed, overflow)
            moves = ops.cast(m > hi, x.dtype)
            if is_signed:
                below = ops.cast(m < lo, x.dtype)
                moves = moves - (below if overflow == Overflow.SAT_SYM else below * (1.0 - signed))
            zero = ops.zeros_like(x)
            to_b = ops.where(inside, x - y, moves * lsb)
            to_i = ops.where(inside, y - x, y)
            return ops.where(inside, up, zero), sum_to(up * to_b, group) * _LN2, sum_to(up * to_i, group) * _LN2

        return y, gradient

    return quantize


_LN2 = math.log(2.0)
