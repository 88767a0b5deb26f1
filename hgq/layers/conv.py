"""Convolutions with quantised input, kernel and bias."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from hgq.layers.linear import QLinear
from hgq.layers.norm import FoldedBatchNorm
from hgq.quantizers import FracQuantizer
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import bias_ebops, conv_ebops
from hgq.windows import Windows, same_padding


def channel_quantizer() -> FracQuantizer:
    """Activations of images and sequences: one type for each channel, so that all positions share one kernel module."""
    return FracQuantizer(f0=3.0, overflow="WRAP", granularity="channel")


class Convolution(QLinear):
    """``y = output_quantizer(activation(convolve(q(x), q(kernel)) + q(bias)))``, channels last.

    Backward: that of convolution and activation, through the rules of each quantizer.

    EBOPs-bar of a call: the sum over positions, filters, taps inside the input and channels of ``width(x) *
    magnitude_bits(kernel)``, plus the widths of the biases at every position: the hardware is fully unrolled.

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate, groups: as in Keras; data_format only
            "channels_last". padding: "valid", "same", or in one dimension "causal".
        input_quantizer, output_quantizer: "default" is a `FracQuantizer` per channel.
        activation, use_bias, kernel_quantizer, bias_quantizer, ...: see `QLinear`.
    """

    rank: ClassVar[int]
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")
    _activation_default = staticmethod(channel_quantizer)

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        *,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        groups: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.groups = self._whole("filters", filters), self._whole("groups", groups)
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.strides = self._sizes("strides", strides)
        self.dilation_rate = self._sizes("dilation_rate", dilation_rate)
        if padding not in self.paddings:
            raise ValueError(f"{self}: padding={padding!r} is not supported; choose one of {', '.join(self.paddings)}")
        if data_format not in (None, "channels_last"):
            raise ValueError(
                f"{self}: data_format={data_format!r} is not supported. Fix: channels_last, with a Permute before it."
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{self}: strides={self.strides} together with dilation_rate={self.dilation_rate} is not supported by "
                "Keras. Fix: set one of them to 1."
            )
        self.padding = padding

    def as_convolution(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel, or an array with an entry for each element of it, as ``(*size, channels / groups, filters)``."""
        return kernel

    @property
    def convolution_groups(self) -> int:
        return self.groups

    def windows(self, input_shape: tuple[int | None, ...]) -> Windows:
        """Which inputs each position reads; `input_shape` with the batch axis."""
        spatial = tuple(int(n) for n in input_shape[1:-1])  # type: ignore[arg-type]
        around = [self._around(axis, n) for axis, n in enumerate(spatial)]
        before, after = tuple(a for a, _ in around), tuple(b for _, b in around)
        ones = (1,) * self.rank
        return Windows(spatial, self.kernel_size, self.strides, before, after, self.dilation_rate, ones)

    def _around(self, axis: int, n: int) -> tuple[int, int]:
        size, stride, dilation = self.kernel_size[axis], self.strides[axis], self.dilation_rate[axis]
        if self.padding == "causal":
            return (size - 1) * dilation, 0
        return same_padding(n, size, stride, dilation) if self.padding == "same" else (0, 0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        self._check_input(input_shape)
        return (input_shape[0], *self.windows(input_shape).out, self._outputs(input_shape))

    def _check_input(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != self.rank + 2 or None in input_shape[1:]:
            raise ValueError(
                f"{self}: its input has shape {tuple(input_shape)}; it takes (batch, {'size, ' * self.rank}channels), "
                "and hardware needs every size. Fix: give the model a fully known input shape."
            )
        if input_shape[-1] % self.groups or self.filters % self.groups:  # type: ignore[operator]
            raise ValueError(
                f"{self}: groups={self.groups} must divide its {input_shape[-1]} channels and filters={self.filters}"
            )
        if min(self.windows(input_shape).out) < 1:
            raise ValueError(f"{self}: kernel_size={self.kernel_size} does not fit its input {tuple(input_shape)}")

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (*self.kernel_size, input_shape[-1] // self.groups, self.filters)  # type: ignore[operator]

    def _outputs(self, input_shape: tuple[int | None, ...]) -> int:  # noqa: ARG002
        return self.filters

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        padding = self.padding
        if padding == "causal":
            x, padding = ops.pad(x, [(0, 0), self._around(0, 0), (0, 0)]), "valid"
        return ops.conv(x, kernel, self.strides, padding, data_format="channels_last", dilation_rate=self.dilation_rate)

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        windows = self.windows((None, *shape))
        constants = self._mantissas()
        kernel = self.as_convolution(constants["kernel"][0])
        total = conv_ebops(kernel, self.input_quantizer.types(shape).width, windows, self.convolution_groups)
        if "bias" in constants:
            bias, types = constants["bias"]
            total += bias_ebops(bias, types.width, windows.positions)
        return total

    def ebops_bar(self) -> Tensor:
        # One more sample, of widths, through a convolution with the bits of the kernel: padding costs nothing.
        widths = ops.broadcast_to(self.input_quantizer.bits(sign=True), self.input_shape_)
        bits = ops.broadcast_to(self.kernel_quantizer.bits(sign=False), self.kernel.shape)
        total = ops.sum(self._multiply(ops.expand_dims(widths, 0), bits))
        if self.bias_quantizer is not None:
            outputs = (self.output_shape_[-1],)
            each = ops.sum(ops.broadcast_to(self.bias_quantizer.bits(sign=True), outputs))
            total = total + float(math.prod(self.output_shape_[:-1])) * each
        return total

    def _whole(self, name: str, value: Any) -> int:
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{self}: {name}={value!r}; it must be a whole number above 0")
        return int(value)

    def _sizes(self, name: str, value: Any) -> tuple[int, ...]:
        values = (value,) * self.rank if isinstance(value, int | np.integer) else tuple(value)
        if len(values) != self.rank:
            raise ValueError(f"{self}: {name}={value!r}; give one number, or {self.rank}")
        return tuple(self._whole(name, one) for one in values)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
        }


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QConv1D(Convolution):
    """keras.layers.Conv1D with learned types; see `Convolution`."""

    rank = 1
    paddings = ("valid", "same", "causal")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QConv2D(Convolution):
    """keras.layers.Conv2D with learned types; see `Convolution`."""

    rank = 2


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QConv1DBatchNorm(FoldedBatchNorm, QConv1D):
    """`QConv1D` followed by batch normalisation, folded before the quantizers; see `FoldedBatchNorm`."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QConv2DBatchNorm(FoldedBatchNorm, QConv2D):
    """`QConv2D` followed by batch normalisation, folded before the quantizers; see `FoldedBatchNorm`."""


class Transpose(Convolution):
    """A transpose convolution: a convolution over an input stretched with zeros, with the kernel turned around.

    Its kernel has Keras' shape ``(*size, filters, channels)``. Dilation, groups and output_padding are not supported.
    """

    def __init__(self, *args: Any, output_padding: None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for name, value, plain in (
            ("output_padding", output_padding, None),
            ("dilation_rate", self.dilation_rate, (1,) * self.rank),
            ("groups", self.groups, 1),
        ):
            if value != plain:
                raise ValueError(f"{self}: {name}={value} is not supported. Fix: leave {name} out.")

    def as_convolution(self, kernel: np.ndarray) -> np.ndarray:
        return np.swapaxes(np.flip(kernel, axis=tuple(range(self.rank))), -1, -2)

    def windows(self, input_shape: tuple[int | None, ...]) -> Windows:
        spatial = tuple(int(n) for n in input_shape[1:-1])  # type: ignore[arg-type]
        before, after = [], []
        for n, size, stride in zip(spatial, self.kernel_size, self.strides, strict=True):
            # Keras defines it as the gradient of a convolution over the output, whose padding this is.
            out = n * stride if self.padding == "same" else (n - 1) * stride + max(size, stride)
            left = same_padding(out, size, stride)[0] if self.padding == "same" else 0
            before.append(size - 1 - left)
            after.append(out + size - 1 - ((n - 1) * stride + 1) - before[-1])
        ones = (1,) * self.rank
        return Windows(spatial, self.kernel_size, ones, tuple(before), tuple(after), ones, self.strides)

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (*self.kernel_size, self.filters, input_shape[-1])  # type: ignore[return-value]

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv_transpose(x, kernel, self.strides, self.padding, data_format="channels_last")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QConv1DTranspose(Transpose):
    """keras.layers.Conv1DTranspose with learned types; see `Transpose`."""

    rank = 1


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QConv2DTranspose(Transpose):
    """keras.layers.Conv2DTranspose with learned types; see `Transpose`."""

    rank = 2
