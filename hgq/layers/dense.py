"""The dense layer with quantised input, kernel and bias."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.base import QLayer
from hgq.quantizers import Quantizer, bias_quantizer, weight_quantizer
from hgq.quantizers.exact import Tensor, read
from hgq.resource.ebops import bias_ebops, matmul_ebops


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDense(QLayer):
    """``y = output_quantizer(activation(q(x) @ q(kernel) + q(bias)))`` over the last axis of x.

    Backward: that of matrix product and activation, through the rules of each quantizer.

    EBOPs-bar of a call: ``sum_pij width(x_pi) * magnitude_bits(kernel_ij) + sum_pj width(bias_j)`` over positions p
    (the axes between batch and last), inputs i, outputs j.

    Args:
        units: number of outputs.
        activation: None, "linear" or "relu".
        use_bias: whether a bias is added.
        kernel_quantizer, bias_quantizer: quantizer objects, their configurations, or "default".
        input_quantizer: never None: everything that enters a multiplication is quantised.
        output_quantizer: None gives the exact accumulator out.
        kernel_initializer, bias_initializer: as in keras.layers.Dense.
        beta, gamma: see `QLayer`.
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        *,
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
        if not isinstance(units, int | np.integer) or units < 1:
            raise ValueError(f"{self}: units={units!r}; it must be a whole number above 0")
        self.units, self.use_bias = int(units), bool(use_bias)
        self._require("input_quantizer", self.input_quantizer)
        self.kernel_quantizer = self._quantizer("kernel_quantizer", kernel_quantizer, weight_quantizer)
        self._require("kernel_quantizer", self.kernel_quantizer)
        self.bias_quantizer = self._quantizer("bias_quantizer", bias_quantizer if use_bias else None, _bias_default)
        if use_bias:
            self._require("bias_quantizer", self.bias_quantizer)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_last_axis(input_shape)
        self.kernel = self.add_weight((input_shape[-1], self.units), self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.units,), self.bias_initializer, name="bias") if self.use_bias else None
        self._build_quantizers(input_shape)

    def _check_last_axis(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                f"{self}: the last axis of its input {tuple(input_shape)} has no known size. Fix: give it one."
            )

    def _build_quantizers(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel_quantizer.attach(tuple(self.kernel.shape), str(self), self._float_kernel)
        if self.bias_quantizer is not None:
            self.bias_quantizer.attach((self.units,), str(self), self._float_bias)
        self._attach(input_shape, (*input_shape[:-1], self.units))

    def _float_kernel(self) -> Tensor:
        """What the kernel quantizer quantises at inference."""
        return read(self.kernel)

    def _float_bias(self) -> Tensor:
        """What the bias quantizer quantises at inference."""
        return read(self.bias)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        y = ops.matmul(x, self.kernel_quantizer.apply(self._float_kernel(), training))
        if self.bias_quantizer is not None:
            y = y + self.bias_quantizer.apply(self._float_bias(), training)
        return self._finish(y, training)

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        quantizers = {"kernel": (self.kernel_quantizer, self._float_kernel)}
        if self.bias_quantizer is not None:
            quantizers["bias"] = (self.bias_quantizer, self._float_bias)
        return {
            name: self._numpy_constant(name, quantizer.apply(value(), training=False), quantizer)
            for name, (quantizer, value) in quantizers.items()
        }

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        constants = {
            name: (np.ldexp(value, types.frac).astype(np.int64), types)
            for name, (value, types) in self.constants().items()
        }
        total = matmul_ebops(constants["kernel"][0], self.input_quantizer.types(shape).width)
        if "bias" in constants:
            bias, types = constants["bias"]
            total += bias_ebops(bias, types.width, positions=int(np.prod(shape[:-1], dtype=np.int64)))
        return total

    def ebops_bar(self) -> Tensor:
        # Sums over vectors and small matrices only: no tensor of the size of the batch.
        inputs, kernel = self.input_quantizer, self.kernel_quantizer
        sizes = [size or 1 for size in self.input_shape_]
        positions = float(np.prod(sizes[:-1]))
        per_input = ops.sum(ops.broadcast_to(kernel.bits(sign=False), self.kernel.shape), axis=1)
        widths = ops.broadcast_to(inputs.bits(sign=True), sizes)
        total = ops.sum(widths * per_input)
        if self.bias_quantizer is not None:
            widths = ops.broadcast_to(self.bias_quantizer.bits(sign=True), (self.units,))
            total = total + positions * ops.sum(widths)
        return total

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"kernel_quantizer": tuple(self.kernel.shape), "bias_quantizer": (self.units,)}
        return super().quantized_shapes() | {name: shapes[name] for name in self.quantizers() if name in shapes}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

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
            "units": self.units,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


_bias_default = bias_quantizer  # the constructor's argument of the same name hides it
