"""Activations with quantizers: fixed ones, and the rectifier with learned slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.base import QLayer
from hgq.layers.luts import COMPARED, scales
from hgq.layers.price import Measure
from hgq.layers.rectify import nearest
from hgq.quantizers import Quantizer, WidthQuantizer
from hgq.quantizers.base import Between
from hgq.quantizers.exact import Tensor, read
from hgq.resource.ebops import affine_ebops

Constant = tuple[np.ndarray, FixedArray]
SLOPED = ("leaky_relu", "hard_sigmoid")
"""Activations that multiply by a constant, which the layer owns."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QActivation(QLayer):
    """``y = output_quantizer(activation(input_quantizer(x)))``; quantizers that are None are left out.

    leaky_relu is ``max(x, c * x)`` and hard_sigmoid ``min(max(c * x + 1/2, 0), 1)``, where c is the fixed-point number
    of `constant_bits` bits nearest to negative_slope or 1/6, in training as in hardware.

    Backward: the quantizers' rules around the activation's own derivative.

    EBOPs: the bits of c times the width of each element, where there is a c.

    Args:
        activation: "linear", "relu", "relu6", "hard_tanh", "leaky_relu" or "hard_sigmoid". Others: `QFunction`.
        negative_slope: of leaky_relu, above 0, at most 1.
        constant_bits: bits of c.
        input_quantizer, output_quantizer: at least one of them; an input quantizer where there is a c.
    """

    def __init__(
        self,
        activation: str | None = "linear",
        *,
        negative_slope: float = 0.2,
        constant_bits: int = 8,
        **kwargs: Any,
    ):
        sloped = isinstance(activation, str) and activation in SLOPED
        super().__init__(activation=None if sloped else activation, **kwargs)
        if sloped:
            self.activation_name = str(activation)
        if self.input_quantizer is None and self.output_quantizer is None:
            raise ValueError(
                f"{self}: it has neither an input_quantizer nor an output_quantizer, so it quantizes nothing. "
                "Fix: give it one, or use keras.layers.ReLU."
            )
        if sloped and self.input_quantizer is None:
            raise ValueError(
                f"{self}: input_quantizer=None, but {activation} multiplies, and everything that enters a "
                'multiplication must be quantised. Fix: leave the argument out or pass "default".'
            )
        if not 0 < negative_slope <= 1:
            raise ValueError(
                f"{self}: negative_slope={negative_slope}; it must be above 0 and at most 1. Fix: or relu."
            )
        if not isinstance(constant_bits, int | np.integer) or not 1 <= constant_bits <= 16:
            raise ValueError(f"{self}: constant_bits={constant_bits!r}; it must be a whole number in 1..16")
        self.negative_slope, self.constant_bits = float(negative_slope), int(constant_bits)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._attach(input_shape, input_shape)

    def slope(self) -> tuple[int, int] | None:
        """c as an integer and its fractional bits; None where nothing is multiplied."""
        if self.activation_name not in SLOPED:
            return None
        value = self.negative_slope if self.activation_name == "leaky_relu" else 1 / 6
        return nearest(value, self.constant_bits)

    def affine(self) -> tuple[Constant, Constant]:
        """c and what is added to ``c * x``: integers and types, for each element alike."""
        m, frac = self.slope()  # type: ignore[misc]
        half = int(self.activation_name == "hard_sigmoid")
        return tuple(  # type: ignore[return-value]
            (np.array([n]), FixedArray.holding(np.array([0]), np.array([n]), np.array([f])))
            for n, f in ((m, frac), (half, half))
        )

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        return self._finish(self._quantize_input(x, training), training)

    def _activate(self, y: Tensor) -> Tensor:
        slope = self.slope()
        if slope is None:
            return super()._activate(y)
        scaled = y * math.ldexp(slope[0], -slope[1])
        return ops.maximum(y, scaled) if self.activation_name == "leaky_relu" else ops.clip(scaled + 0.5, 0.0, 1.0)

    def exact_ebops(self) -> int:
        if self.slope() is None:
            return 0
        return affine_ebops(*self.affine(), self.input_quantizer.types(self._known_input_shape()).width)

    def ebops_bar(self) -> Tensor:
        slope = self.slope()
        if slope is None:
            return super().ebops_bar()
        sizes = tuple(size or 1 for size in self.input_shape_)
        bits = ops.sum(ops.broadcast_to(self.input_quantizer.bits(sign=True), sizes)) * float(slope[0].bit_length())
        return bits + (float(np.prod(sizes)) if self.activation_name == "hard_sigmoid" else 0.0)

    def luts(self) -> Tensor:
        return self._luts_before() + self.own_luts()

    def own_luts(self) -> Tensor:
        """LUTs of the activation and what limits its results."""
        slope = self.slope()
        if slope is None:
            return self._luts_behind()
        widths = self._widths(self.input_quantizer, self.input_shape_)
        return self._luts_behind() + scales(widths, np.array(slope[0])) + COMPARED * ops.sum(widths)

    def compute(self, x: Tensor, training: bool, quantize: Callable[[Quantizer, Tensor], Tensor]) -> Tensor:  # noqa: ARG002
        """The results, with a function of one's own that applies quantizers; changes nothing by itself."""
        if self.input_quantizer is not None:
            x = quantize(self.input_quantizer, x)
        x = self._activate(x)
        return x if self.output_quantizer is None else quantize(self.output_quantizer, x)

    def output_bits(self, measure: Measure, sign: bool) -> Tensor | None:
        if self.output_quantizer is not None:
            return super().output_bits(measure, sign)
        if self.activation_name not in ("linear", "relu"):
            return None
        return measure(self.input_quantizer, self.input_shape_, sign and self.activation_name == "linear")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"negative_slope": self.negative_slope, "constant_bits": self.constant_bits}


