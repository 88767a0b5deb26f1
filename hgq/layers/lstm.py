"""The long short-term memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.layers.activation import QActivation
from hgq.layers.function import QFunction
from hgq.layers.recurrent import Apply, Recurrent, state_quantizer
from hgq.quantizers import Quantizer
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import matmul_ebops, product_ebops


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QLSTM(Recurrent):
    """With y = q(x) @ q(kernel) + h @ q(recurrent) + q(bias), whose columns stand in Keras' order i, f, g, o::

        i, f, o = recurrent_activation(y_i, y_f, y_o);  g = activation(y_g)
        c' = carry_quantizer(f * c + i * g)
        h' = state_quantizer(o * carry_activation(c'))

    Backward: through time, by the rules of each quantizer.

    Args:
        recurrent_activation: of the gates; see `activation` of `Recurrent`.
        carry_activation: None for the same function as `activation`, with types of its own.
        unit_forget_bias: whether the biases of f start at 1.
        state_quantizer, carry_quantizer: "default" is a `FracQuantizer` per unit, the same at every time step.
        units, activation, ...: see `Recurrent`.
    """

    blocks = 4
    state_count = 2

    def __init__(
        self,
        units: int,
        *,
        recurrent_activation: Any = "sigmoid",
        carry_activation: Any = None,
        unit_forget_bias: bool = True,
        state_quantizer: Any = "default",
        carry_quantizer: Any = "default",
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        self.unit_forget_bias = bool(unit_forget_bias)
        self.recurrent_activation = self._part("recurrent_activation", recurrent_activation)
        self.carry_activation = self._part("carry_activation", carry_activation or self.activation)
        self.state_quantizer = self._required("state_quantizer", state_quantizer, _state_default)
        self.carry_quantizer = self._required("carry_quantizer", carry_quantizer, _state_default)

    def _step(self, x: Tensor, states: list[Tensor], constants: dict[str, Tensor], apply: Apply) -> list[Tensor]:
        h, c = states
        n = self.units
        y = x + ops.matmul(h, constants["recurrent"])
        gates = apply(self.recurrent_activation, ops.concatenate([y[:, : 2 * n], y[:, 3 * n :]], axis=-1))
        i, f, o = ops.split(gates, 3, axis=-1)
        c = apply(self.carry_quantizer, f * c + i * apply(self.activation, y[:, 2 * n : 3 * n]))
        return [apply(self.state_quantizer, o * apply(self.carry_activation, c)), c]

    def _first_biases(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        first = super()._first_biases(shape, dtype)
        if not self.unit_forget_bias:
            return first
        n = self.units
        return ops.concatenate([first[:n], ops.ones((n,), dtype=dtype), first[2 * n :]])

    def _wide_quantizers(self) -> list[Quantizer]:
        """Quantizers of the state, the carry, the candidate and the carry after its activation."""
        parts = (self.activation, self.carry_activation)
        return [self.state_quantizer, self.carry_quantizer, *(self._output_of(part) for part in parts)]

    def _products(self, recurrent: Tensor) -> Tensor:
        per_state = ops.sum(recurrent, axis=1)
        h, c, g, y = (self._wide(q, self.units) for q in self._wide_quantizers())
        i, f, o = ops.split(self._wide(self._output_of(self.recurrent_activation), 3 * self.units), 3)
        return (self.steps - 1) * ops.sum(h * per_state + f * c) + self.steps * ops.sum(i * g + o * y)

    def _exact_products(self, recurrent: np.ndarray) -> int:
        h, c, g, y = (q.types((self.units,)).width for q in self._wide_quantizers())
        i, f, o = np.split(self._output_of(self.recurrent_activation).types((3 * self.units,)).width, 3)
        later = matmul_ebops(recurrent, h) + product_ebops(f, c)
        return (self.steps - 1) * later + self.steps * (product_ebops(i, g) + product_ebops(o, y))

    def _inner_quantizers(self) -> tuple[str, ...]:
        return "state_quantizer", "carry_quantizer"

    def _parts(self) -> dict[str, QFunction | QActivation]:
        return super()._parts() | {
            "recurrent_activation": self.recurrent_activation,
            "carry_activation": self.carry_activation,
        }

    def _part_shapes(self) -> dict[str, tuple[int, ...]]:
        own = {"recurrent_activation": (3 * self.units,), "carry_activation": (self.units,)}
        return super()._part_shapes() | own

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"unit_forget_bias": self.unit_forget_bias}


_state_default = state_quantizer  # the constructor's argument of the same name hides it
