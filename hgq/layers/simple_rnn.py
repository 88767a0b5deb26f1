"""The plain recurrent layer."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from hgq.layers.recurrent import Apply, Recurrent
from hgq.quantizers import Quantizer
from hgq.quantizers.exact import Tensor
from hgq.resource.ebops import matmul_ebops


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QSimpleRNN(Recurrent):
    """``h' = activation(q(x) @ q(kernel) + h @ q(recurrent) + q(bias))``, rounded to the activation's output type.

    Backward: through time, by the rules of each quantizer. Arguments: see `Recurrent`.
    """

    blocks = 1

    @property
    def state_quantizer(self) -> Quantizer:
        return self._output_of(self.activation)

    def _step(self, x: Tensor, states: list[Tensor], constants: dict[str, Tensor], apply: Apply) -> list[Tensor]:
        return [apply(self.activation, x + ops.matmul(states[0], constants["recurrent"]))]

    def _products(self, recurrent: Tensor) -> Tensor:
        per_state = ops.sum(recurrent, axis=1)
        return (self.steps - 1) * ops.sum(self._wide(self.state_quantizer, self.units) * per_state)

    def _exact_products(self, recurrent: np.ndarray) -> int:
        return (self.steps - 1) * matmul_ebops(recurrent, self.state_quantizer.types((self.units,)).width)