def _slope_quantizer() -> WidthQuantizer:
    """Slopes of 0 to 15/16."""
    return WidthQuantizer(b0=4.0, i0=0.0, signed=False, overflow="SAT")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QPReLU(QLayer):
    """``y = output_quantizer(max(q(x), q(alpha) * q(x)))`` with trained slopes of 0 to 1.

    Backward: to x as the rectifier has it, to alpha x where it is negative, through the quantizers' rules; alpha is
    kept within 0 to 1.

    EBOPs-bar of a call: ``width(x) * magnitude_bits(alpha)`` of each element.

    Args:
        alpha_initializer: as in Keras, with values of 0 to 1.
        shared_axes: axes along which slopes are shared, counted with the batch axis as in Keras.
        alpha_quantizer: never None; "default" trains unsigned types of its own for each slope.
        input_quantizer: never None.
        output_quantizer, beta, gamma: see `QLayer`.
    """

    takes_activation = False

    def __init__(
        self,
        alpha_initializer: Any = None,
        *,
        shared_axes: int | Sequence[int] | None = None,
        alpha_quantizer: Any = "default",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha_initializer = keras.initializers.get(alpha_initializer or keras.initializers.Constant(0.25))
        axes = [] if shared_axes is None else [shared_axes] if isinstance(shared_axes, int) else list(shared_axes)
        self.shared_axes = [int(n) for n in axes]
        self.alpha_quantizer = self._quantizer("alpha_quantizer", alpha_quantizer, _slope_quantizer)
        for name in ("input_quantizer", "alpha_quantizer"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"{self}: {name}=None, but everything that enters a multiplication must be quantised. "
                    'Fix: leave the argument out or pass "default".'
                )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rank = len(input_shape)
        shared = [n + rank if n < 0 else n for n in self.shared_axes]
        if not all(1 <= n < rank for n in shared):
            raise ValueError(
                f"{self}: shared_axes={self.shared_axes} does not fit its input {tuple(input_shape)}. "
                "Fix: name axes other than the batch axis."
            )
        shape = tuple(1 if n in shared else size for n, size in enumerate(input_shape))[1:]
        if None in shape:
            raise ValueError(
                f"{self}: its input {tuple(input_shape)} has an axis of no known size. Fix: share the slopes along it."
            )
        self.alpha = self.add_weight(shape, self.alpha_initializer, name="alpha", constraint=Between(0.0, 1.0))
        self.alpha_quantizer.attach(shape, str(self), lambda: read(self.alpha))
        self._attach(input_shape, input_shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        return self._finish(ops.maximum(x, x * self.alpha_quantizer.apply(read(self.alpha), training)), training)

    def constants(self) -> dict[str, Constant]:
        value = self.alpha_quantizer.apply(read(self.alpha), training=False)
        return {"alpha": self._numpy_constant("alpha", value, self.alpha_quantizer)}

    def affine(self) -> tuple[Constant, Constant]:
        """Slopes and the zeros added to ``alpha * x``: integers and types."""
        value, types = self.constants()["alpha"]
        zero = np.zeros(value.shape, np.int64)
        return (np.ldexp(value, types.frac).astype(np.int64), types), (zero, FixedArray(zero > 0, zero, zero))

    def exact_ebops(self) -> int:
        return affine_ebops(*self.affine(), self.input_quantizer.types(self._known_input_shape()).width)

    def ebops_bar(self) -> Tensor:
        sizes = tuple(size or 1 for size in self.input_shape_)
        products = self.input_quantizer.bits(sign=True) * self.alpha_quantizer.bits(sign=False)
        return ops.sum(ops.broadcast_to(products, sizes))

    def luts(self) -> Tensor:
        widths = self._widths(self.input_quantizer, self.input_shape_)
        own = ops.sum(widths * self.alpha_quantizer.digits()) + COMPARED * ops.sum(widths)
        return self._luts_before() + self._luts_behind() + own

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        return super().quantized_shapes() | {"alpha_quantizer": tuple(self.alpha.shape)}

    def _quantizer_names(self) -> tuple[str, ...]:
        return "input_quantizer", "alpha_quantizer", "output_quantizer"

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.alpha_initializer)
        return super().get_config() | {"alpha_initializer": initializer, "shared_axes": self.shared_axes}
