"""Depthwise and separable convolutions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.arrival import limits
from hgq.layers.conv import Convolution, channel_quantizer
from hgq.layers.luts import biases, sums
from hgq.quantizers import weight_quantizer
from hgq.quantizers.exact import Tensor, read
from hgq.resource.ebops import conv_ebops


class Depthwise(Convolution):
    """A convolution of each channel by itself; its kernel has Keras' shape ``(*size, channels, depth_multiplier)``.

    Args:
        depth_multiplier: outputs of each channel.
        kernel_size, strides, padding, dilation_rate, ...: as for `Convolution`; strides equal in all directions.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        **kwargs: Any,
    ):
        given = {name: kwargs.pop(name, 1) for name in ("filters", "groups")}  # saved configurations hold them as 1
        super().__init__(1, kernel_size, strides, padding, **kwargs)
        for name, value in given.items():
            if value != 1:
                raise ValueError(f"{self}: {name}={value!r} has no meaning here. Fix: use depth_multiplier.")
        self.depth_multiplier = self._whole("depth_multiplier", depth_multiplier)
        if len(set(self.strides)) > 1:
            raise ValueError(
                f"{self}: strides={self.strides}; TensorFlow needs them equal in both directions here. "
                "Fix: use one number, or QConv2D with groups=channels."
            )

    def as_convolution(self, kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(*self.kernel_size, 1, -1)

    @property
    def convolution_groups(self) -> int:
        return self.input_shape_[-1]  # type: ignore[return-value]

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (*self.kernel_size, input_shape[-1], self.depth_multiplier)  # type: ignore[return-value]

    def _outputs(self, input_shape: tuple[int | None, ...]) -> int:
        return input_shape[-1] * self.depth_multiplier  # type: ignore[operator]

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        padding = self.padding
        if padding == "causal":
            x, padding = ops.pad(x, [(0, 0), self._around(0, 0), (0, 0)]), "valid"
        strides, dilation = self.strides[0], self.dilation_rate
        return ops.depthwise_conv(x, kernel, strides, padding, data_format="channels_last", dilation_rate=dilation)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"depth_multiplier": self.depth_multiplier}
        return {name: value for name, value in config.items() if name not in ("filters", "groups")}


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDepthwiseConv1D(Depthwise):
    """keras.layers.DepthwiseConv1D with learned types; see `Depthwise`."""

    rank = 1
    paddings = ("valid", "same", "causal")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDepthwiseConv2D(Depthwise):
    """keras.layers.DepthwiseConv2D with learned types; see `Depthwise`."""

    rank = 2


