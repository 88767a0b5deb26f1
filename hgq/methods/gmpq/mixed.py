"""The quantizer of the super-net: a mixture of fixed-point roundings of one tensor, with trained shares."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import Overflow, Rounding
from hgq.quantizers import Quantizer
from hgq.quantizers.base import Between
from hgq.quantizers.exact import Tensor, power_of_two, read, to_integer

SCALES = ("po2", "paper")
ALPHA0 = 0.01
"""Where every alpha starts: all widths with the same share (GMPQ code)."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class MixedQuantizer(Quantizer):
    """``y = sum_n softmax(alpha)_n Q_n(x)``: rounding to each of some widths, mixed (GMPQ, as EdMIPS; its public code).

    Q_n clips and rounds (half up) to the integers ``lo..hi`` of width n (bits, sign included), times a step::

        signed constant:     -(2^(n-1) - 1) .. 2^(n-1) - 1     signed activation: -2^(n-1) .. 2^(n-1) - 1
        unsigned activation: 0 .. 2^n - 1

    The step of a constant is latched once (`latch`) and not trained. That of an activation follows from its trained
    clip r (as PACT)::

        scale="po2":    step = 2^round(log2 r) / 2^n, or / 2^(n-1) if signed; one r for each width
        scale="paper":  step = r / (2^n - 1), or / (2^(n-1) - 1) if signed; one r for all widths

    Backward: straight through the rounding, 0 to x where it is clipped and then ``dy/dr = y / r`` instead; straight
    through the rounding of log2 r. Every Q_n leaves its trace in alpha by the softmax.

    A mixture has no fixed-point type; `types` raises. `bits` gives the expected width.

    Args:
        widths: the candidates, in bits with the sign, rising.
        signed: whether negative values exist.
        scale: "po2", steps that hardware has, or "paper", float steps.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (2, 3, 4, 6),
        *,
        signed: bool = True,
        scale: str = "po2",
        granularity: str = "tensor",
        **kwargs: Any,
    ):
        kwargs = {name: value for name, value in kwargs.items() if name not in ("rounding", "overflow")}
        super().__init__(rounding=Rounding.RND, overflow=Overflow.SAT, granularity=granularity, **kwargs)
        self.widths = checked_widths(widths)
        if scale not in SCALES:
            raise ValueError(f"{self}: scale={scale!r}; choose one of {', '.join(SCALES)}")
        self.signed, self.scale = bool(signed), scale

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        count = len(self.widths)
        self.alpha = self.add_weight((count,), keras.initializers.Constant(ALPHA0), name="alpha")
        if self._value is not None:
            self.step = self.add_weight((count, *self.group), "ones", trainable=False, name="step")
        else:
            clips = count if self.scale == "po2" else 1
            bounded = Between(2.0**-60, 2.0**60)
            self.clip = self.add_weight((clips,), keras.initializers.Constant(6.0), name="clip", constraint=bounded)

    def latch(self, ranges: np.ndarray) -> None:
        """Fixes the steps of a constant, or the first clip of an activation.

        Args:
            ranges: for each width the largest value to reach, broadcast to ``(widths, *group)``; with "po2" powers of
                two, of which ``2^(n-1) - 1`` steps (or ``2^n - 1``) are reached. Of an activation ``(widths,)``.
        """
        if self._value is None:
            self.clip.assign(ranges if self.scale == "po2" else np.max(ranges, keepdims=True))
            return
        steps = [1.0 / (2 ** (n - 1) - (self.scale == "paper")) for n in self.widths]
        ranges = np.broadcast_to(ranges, self.step.shape)
        self.step.assign(ranges * np.reshape(steps, (-1, *(1,) * len(self.group))))

    def shares(self) -> Tensor:
        """softmax(alpha), one for each width."""
        if len(self.widths) == 1:
            return ops.ones_like(read(self.alpha))  # Keras warns of a softmax of one value
        return ops.softmax(read(self.alpha))

    def expected_width(self) -> Tensor:
        """Bits with the sign, a scalar; differentiable in alpha."""
        return ops.sum(self.shares() * ops.convert_to_tensor(np.array(self.widths), dtype=self.compute_dtype))

    def bits(self, sign: bool) -> Tensor:
        """The expected width for each group, with or without the sign bit."""
        width = self.expected_width() - (0.0 if sign or not self.signed else 1.0)
        return ops.broadcast_to(width, self.group)

    def quantized(self, x: Tensor, training: bool) -> Tensor:  # noqa: ARG002 (both phases are the same)
        shares = ops.reshape(self.shares(), (-1, *(1,) * len(x.shape)))
        return ops.sum(shares * self.candidates(x), axis=0)

    def candidates(self, x: Tensor) -> Tensor:
        """`x` rounded to each width, along a new first axis."""
        steps = self._steps()
        steps = ops.reshape(steps, (steps.shape[0], *(1,) * (len(x.shape) - len(self.group)), *steps.shape[1:]))
        lo, hi = (self._vector(end, x) for end in zip(*map(self._bounds, self.widths), strict=True))
        inside = ops.minimum(ops.maximum(ops.expand_dims(x, 0), lo * steps), hi * steps)
        # The difference of a value and its rounding is exact in floats, and so is this sum.
        return inside + ops.stop_gradient(to_integer(inside / steps, self.rounding) * steps - inside)

    def mantissas(self, x: Tensor) -> np.ndarray:
        """The integers that each width makes of `x`, along a new first axis."""
        steps = ops.convert_to_numpy(self._steps())
        values = np.asarray(ops.convert_to_numpy(self.candidates(x)), np.float64)
        return np.rint(values / steps.reshape(len(steps), *(1,) * (values.ndim - steps.ndim), *steps.shape[1:]))

    def observe(self, x: Tensor, training: bool) -> None:
        """Nothing: ranges are trained or latched."""

    def _steps(self) -> Tensor:
        """The step of each width, ``(widths, *group)``."""
        if self._value is not None:
            return read(self.step)
        clip = read(self.clip)
        if self.scale == "paper":
            steps = clip / ops.convert_to_tensor(np.array([hi for _, hi in map(self._bounds, self.widths)]), clip.dtype)
        else:
            top = power_of_two(ops.round(ops.log2(ops.stop_gradient(clip))))
            per_range = np.exp2([float(self.signed - n) for n in self.widths])
            steps = (clip + ops.stop_gradient(top - clip)) * ops.convert_to_tensor(per_range, clip.dtype)
        return ops.reshape(steps, (-1, *(1,) * len(self.group)))

    def _vector(self, values: tuple[float, ...], x: Tensor) -> Tensor:
        return ops.convert_to_tensor(np.reshape(values, (-1, *(1,) * len(x.shape))), x.dtype)

    def _bounds(self, width: int) -> tuple[float, float]:
        hi = 2.0 ** (width - self.signed) - 1.0
        if not self.signed:
            return 0.0, hi
        return (-hi if self._value is not None or self.scale == "paper" else -hi - 1.0), hi

    def _formats(self) -> tuple[Tensor, Tensor, Tensor]:
        raise ValueError(
            f"{self}: a mixture of the widths {', '.join(map(str, self.widths))} has no fixed-point type. "
            "Fix: take the policy of the super-net and deploy it."
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"widths": list(self.widths), "signed": self.signed, "scale": self.scale}


def checked_widths(widths: Any) -> tuple[int, ...]:
    """Candidate widths as a tuple.

    Raises:
        ValueError: they are not rising whole numbers in 2..16.
    """
    found = tuple(int(n) for n in widths)
    rising = list(widths) == sorted(set(found))
    if not found or not rising or not 2 <= found[0] <= found[-1] <= 16:
        raise ValueError(f"widths={widths!r}; give whole numbers of bits in 2..16, rising, as (2, 3, 4, 6)")
    return found
