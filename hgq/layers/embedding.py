"""Learned vectors, looked up by whole numbers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.base import QLayer
from hgq.layers.luts import table
from hgq.layers.price import Measure
from hgq.layers.table import MOST_BITS
from hgq.quantizers import WidthQuantizer
from hgq.quantizers.exact import Tensor, read


def embedding_quantizer() -> WidthQuantizer:
    """One type for each column, which is a table in hardware, wide enough for its first values."""
    return WidthQuantizer(b0=4.0, i0=None, overflow="SAT_SYM", granularity="channel")


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QEmbedding(QLayer):
    """``y = output_quantizer(activation(q(embeddings)[index]))``: a table for each column in hardware.

    Indices are cut to whole numbers and limited to ``0 .. input_dim - 1``, in training as in hardware.

    Backward: the upstream gradient to the vector that was looked up, through the rules of its quantizer; none to the
    index. There is no multiplication, so EBOPs are 0; gamma prices the bits.

    Args:
        input_dim, output_dim: how many vectors, and their length, as in Keras.
        embeddings_initializer: as in Keras.
        embeddings_quantizer: never None; "default" is a `WidthQuantizer` for each column.
        mask_zero: only False.
        activation, output_quantizer, beta, gamma: see `QLayer`. There is no input quantizer: an index is exact.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        *,
        embeddings_quantizer: Any = "default",
        mask_zero: bool = False,
        **kwargs: Any,
    ):
        no_argument = kwargs.pop("input_quantizer", None)
        super().__init__(input_quantizer=None, **kwargs)
        if no_argument is not None:
            raise TypeError(f"{self}: there is no input_quantizer: an index is exact. Fix: leave it out.")
        for name, size in (("input_dim", input_dim), ("output_dim", output_dim)):
            if not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"{self}: {name}={size!r}; it must be a whole number above 0")
        if input_dim > 1 << MOST_BITS:
            raise ValueError(f"{self}: input_dim={input_dim}; a table has {1 << MOST_BITS} entries at most")
        if mask_zero:
            raise ValueError(f"{self}: mask_zero={mask_zero} is not supported, only False. Fix: leave mask_zero out.")
        self.input_dim, self.output_dim = int(input_dim), int(output_dim)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        quantizer = self._quantizer("embeddings_quantizer", embeddings_quantizer, embedding_quantizer)
        if quantizer is None:
            raise ValueError(
                f"{self}: embeddings_quantizer=None, but a table needs types. "
                'Fix: leave the argument out or pass "default".'
            )
        self.embeddings_quantizer = quantizer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self.add_weight(shape, self.embeddings_initializer, name="embeddings")
        self.embeddings_quantizer.attach(shape, str(self), lambda: read(self.embeddings))
        self._attach(input_shape, self.compute_output_shape(input_shape))

    @property
    def index_bits(self) -> int:
        """Width of the index in hardware."""
        return max((self.input_dim - 1).bit_length(), 1)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        index = ops.cast(ops.clip(ops.cast(x, self.compute_dtype), 0, self.input_dim - 1), "int32")
        vectors = self.embeddings_quantizer.apply(read(self.embeddings), training)
        return self._finish(ops.take(vectors, index, axis=0), training)

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        value = self.embeddings_quantizer.apply(read(self.embeddings), training=False)
        return {"embeddings": self._numpy_constant("embeddings", value, self.embeddings_quantizer)}

    def luts(self) -> Tensor:
        widths = ops.max(self._widths(self.embeddings_quantizer, (self.input_dim, self.output_dim)), axis=0)
        columns = ops.broadcast_to(widths, self._sized(self.output_shape_))
        return self._luts_behind() + table(ops.full_like(columns, float(self.index_bits)), columns)

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        return super().quantized_shapes() | {"embeddings_quantizer": (self.input_dim, self.output_dim)}

    def output_bits(self, measure: Measure, sign: bool) -> Tensor | None:
        if self.output_quantizer is not None:
            return super().output_bits(measure, sign)
        widest = ops.max(measure(self.embeddings_quantizer, (self.input_dim, self.output_dim), sign), axis=0)
        return ops.broadcast_to(widest, self.output_shape_)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, self.output_dim)

    def _quantizer_names(self) -> tuple[str, ...]:
        return "embeddings_quantizer", "output_quantizer"

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
