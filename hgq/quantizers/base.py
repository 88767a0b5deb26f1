"""What every quantizer promises to layers and to the converter."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.quantizers.exact import Tensor, power_of_two, signed_digits, straight_through

GRANULARITIES = ("tensor", "channel", "element")
LARGEST_BITS = 24.0
"""Trained bit counts stay within this: float32 has no more."""


class Quantizer(keras.layers.Layer):
    """Base of the learnable fixed-point quantizers.

    A quantizer passed to a layer is a template: the layer owns a copy made from its configuration, so one object may
    be given to many layers. It is a Keras layer only to have its variables tracked and saved; in a model it stands
    inside `QDense`, `QActivation` and so on, never by itself.

    The converter reads `rounding`, `overflow`, `types(shape)` and `range_known`.

    Args:
        rounding: TRN, RND or RND_CONV.
        overflow: WRAP, SAT or SAT_SYM.
        granularity: what shares one type: "tensor", "channel" (each index of the last axis has its own) or "element"
            (each element of the tensor, without the batch axis, has its own).
    """

    def __init__(
        self,
        *,
        rounding: Rounding | str = Rounding.RND,
        overflow: Overflow | str = Overflow.WRAP,
        granularity: str = "element",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.rounding = self._choice(Rounding, "rounding", rounding)
        self.overflow = self._choice(Overflow, "overflow", overflow)
        if granularity not in GRANULARITIES:
            raise ValueError(f"{self}: granularity={granularity!r}; choose one of {', '.join(GRANULARITIES)}")
        self.granularity = granularity
        self.owner = ""
        self.calibrating = False
        self.observer: Callable[[Quantizer, Tensor], None] | None = None
        self._value: Callable[[], Tensor] | None = None
        self._width: tuple[Tensor, Tensor] | None = None
        self._keeps_width = False

    def attach(self, shape: tuple[int | None, ...], owner: str, value: Callable[[], Tensor] | None = None) -> None:
        """Builds the quantizer for tensors of `shape` (no batch axis) as part of the layer `owner`.

        Args:
            value: for a constant (kernel, bias): returns its float value, whose range is then the tracked one.
        """
        self.owner = owner
        self._value = value
        self.build(tuple(shape))

    def build(self, shape: tuple[int | None, ...]) -> None:
        last = len(shape) - 1
        group = [
            size if self.granularity == "element" or (self.granularity == "channel" and axis == last) else 1
            for axis, size in enumerate(shape)
        ]
        if None in group:
            raise ValueError(
                f"{self}: granularity={self.granularity!r} needs axes of known size, the tensor has shape {shape}. "
                'Fix: give the model a fully known input shape, or use granularity="channel" or "tensor".'
            )
        self.group: tuple[int, ...] = tuple(int(size) for size in group)  # type: ignore[arg-type]
        members = [size for size, kept in zip(shape, group, strict=True) if kept == 1 and size]
        # A width that n elements share gets n times the gradient of the cost: the published factor is 1/sqrt(n).
        self.share = 1.0 / math.sqrt(math.prod(members))

    def apply(self, x: Tensor, training: bool) -> Tensor:
        """The quantised value of `x`, with gradients as the class states. `training=False` is what hardware does."""
        self.observe(x, training)
        return self.quantized(x, training)

    @abstractmethod
    def quantized(self, x: Tensor, training: bool) -> Tensor:
        """The quantised value of `x`; changes nothing, so that the loop over a sequence may hold it."""

    def observe(self, x: Tensor, training: bool) -> None:
        """What `apply` does beside: tracks the range of `x`, lets an observer count. `x` may have axes after batch."""

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within, the quantizer's variables stay as they are, so that its width is computed once for all who ask."""
        self._keeps_width = True
        try:
            yield
        finally:
            self._width, self._keeps_width = None, False

    def _kept_width(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Magnitude and sign bits of each group, as `make` gives them."""
        found = make() if self._width is None else self._width
        if self._keeps_width:
            self._width = found
        return found

    @abstractmethod
    def bits(self, sign: bool) -> Tensor:
        """Width of each group in bits, with or without the sign bit; differentiable, straight through the rounding.

        Its gradient is scaled by ``1/sqrt(elements of the group)``.
        """

    def constant(self) -> Tensor | None:
        """The float value of the constant that is quantised; None where data are."""
        return None if self._value is None else self._value()

    def digits(self) -> Tensor:
        """Signed digits of each element of the constant that is quantised; differentiable, straight through.

        The value counts digits of the exact mantissa (`signed_digits`); the gradient is that of ``bits(sign=False)``,
        1 for each bit of a live width: the digits that a bit may hold, not the half or third that it holds on average.
        """
        frac = ops.stop_gradient(self._formats()[2])
        value = ops.stop_gradient(self.quantized(self._constant(), training=False))
        found = signed_digits(value * power_of_two(frac))
        return straight_through(found, ops.broadcast_to(self.bits(sign=False), found.shape))

    def spare_bits(self) -> Tensor:
        """Bits of each element of the constant that is quantised beyond its first, without the sign; no gradient."""
        bits = ops.stop_gradient(self.bits(sign=False))
        return ops.broadcast_to(ops.relu(bits - 1.0), self._constant().shape)

    def _constant(self) -> Tensor:
        """As `constant`, where there must be one."""
        found = self.constant()
        if found is None:
            raise ValueError(f"{self}: it quantises no constant of a layer, so it has no digits")
        return found

    @abstractmethod
    def _formats(self) -> tuple[Tensor, Tensor, Tensor]:
        """Per group: sign bit (0 or 1), magnitude bits, fractional bits, as used at inference."""

    @property
    def range_known(self) -> bool:
        """False while the range is to be read off data that has not been seen."""
        return True

    def types(self, shape: tuple[int, ...]) -> FixedArray:
        """The exact types used at inference, one for each element of a tensor of `shape` (no batch axis)."""
        signed, bits, frac = (np.asarray(ops.convert_to_numpy(t), np.float64) for t in self._formats())
        for name, array in (("width", bits), ("number of fractional bits", frac)):
            if not np.isfinite(array).all():
                raise ValueError(
                    f"{self}: a {name} is {array[~np.isfinite(array)][0]}: training has diverged. "
                    "Fix: train again with a lower learning rate, or load an earlier checkpoint."
                )
            if np.abs(array).max(initial=0) > _LARGEST:
                raise ValueError(
                    f"{self}: a {name} is {array.flat[np.abs(array).argmax()]:.0f}; float32 scales by 2^-{_LARGEST} to "
                    f"2^{_LARGEST}. Fix: give it fewer bits, or train with a bound on its width."
                )
        # At zero magnitude bits only WRAP and SAT have a value besides 0, and only a tracked range asks for it.
        kept = np.where(bits > 0, signed, self._sign_alone() * signed)
        return FixedArray(kept > 0, bits + kept, frac).broadcast_to(tuple(shape))

    def _sign_alone(self) -> int:
        """Whether a sign bit without magnitude bits is a value (-1 or 0 LSB) and not the constant 0."""
        return 0

    def count_overflows(self, x: Tensor) -> np.ndarray:
        """For the samples `x`: which elements lie outside the range after rounding. Boolean, shape of `x`."""
        raise NotImplementedError(f"{self} tracks no range")

    def call(self, x: Tensor) -> Tensor:  # noqa: ARG002
        raise TypeError(
            f"{self} is no layer of a model. Fix: QActivation('linear', input_quantizer=...) applies a quantizer."
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "rounding": str(self.rounding),
            "overflow": str(self.overflow),
            "granularity": self.granularity,
        }

    def get_build_config(self) -> None:
        """None: the layer that owns the quantizer builds it."""
        return None

    def copy(self, name: str, dtype: Any) -> Self:
        """A new, unbuilt quantizer with the same configuration."""
        return type(self).from_config(self.get_config() | {"name": name, "dtype": dtype})

    def __str__(self) -> str:
        return f"{self.owner}: {self.name}" if getattr(self, "owner", "") else f"{type(self).__name__} '{self.name}'"

    def _choice(self, enum: type, what: str, value: Any) -> Any:
        try:
            return enum(value)
        except ValueError:
            options = ", ".join(enum)  # type: ignore[arg-type]
            raise ValueError(f"{self}: {what}={value!r}; choose one of {options}") from None


_LARGEST = 126
"""Bits before or after the binary point, at most: 2^127 is the largest power of two that float32 holds."""


class Between(keras.constraints.Constraint):
    """Keeps a trained bit count within bounds after each step: it must not drift away where it has no effect."""

    def __init__(self, least: float, most: float):
        self.least, self.most = least, most

    def __call__(self, n: Tensor) -> Tensor:
        return ops.clip(n, self.least, self.most)
