"""The dense layer with quantised input, kernel and bias."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.layers.linear import QLinear
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import bias_ebops, matmul_ebops


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDense(QLinear):
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

    def __init__(self, units: int, activation: str | None = None, **kwargs: Any):
        super().__init__(activation=activation, **kwargs)
        if not isinstance(units, int | np.integer) or units < 1:
            raise ValueError(f"{self}: units={units!r}; it must be a whole number above 0")
        self.units = int(units)

    def _kernel_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int, ...]:
        return (input_shape[-1], self.units)  # type: ignore[return-value]

    def _outputs(self, input_shape: tuple[int | None, ...]) -> int:  # noqa: ARG002
        return self.units

    def _multiply(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.matmul(x, kernel)

    def exact_ebops(self) -> int:
        shape = self._known_input_shape()
        constants = self._mantissas()
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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}
