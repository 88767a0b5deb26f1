"""Batch normalisation folded into the layer before it: what hardware multiplies by is the folded kernel, so that is
what is quantised."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from hgq.layers.batch_norm import BatchStatistics, single
from hgq.layers.dense import QDense
from hgq.layers.linear import QLinear
from hgq.quantizers.exact import Tensor, read


class FoldedBatchNorm(BatchStatistics, QLinear):
    """Turns a `QLinear` class, given as second base, into one with batch normalisation.

    Forward, with factor and bias of z = multiply(q(x), kernel) as `BatchStatistics` has them::

        y = output_quantizer(activation(multiply(q(x), q(kernel * factor)) + q(bias)))

    Backward: through the quantizers' rules and, in training, through the statistics as in
    keras.layers.BatchNormalization.

    Args:
        momentum, epsilon, center, scale: as for keras.layers.BatchNormalization. There is always a bias.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not self.use_bias:
            plain = type(self).__name__.removesuffix("BatchNorm")
            raise ValueError(f"{self}: use_bias=False, but normalisation moves its output. Fix: use {plain}.")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        self.kernel = self.add_weight(self._kernel_shape(input_shape), self.kernel_initializer, name="kernel")
        self._build_statistics(self._outputs(input_shape), self.bias_initializer)
        self._build_quantizers(input_shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        if training:
            factor, bias = self._of_batch(self._multiply(x, read(self.kernel)))
            kernel = self._scaled(self.kernel, factor)
        else:
            kernel, bias = self._float_kernel(), self._float_bias()
        y = self._multiply(x, self.kernel_quantizer.apply(kernel, training))
        return self._finish(y + self.bias_quantizer.apply(bias, training), training)

    def _float_kernel(self) -> Tensor:
        return ops.cast(self._scaled(single(self.kernel), self._factor()), self.compute_dtype)

    def _scaled(self, kernel: Tensor, factor: Tensor) -> Tensor:
        """The kernel with each output channel, which is its last axis, times its factor."""
        return kernel * factor


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDenseBatchNorm(FoldedBatchNorm, QDense):
    """`QDense` followed by batch normalisation, folded before the quantizers; see `FoldedBatchNorm`."""
