"""Batch normalisation by itself: a quantised scale and offset for each channel; and what its fused forms share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.base import QLayer
from hgq.layers.luts import biases
from hgq.quantizers import FracQuantizer
from hgq.quantizers.exact import Tensor, inverse_root, read
from hgq.resource.ebops import affine_ebops


class BatchStatistics(QLayer):
    """Mean and variance over all axes but the last: of the batch in training, moving ones at inference::

        factor = gamma / sqrt(variance + epsilon)      bias = beta - mean * factor
        moving = moving * momentum + batch * (1 - momentum)

    At inference both are computed in float32 whatever the dtype of the layer, so that a float64 copy of a model has
    the same constants.

    Args:
        momentum, epsilon, center, scale: as for keras.layers.BatchNormalization.
    """

    def __init__(
        self,
        *args: Any,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(f"{self}: momentum={momentum}; it must lie in 0..1")
        if not 0 < epsilon < float("inf"):
            raise ValueError(f"{self}: epsilon={epsilon}; it must be above 0")
        self.momentum, self.epsilon = momentum, epsilon
        self.center, self.scale = bool(center), bool(scale)

    def _build_statistics(self, channels: int, beta_initializer: Any) -> None:
        self.norm_gamma = self.add_weight((channels,), "ones", name="gamma") if self.scale else None
        self.norm_beta = self.add_weight((channels,), beta_initializer, name="beta") if self.center else None
        self.moving_mean = self.add_weight((channels,), "zeros", trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight((channels,), "ones", trainable=False, name="moving_variance")

    def _of_batch(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and bias by the statistics of the batch `z`, which move the moving ones."""
        mean, variance = ops.moments(z, axes=list(range(len(z.shape) - 1)))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1.0 - self.momentum))
        factor = 1.0 / ops.sqrt(variance + self.epsilon)
        if self.norm_gamma is not None:
            factor = factor * self.norm_gamma
        bias = ops.negative(mean * factor)
        return factor, bias if self.norm_beta is None else bias + self.norm_beta

    def _factor(self) -> Tensor:
        """The factor at inference, in float32."""
        factor = inverse_root(single(self.moving_variance) + self.epsilon)
        return factor if self.norm_gamma is None else factor * single(self.norm_gamma)

    def _float_bias(self) -> Tensor:
        """The bias at inference."""
        moved = single(self.moving_mean) * self._factor()
        # Cut off below 2**-24: compilers may fuse product and sum into one operation that rounds once, but not
        # through a floor. So compiled and eager inference give the same bits.
        moved = ops.floor(moved * 2.0**24) * 2.0**-24
        bias = ops.negative(moved) if self.norm_beta is None else single(self.norm_beta) - moved
        return ops.cast(bias, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
        }


def single(variable: Any) -> Tensor:
    """A variable in float32."""
    return ops.cast(read(variable), "float32")


def _constant() -> FracQuantizer:
    """Statistics drift by orders of magnitude in training: the range is that of the present value."""
    return FracQuantizer(f0=6.0, overflow="SAT")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QBatchNormalization(BatchStatistics):
    """``y = output_quantizer(activation(q(x) * q(factor) + q(bias)))``, factor and bias as `BatchStatistics` has them.

    Backward: through the quantizers' rules and, in training, through the statistics of the batch, as in Keras.

    EBOPs-bar of a call: ``width(x) * magnitude_bits(factor)`` of each element, plus the widths of the biases.

    Behind a `QDense` or a convolution, the fused layer (`QDenseBatchNorm` ...) needs no multipliers for this.

    Args:
        axis: only the last one.
        momentum, epsilon, center, scale: see `BatchStatistics`.
        scale_quantizer, offset_quantizer: of factor and bias; "default" trains fractional bits for each channel.
        input_quantizer: never None: everything that enters a multiplication is quantised.
        activation, output_quantizer, beta, gamma: see `QLayer`.
    """

    def __init__(
        self, axis: int = -1, *, scale_quantizer: Any = "default", offset_quantizer: Any = "default", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.axis = axis
        self.scale_quantizer = self._quantizer("scale_quantizer", scale_quantizer, _constant)
        self.offset_quantizer = self._quantizer("offset_quantizer", offset_quantizer, _constant)
        for name in ("input_quantizer", "scale_quantizer", "offset_quantizer"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"{self}: {name}=None, but everything that enters the layer's arithmetic must be quantised. "
                    'Fix: leave the argument out or pass "default".'
                )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.axis not in (-1, len(input_shape) - 1):
            raise ValueError(f"{self}: axis={self.axis} is not supported, only the last one. Fix: use axis=-1.")
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(f"{self}: the last axis of its input {tuple(input_shape)} has no known size.")
        self._build_statistics(channels, "zeros")
        self.scale_quantizer.attach((channels,), str(self), self._float_factor)
        self.offset_quantizer.attach((channels,), str(self), self._float_bias)
        self._attach(input_shape, input_shape)

    def _float_factor(self) -> Tensor:
        return ops.cast(self._factor(), self.compute_dtype)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        factor, bias = self._of_batch(x) if training else (self._float_factor(), self._float_bias())
        y = x * self.scale_quantizer.apply(factor, training) + self.offset_quantizer.apply(bias, training)
        return self._finish(y, training)

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        both = {
            "scale": (self.scale_quantizer, self._float_factor),
            "offset": (self.offset_quantizer, self._float_bias),
        }
        return {
            name: self._numpy_constant(name, quantizer.apply(value(), training=False), quantizer)
            for name, (quantizer, value) in both.items()
        }

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        scale, offset = ((np.ldexp(v, t.frac).astype(np.int64), t) for v, t in self.constants().values())
        return affine_ebops(scale, offset, self.input_quantizer.types(shape).width)

    def ebops_bar(self) -> Tensor:
        sizes = tuple(size or 1 for size in self.input_shape_)
        widths = ops.broadcast_to(self.input_quantizer.bits(sign=True), sizes)
        each = widths * self.scale_quantizer.bits(sign=False) + self.offset_quantizer.bits(sign=True)
        return ops.sum(each)

    def luts(self) -> Tensor:
        widths = self._widths(self.input_quantizer, self.input_shape_)
        offsets = biases(ops.broadcast_to(self.offset_quantizer.bits(sign=True), widths.shape))
        # With the offset there are as many adders as digits.
        return self._luts_before() + self._luts_behind() + ops.sum(widths * self.scale_quantizer.digits()) + offsets

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        channels = tuple(self.moving_mean.shape)
        return super().quantized_shapes() | {"scale_quantizer": channels, "offset_quantizer": channels}

    def _quantizer_names(self) -> tuple[str, ...]:
        return "input_quantizer", "scale_quantizer", "offset_quantizer", "output_quantizer"

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"axis": self.axis}
