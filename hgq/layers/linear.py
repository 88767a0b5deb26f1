"""What dense layers and convolutions share: a quantised kernel and bias."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.base import QLayer
from hgq.layers.luts import biases, sums
from hgq.quantizers import Quantizer, bias_quantizer, weight_quantizer
from hgq.quantizers.exact import Tensor, read


class QLinear(QLayer):
    """``y = output_quantizer(activation(multiply(q(x), q(kernel)) + q(bias)))``.

    A subclass says what `multiply` is, which shapes there are, and what they cost:
    `_kernel_shape`, `_outputs`, `_multiply`, `compute_output_shape`, `exact_ebops`, `ebops_bar`.

    Args:
        activation, input_quantizer, output_quantizer, beta, gamma: see `QLayer`; there is always an input quantizer.
        use_bias: whether a bias is added.
        kernel_quantizer, bias_quantizer: quantizer objects, their configurations, or "default".
        kernel_initializer, bias_initializer: as in Keras.
    """

    def __init__(
        self,
        *,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_quantizer: Any = "default",
        bias_quantizer: Any = "default",
        input_quantizer: Any = "default",
        output_quantizer: Any = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        super().__init__(
            activation=activation, input_quantizer=input_quantizer, output_quantizer=output_quantizer, **kwargs
        )
        self.use_bias = bool(use_bias)
        self._require("input_quantizer", self.input_quantizer)
        self.kernel_quantizer = self._quantizer("kernel_quantizer", kernel_quantizer, weight_quantizer)
        self._require("kernel_quantizer", self.kernel_quantizer)
        self.bias_quantizer = self._quantizer("bias_quantizer", bias_quantizer if use_bias else None, _bias_default)
        if use_bias:
            self._require("bias_quantizer", self.bias_quantizer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        self.kernel = self.add_weight(self._kernel_shape(input_shape), self.kernel_initializer, name="kernel")
        shape = self._bias_shape(input_shape)
        self.bias = self.add_weight(shape, self.bias_initializer, name="bias") if self.use_bias else None
        self._build_quantizers(input_shape)

    def _build_quantizers(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel_quantizer.attach(tuple(self.kernel.shape), str(self), self._float_kernel)
        if self.bias_quantizer is not None:
            self.bias_shape_ = self._bias_shape(input_shape)
            self.bias_quantizer.attach(self.bias_shape_, str(self), self._float_bias)
        self._attach(input_shape, self.compute_output_shape(input_shape))

    def _check_input(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                f"{self}: the last axis of its input {tuple(input_shape)} has no known size. Fix: give it one."
            )

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        raise NotImplementedError

    def _outputs(self, input_shape: tuple[int | None, ...]) -> int:
        """Size of the last axis of the result."""
        raise NotImplementedError

    def _bias_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """Shape of the biases, which is broadcast to the result."""
        return (self._outputs(input_shape),)

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        raise NotImplementedError

    def _float_kernel(self) -> Tensor:
        """What the kernel quantizer quantises at inference."""
        return read(self.kernel)

    def _float_bias(self) -> Tensor:
        """What the bias quantizer quantises at inference."""
        return read(self.bias)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        y = self._multiply(x, self.kernel_quantizer.apply(self._float_kernel(), training))
        if self.bias_quantizer is not None:
            y = y + self.bias_quantizer.apply(self._float_bias(), training)
        return self._finish(y, training)

    def luts(self) -> Tensor:
        kernel = self.kernel_quantizer
        total = super().luts() + sums(self._sample_of_widths(), kernel.digits(), kernel.spare_bits(), self._multiply)
        if self.bias_quantizer is not None:
            total = total + biases(self._bias_bits())
        return total

    def _bias_bits(self) -> Tensor:
        """Bits of the bias of each element of the result."""
        return ops.broadcast_to(self._widths(self.bias_quantizer, self.bias_shape_), self._sized(self.output_shape_))

    def _sample_of_widths(self) -> Tensor:
        """Bits of each element of one sample of the input, with a batch axis of 1."""
        return ops.expand_dims(self._widths(self.input_quantizer, self.input_shape_), 0)

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        quantizers = {"kernel": (self.kernel_quantizer, self._float_kernel)}
        if self.bias_quantizer is not None:
            quantizers["bias"] = (self.bias_quantizer, self._float_bias)
        return {
            name: self._numpy_constant(name, quantizer.apply(value(), training=False), quantizer)
            for name, (quantizer, value) in quantizers.items()
        }

    def _mantissas(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        """The constants as integers, with their types."""
        return {
            name: (np.ldexp(value, types.frac).astype(np.int64), types)
            for name, (value, types) in self.constants().items()
        }

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"kernel_quantizer": tuple(self.kernel.shape)}
        if self.bias_quantizer is not None:
            shapes["bias_quantizer"] = self.bias_shape_
        return super().quantized_shapes() | {name: shapes[name] for name in self.quantizers() if name in shapes}

    def _quantizer_names(self) -> tuple[str, ...]:
        return "input_quantizer", "kernel_quantizer", "bias_quantizer", "output_quantizer"

    def _require(self, argument: str, quantizer: Quantizer | None) -> None:
        if quantizer is None:
            raise ValueError(
                f"{self}: {argument}=None, but everything that enters the layer's arithmetic must be quantised. "
                'Fix: leave the argument out or pass "default".'
            )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


_bias_default = bias_quantizer  # the constructor's argument of the same name hides it
