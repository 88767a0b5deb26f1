"""Batch normalisation folded into the layer before it: what hardware multiplies by is the folded kernel, so that is
what is quantised."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from hgq.layers.dense import QDense
from hgq.layers.linear import QLinear
from hgq.quantizers.exact import Tensor, read


class FoldedBatchNorm(QLinear):
    """Turns a `QLinear` class, given as second base, into one with batch normalisation.

    Forward, with z = multiply(q(x), kernel) and v, m its variance and mean over all axes but the last of the batch
    (training) or the moving ones::

        scale = gamma / sqrt(v + epsilon)
        y = output_quantizer(activation(multiply(q(x), q(kernel * scale)) + q(beta - m * scale)))

    Backward: through the quantizers' rules and, in training, through v and m as in keras.layers.BatchNormalization;
    the moving statistics follow its rule ``moving = moving * momentum + batch * (1 - momentum)``.

    At inference the fold is computed in float32 whatever the dtype of the layer, so that a float64 copy of a model
    has the same constants.

    Args:
        momentum, epsilon, center, scale: as for keras.layers.BatchNormalization. There is always a bias.
    """

    def __init__(
        self,
        *args: Any,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if not self.use_bias:
            plain = type(self).__name__.removesuffix("BatchNorm")
            raise ValueError(f"{self}: use_bias=False, but normalisation moves its output. Fix: use {plain}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"{self}: momentum={momentum}; it must lie in 0..1")
        if not 0 < epsilon < float("inf"):
            raise ValueError(f"{self}: epsilon={epsilon}; it must be above 0")
        self.momentum, self.epsilon = momentum, epsilon
        self.center, self.scale = bool(center), bool(scale)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        outputs = (self._outputs(input_shape),)
        self.kernel = self.add_weight(self._kernel_shape(input_shape), self.kernel_initializer, name="kernel")
        self.norm_gamma = self.add_weight(outputs, "ones", name="gamma") if self.scale else None
        self.norm_beta = self.add_weight(outputs, self.bias_initializer, name="beta") if self.center else None
        self.moving_mean = self.add_weight(outputs, "zeros", trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(outputs, "ones", trainable=False, name="moving_variance")
        self._build_quantizers(input_shape)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        if training:
            kernel, bias = self._fold_batch(self._multiply(x, read(self.kernel)))
        else:
            kernel, bias = self._float_kernel(), self._float_bias()
        y = self._multiply(x, self.kernel_quantizer.apply(kernel, training))
        return self._finish(y + self.bias_quantizer.apply(bias, training), training)

    def _fold_batch(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel and bias by the statistics of the batch, which move the moving ones."""
        mean, variance = ops.moments(z, axes=list(range(len(z.shape) - 1)))
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1.0 - self.momentum))
        factor = 1.0 / ops.sqrt(variance + self.epsilon)
        if self.norm_gamma is not None:
            factor = factor * self.norm_gamma
        bias = ops.negative(mean * factor)
        return self.kernel * factor, bias if self.norm_beta is None else bias + self.norm_beta

    def _factor(self) -> Tensor:
        factor = 1.0 / ops.sqrt(_single(self.moving_variance) + self.epsilon)
        return factor if self.norm_gamma is None else factor * _single(self.norm_gamma)

    def _float_kernel(self) -> Tensor:
        return ops.cast(_single(self.kernel) * self._factor(), self.compute_dtype)

    def _float_bias(self) -> Tensor:
        moved = _single(self.moving_mean) * self._factor()
        # Cut off below 2**-24: compilers may fuse product and sum into one operation that rounds once, but not
        # through a floor. So compiled and eager inference give the same bits.
        moved = ops.floor(moved * 2.0**24) * 2.0**-24
        bias = ops.negative(moved) if self.norm_beta is None else _single(self.norm_beta) - moved
        return ops.cast(bias, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
        }


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QDenseBatchNorm(FoldedBatchNorm, QDense):
    """`QDense` followed by batch normalisation, folded before the quantizers; see `FoldedBatchNorm`."""


def _single(variable: Any) -> Tensor:
    return ops.cast(read(variable), "float32")
