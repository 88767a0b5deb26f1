"""The gated recurrent unit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.activation import QActivation
from hgq.layers.conv import channel_quantizer
from hgq.layers.function import QFunction
from hgq.layers.recurrent import Apply, Recurrent, state_quantizer
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import difference_types, matmul_ebops, product_ebops


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QGRU(Recurrent):
    """Gates z, r = recurrent_activation(q(x) @ q(kernel) + h @ q(recurrent) + q(bias)), then::

        c  = activation(x_c + r * reset_quantizer(h_c))                       reset_after=True
        c  = activation(x_c + reset_quantizer(r * h) @ q(recurrent) of c)     reset_after=False
        h' = state_quantizer(c + z * (h - c))

    where x_c and h_c are the columns of c in both products. That is Keras' ``z * h + (1 - z) * c`` with one product
    less. Columns stand in Keras' order z, r, c. With reset_after=True the bias has a fourth block, that of h_c; where
    Keras adds two biases to a gate, there is one.

    Backward: through time, by the rules of each quantizer.

    Args:
        recurrent_activation: of the gates; see `activation` of `Recurrent`.
        reset_after: as in Keras.
        state_quantizer, reset_quantizer: "default" is a `FracQuantizer` per unit, the same at every time step.
        units, activation, ...: see `Recurrent`.
    """

    blocks = 3

    def __init__(
        self,
        units: int,
        *,
        recurrent_activation: Any = "sigmoid",
        reset_after: bool = True,
        state_quantizer: Any = "default",
        reset_quantizer: Any = "default",
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        self.reset_after = bool(reset_after)
        self.recurrent_activation = self._part("recurrent_activation", recurrent_activation)
        self.state_quantizer = self._required("state_quantizer", state_quantizer, _state_default)
        self.reset_quantizer = self._required("reset_quantizer", reset_quantizer, channel_quantizer)

    def _step(self, x: Tensor, states: list[Tensor], constants: dict[str, Tensor], apply: Apply) -> list[Tensor]:
        (h,), gates, recurrent = states, 2 * self.units, constants["recurrent"]
        if self.reset_after:
            y = ops.matmul(h, recurrent)
            z, r = ops.split(apply(self.recurrent_activation, x[:, :gates] + y[:, :gates]), 2, axis=-1)
            inner = r * apply(self.reset_quantizer, y[:, gates:] + self._recurrent_bias(constants))
        else:
            y = ops.matmul(h, recurrent[:, :gates])
            z, r = ops.split(apply(self.recurrent_activation, x[:, :gates] + y), 2, axis=-1)
            inner = ops.matmul(apply(self.reset_quantizer, r * h), recurrent[:, gates:])
        c = apply(self.activation, x[:, gates:] + inner)
        return [apply(self.state_quantizer, c + z * (h - c))]

    def _products(self, recurrent: Tensor) -> Tensor:
        per_state = ops.split(recurrent, 3, axis=1)
        h, c, inner = (
            self._wide(q, self.units)
            for q in (self.state_quantizer, self._output_of(self.activation), self.reset_quantizer)
        )
        z, r = ops.split(self._wide(self._output_of(self.recurrent_activation), 2 * self.units), 2)
        later = self.steps - 1
        total = later * ops.sum(h * ops.sum(per_state[0] + per_state[1], axis=1))
        total = total + later * ops.sum((h if self.reset_after else inner) * ops.sum(per_state[2], axis=1))
        total = total + (self.steps * ops.sum(r * inner) if self.reset_after else later * ops.sum(r * h))
        return total + self.steps * ops.sum(z * (ops.maximum(h, c) + 1.0))

    def _exact_products(self, recurrent: np.ndarray) -> int:
        shape, later = (self.units,), self.steps - 1
        h, c, inner = (
            q.types(shape) for q in (self.state_quantizer, self._output_of(self.activation), self.reset_quantizer)
        )
        z, r = np.split(self._output_of(self.recurrent_activation).types((2 * self.units,)).width, 2)
        gates, candidate = recurrent[:, : 2 * self.units], recurrent[:, 2 * self.units :]
        total = later * matmul_ebops(gates, h.width)
        total += later * matmul_ebops(candidate, h.width if self.reset_after else inner.width)
        total += product_ebops(r, inner.width) * self.steps if self.reset_after else product_ebops(r, h.width) * later
        total += product_ebops(z, difference_types(h, c).width) * later
        return total + product_ebops(z, difference_types(_nothing(h), c).width)

    def _inner_quantizers(self) -> tuple[str, ...]:
        return "state_quantizer", "reset_quantizer"

    def _parts(self) -> dict[str, QFunction | QActivation]:
        return super()._parts() | {"recurrent_activation": self.recurrent_activation}

    def _part_shapes(self) -> dict[str, tuple[int, ...]]:
        return super()._part_shapes() | {"recurrent_activation": (2 * self.units,)}

    def _bias_blocks(self) -> int:
        return 4 if self.reset_after else 3

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"reset_after": self.reset_after}


def _nothing(types: FixedArray) -> FixedArray:
    """Types of zeros: the state before the first step."""
    zero = np.zeros(types.shape, np.int64)
    return FixedArray(zero, zero, zero)


_state_default = state_quantizer  # the constructor's argument of the same name hides it