class Separable(Depthwise):
    """A depthwise convolution, a quantizer, then a convolution with one tap::

        y = output_quantizer(activation(middle(depthwise(q(x), q(depthwise_kernel))) * q(kernel) + q(bias)))

    Args:
        filters: number of outputs.
        kernel_size, strides, padding, depth_multiplier, dilation_rate: of the depthwise part.
        depthwise_quantizer: of the depthwise kernel; kernel_quantizer is that of the pointwise one.
        middle_quantizer: of what enters the pointwise part; by default a `FracQuantizer` per channel.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        *,
        depthwise_quantizer: Any = "default",
        middle_quantizer: Any = "default",
        depthwise_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(kernel_size, strides, padding, depth_multiplier, **kwargs)
        self.filters = self._whole("filters", filters)
        self.depthwise_quantizer = self._quantizer("depthwise_quantizer", depthwise_quantizer, weight_quantizer)
        self.middle_quantizer = self._quantizer("middle_quantizer", middle_quantizer, channel_quantizer)
        self._require("depthwise_quantizer", self.depthwise_quantizer)
        self._require("middle_quantizer", self.middle_quantizer)
        self.depthwise_initializer = keras.initializers.get(depthwise_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        shape = super()._kernel_shape(input_shape)
        self.depthwise_kernel = self.add_weight(shape, self.depthwise_initializer, name="depthwise_kernel")
        self.depthwise_quantizer.attach(shape, str(self), lambda: read(self.depthwise_kernel))
        self.middle_shape_ = (*self.windows(input_shape).out, super()._outputs(input_shape))
        self.middle_quantizer.attach(self.middle_shape_, str(self))
        super().build(input_shape)

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (*(1,) * self.rank, super()._outputs(input_shape), self.filters)

    def _outputs(self, input_shape: tuple[int | None, ...]) -> int:  # noqa: ARG002
        return self.filters

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        kernel = self.depthwise_quantizer.apply(read(self.depthwise_kernel), training)
        x = self.middle_quantizer.apply(super()._multiply(x, kernel), training)
        y = self._point(x, self.kernel_quantizer.apply(self._float_kernel(), training))
        if self.bias_quantizer is not None:
            y = y + self.bias_quantizer.apply(self._float_bias(), training)
        return self._finish(y, training)

    def _point(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.matmul(x, ops.reshape(kernel, kernel.shape[-2:]))

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        value = self.depthwise_quantizer.apply(read(self.depthwise_kernel), training=False)
        depthwise = self._numpy_constant("depthwise kernel", value, self.depthwise_quantizer)
        return super().constants() | {"depthwise_kernel": depthwise}

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        constants = self._mantissas()
        depthwise = self.as_convolution(constants["depthwise_kernel"][0])
        widths = self.input_quantizer.types(shape).width
        total = conv_ebops(depthwise, widths, self.windows((None, *shape)), self.convolution_groups)
        return total + self._point_ebops(constants)

    def _point_ebops(self, constants: dict[str, tuple[np.ndarray, FixedArray]]) -> int:
        from hgq.resource.ebops import bias_ebops, matmul_ebops

        kernel = constants["kernel"][0].reshape(-1, self.filters)
        total = matmul_ebops(kernel, self.middle_quantizer.types(self.middle_shape_).width)
        if "bias" in constants:
            bias, types = constants["bias"]
            total += bias_ebops(bias, types.width, int(np.prod(self.middle_shape_[:-1])))
        return total

    def ebops_bar(self) -> Tensor:
        widths = ops.broadcast_to(self.input_quantizer.bits(sign=True), self.input_shape_)
        bits = ops.broadcast_to(self.depthwise_quantizer.bits(sign=False), self.depthwise_kernel.shape)
        total = ops.sum(super()._multiply(ops.expand_dims(widths, 0), bits))
        widths = ops.broadcast_to(self.middle_quantizer.bits(sign=True), self.middle_shape_)
        total = total + ops.sum(
            self._point(widths, ops.broadcast_to(self.kernel_quantizer.bits(sign=False), self.kernel.shape))
        )
        if self.bias_quantizer is not None:
            each = ops.sum(ops.broadcast_to(self.bias_quantizer.bits(sign=True), (self.filters,)))
            total = total + float(np.prod(self.middle_shape_[:-1])) * each
        return total

    def luts(self) -> Tensor:
        middle = self._widths(self.middle_quantizer, self.middle_shape_)
        total = self._luts_before() + self._luts_behind() + limits(self.middle_quantizer, middle)
        first, second = self.depthwise_quantizer, self.kernel_quantizer
        total = total + sums(self._sample_of_widths(), first.digits(), first.spare_bits(), super()._multiply)
        total = total + sums(ops.expand_dims(middle, 0), second.digits(), second.spare_bits(), self._point)
        if self.bias_quantizer is not None:
            total = total + biases(self._bias_bits())
        return total

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        own = {"depthwise_quantizer": tuple(self.depthwise_kernel.shape), "middle_quantizer": self.middle_shape_}
        return super().quantized_shapes() | own

    def _quantizer_names(self) -> tuple[str, ...]:
        return (*super()._quantizer_names(), "depthwise_quantizer", "middle_quantizer")

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.depthwise_initializer)
        return super().get_config() | {"filters": self.filters, "depthwise_initializer": initializer}


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QSeparableConv1D(Separable):
    """keras.layers.SeparableConv1D with learned types; see `Separable`."""

    rank = 1
    paddings = ("valid", "same", "causal")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QSeparableConv2D(Separable):
    """keras.layers.SeparableConv2D with learned types; see `Separable`."""

    rank = 2
