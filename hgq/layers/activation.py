"""An activation with quantizers and no constants."""

from __future__ import annotations

from typing import Any

import keras

from hgq.layers.base import QLayer
from hgq.quantizers.exact import Tensor


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QActivation(QLayer):
    """``y = output_quantizer(activation(input_quantizer(x)))``; quantizers that are None are left out.

    Backward: the quantizers' rules around the activation's own derivative (relu: 1 where positive).

    Args:
        activation: "linear" or "relu".
        input_quantizer, output_quantizer: at least one of them.
    """

    def __init__(self, activation: str | None = "linear", **kwargs: Any):
        super().__init__(activation=activation, **kwargs)
        if self.input_quantizer is None and self.output_quantizer is None:
            raise ValueError(
                f"{self}: it has neither an input_quantizer nor an output_quantizer, so it quantizes nothing. "
                "Fix: give it one, or use keras.layers.ReLU."
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._attach(input_shape, input_shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        return self._finish(self._quantize_input(x, training), training)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)
