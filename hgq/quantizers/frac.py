"""The f parametrisation: fractional bits are trained, integer bits and sign follow from the range of the values."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.quantizers.base import LARGEST_BITS, Between, Quantizer
from hgq.quantizers.exact import Tensor, fit, magnitude_bits, power_of_two, read, steps, sum_to, to_integer


@keras.saving.register_keras_serializable(package="hgq_fpga")
class FracQuantizer(Quantizer):
    """Trains f fractional bits; sign and integer bits are the fewest that hold the tracked range, once rounded.

    Forward, with F = round(f), m = round(x * 2**F)::

        training:   y = m * 2**-F, and the range grows to hold x: nothing wraps or saturates
        inference:  y = fit(m) * 2**-F, fit wraps or saturates to the types of `types()`

    Backward, times the upstream gradient::

        dy/dx = 1 (0 where inference saturated)      dy/df = ln2 * (x - y)      (published HGQ rule)

    A value that rounds to 0 everywhere has zero bits and still a gradient ``ln2 * x`` for f, so it can come back.

    The range of activations is a running minimum and maximum of the values before rounding (rounding is monotone, so
    the rounded bounds bound the rounded values); training lets it shrink by `decay` bits a step, calibration does not.
    The range of a constant (kernel, bias) is that of its present value.

    Args:
        f0: initial fractional bits; for a constant the initial bits of each group instead, counted from the highest
            bit of its largest value: ``f = f0 - (floor(log2 max|w|) + 1)``.
        decay: bits by which the tracked range shrinks in each training step.
    """

    def __init__(
        self,
        *,
        f0: float = 3.0,
        decay: float = 0.01,
        rounding: Rounding | str = Rounding.RND,
        overflow: Overflow | str = Overflow.WRAP,
        granularity: str = "element",
        **kwargs: Any,
    ):
        super().__init__(rounding=rounding, overflow=overflow, granularity=granularity, **kwargs)
        if not abs(f0) <= LARGEST_BITS:
            raise ValueError(f"{self}: f0={f0}; it must lie in -{LARGEST_BITS:.0f}..{LARGEST_BITS:.0f} bits")
        if not decay >= 0:
            raise ValueError(f"{self}: decay={decay}; it must be 0 or more bits a step")
        self.f0, self.decay = f0, decay

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        bounded = Between(-LARGEST_BITS, LARGEST_BITS)
        self.f = self.add_weight(self.group, self._first_frac_bits, name="f", constraint=bounded)
        if self._value is None:
            self.lo = self.add_weight(self.group, "zeros", trainable=False, name="lo")
            self.hi = self.add_weight(self.group, "zeros", trainable=False, name="hi")
            self.seen = self.add_weight((), "zeros", trainable=False, name="seen")

    def _first_frac_bits(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        if self._value is None:
            return ops.full(shape, self.f0, dtype=dtype)
        lo, hi = self._range()
        largest = ops.maximum(ops.negative(lo), hi)
        bits = ops.floor(ops.log2(ops.maximum(largest, 2.0**-LARGEST_BITS))) + 1.0
        f = self.f0 - ops.where(largest > 0, bits, 0.0)
        return ops.cast(ops.clip(f, -LARGEST_BITS, LARGEST_BITS), dtype or "float32")

    def observe(self, x: Tensor, training: bool) -> None:
        if self._value is not None:
            return
        if training or self.calibrating:
            self._widen(x, 0.0 if self.calibrating else self.decay)
        elif self.observer is not None:
            self.observer(self, x)

    def quantized(self, x: Tensor, training: bool) -> Tensor:
        f = read(self.f)
        if training or self.calibrating or self._value is not None:
            return _round(self.rounding, self.group)(x, f)
        signed, bits, frac = self._formats()
        return _round_and_fit(self.rounding, self.overflow, self.group)(x, f, signed, bits, frac)

    def reset_range(self) -> None:
        """Forgets the tracked range."""
        for variable in (self.lo, self.hi, self.seen):
            variable.assign(ops.zeros(variable.shape, variable.dtype))

    def bits(self, sign: bool) -> Tensor:
        """Gradient: 1/sqrt(group) to f where there are bits."""
        magnitude, signed = self._kept_width(self._magnitude_and_sign)
        return magnitude + signed if sign else magnitude

    def _magnitude_and_sign(self) -> tuple[Tensor, Tensor]:
        signed, whole, _ = self._formats()
        f = read(self.f)
        slope = ops.cast(whole + signed > 0.0, f.dtype) * self.share
        return whole + slope * (f - ops.stop_gradient(f)), signed

    @property
    def range_known(self) -> bool:
        return self._value is not None or bool(ops.convert_to_numpy(read(self.seen)) > 0)

    @property
    def tracks_data(self) -> bool:
        """Whether calibration has a range to find here."""
        return self._value is None

    def types(self, shape: tuple[int, ...]) -> FixedArray:
        found = super().types(shape)
        lo, hi = (np.asarray(ops.convert_to_numpy(bound), np.float64) for bound in self._range())
        with np.errstate(over="ignore"):
            lsbs = np.exp2(np.asarray(ops.convert_to_numpy(ops.round(read(self.f))), np.float64))
            scaled = np.maximum(-lo, hi) * lsbs
        if not (scaled < 2.0**126).all():  # NaN too
            raise ValueError(
                f"{self}: its range reaches {np.maximum(-lo, hi).max():.3g}, more than 126 bits in LSBs. "
                "Fix: scale the data, or calibrate again on data without such values."
            )
        return found

    def count_overflows(self, x: Tensor) -> np.ndarray:
        signed, bits, frac = self._formats()
        m = to_integer(x * power_of_two(frac), self.rounding)
        return ~np.asarray(ops.convert_to_numpy(fit(m, bits, signed, self.overflow)[1]))

    def _widen(self, x: Tensor, decay: float) -> None:
        x = ops.stop_gradient(x)
        axes = _shared_axes(x, self.group)
        lo = ops.min(x, axis=axes) if axes else x
        hi = ops.max(x, axis=axes) if axes else x
        keep = 2.0**-decay
        self.lo.assign(ops.minimum(self.lo * keep, ops.reshape(lo, self.group)))
        self.hi.assign(ops.maximum(self.hi * keep, ops.reshape(hi, self.group)))
        self.seen.assign(ops.ones((), self.seen.dtype))

    def _range(self) -> tuple[Tensor, Tensor]:
        """Bounds of the values before rounding, per group; 0 is always within."""
        if self._value is None:
            return read(self.lo), read(self.hi)
        value = ops.stop_gradient(self._value())
        axes = [axis for axis, size in enumerate(self.group) if size == 1]
        lo = ops.min(value, axis=axes, keepdims=True) if axes else value
        hi = ops.max(value, axis=axes, keepdims=True) if axes else value
        return ops.minimum(lo, 0.0), ops.maximum(hi, 0.0)

    def _formats(self) -> tuple[Tensor, Tensor, Tensor]:
        frac = ops.round(ops.stop_gradient(read(self.f)))
        scale = power_of_two(frac)
        lo, hi = (to_integer(bound * scale, self.rounding) for bound in self._range())
        signed = ops.cast(lo < 0.0, frac.dtype)
        return signed, magnitude_bits(lo, hi, self.overflow == Overflow.SAT_SYM), frac

    def _sign_alone(self) -> int:
        return 1

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"f0": self.f0, "decay": self.decay}


def _shared_axes(x: Tensor, group: tuple[int, ...]) -> list[int]:
    extra = len(x.shape) - len(group)
    return [*range(extra), *(extra + axis for axis, size in enumerate(group) if size == 1)]


def _round(rounding: Rounding, group: tuple[int, ...]) -> Any:
    """(x, f) -> x rounded to f fractional bits, with the gradients of the class."""

    @ops.custom_gradient
    def rounded(x: Tensor, f: Tensor) -> Any:
        up, down = steps(ops.round(f))
        y = to_integer(x * up, rounding) * down

        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:
            up = args[0] if upstream is None else upstream
            return up, sum_to(up * (x - y), group) * _LN2

        return y, gradient

    return rounded


def _round_and_fit(rounding: Rounding, overflow: Overflow, group: tuple[int, ...]) -> Any:
    """(x, f, sign, magnitude bits, F) -> what hardware computes; the last three get no gradient."""

    @ops.custom_gradient
    def fitted(x: Tensor, f: Tensor, signed: Tensor, bits: Tensor, frac: Tensor) -> Any:
        up, down = steps(frac)
        m, inside = fit(to_integer(x * up, rounding), bits, signed, overflow)
        y = m * down

        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, ...]:
            up = args[0] if upstream is None else upstream
            if overflow != Overflow.WRAP:
                up = ops.where(inside, up, ops.zeros_like(up))
            error = ops.where(inside, x - y, ops.zeros_like(x))
            none = ops.zeros_like(signed)
            return up, sum_to(up * error, group) * _LN2, none, none, none

        return y, gradient

    return fitted


_LN2 = math.log(2.0)
