"""Any function of one number, as a table of integers in hardware."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray, FixedType, encode
from hgq.layers.base import QLayer
from hgq.layers.precision import double_precision
from hgq.quantizers import FracQuantizer
from hgq.quantizers.exact import Tensor, power_of_two, read

MOST_BITS = 16
"""Widest argument of a table: 65,536 entries."""


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_SELU = 1.6732632423543772, 1.0507009873554805

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x * 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)),
    "exponential": np.exp,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: _SELU[1] * np.where(x > 0, x, _SELU[0] * np.expm1(np.minimum(x, 0))),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
}
"""Activations of Keras by name, with their defaults, in float64."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QFunction(QLayer):
    """``y = output_quantizer(function(input_quantizer(x)))``, element by element.

    In training that is what is computed, and gradients go through the function's own derivative. `freeze` (calibration
    calls it) evaluates the function in float64 on every value of each input type, rounds the results to the output
    type, and keeps them as a table in a variable; from then on inference takes its results from there, and so do the
    integer model, the C++ and the Verilog. Training drops the table.

    Args:
        function: name of an activation of Keras (`FUNCTIONS` lists them), or a function of a tensor, registered with
            `keras.saving.register_keras_serializable` if the model is to be saved.
        input_quantizer, output_quantizer: never None; "default" is one learned type for the whole tensor. Elements
            with types of their own get tables of their own.
        table_bits: widest argument, in bits, that a table may have, up to 16.
    """

    def __init__(
        self,
        function: str | Callable[[Any], Any] | dict[str, Any],
        *,
        input_quantizer: Any = "default",
        output_quantizer: Any = "default",
        table_bits: int = 10,
        **kwargs: Any,
    ):
        if isinstance(input_quantizer, str) and input_quantizer == "default":
            input_quantizer = FracQuantizer(f0=3.0, overflow="SAT", granularity="tensor")
        if isinstance(output_quantizer, str) and output_quantizer == "default":
            output_quantizer = FracQuantizer(f0=4.0, overflow="SAT", granularity="tensor")
        super().__init__(input_quantizer=input_quantizer, output_quantizer=output_quantizer, **kwargs)
        if isinstance(function, dict):
            function = keras.saving.deserialize_keras_object(function)
        if isinstance(function, str) and function not in FUNCTIONS:
            raise ValueError(f"{self}: function={function!r}; choose one of {', '.join(FUNCTIONS)}, or pass a function")
        if not isinstance(function, str) and not callable(function):
            raise TypeError(f"{self}: function={function!r} is neither a name nor a function")
        for name in ("input_quantizer", "output_quantizer"):
            if getattr(self, name) is None:
                raise ValueError(f'{self}: {name}=None, but a table needs both types. Fix: pass "default".')
        if not (isinstance(table_bits, int) and 1 <= table_bits <= MOST_BITS):
            raise ValueError(f"{self}: table_bits={table_bits!r}; it must be a whole number in 1..{MOST_BITS}")
        self.function, self.table_bits = function, table_bits

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._attach(input_shape, input_shape)
        groups = zip(self.input_quantizer.group, self.output_quantizer.group, strict=True)
        self.table_group = tuple(max(pair) for pair in groups)
        size = (*self.table_group, 1 << self.table_bits)
        self.table = self.add_weight(size, "zeros", trainable=False, name="table")
        self.table_lowest = self.add_weight(self.table_group, "zeros", trainable=False, name="table_lowest")
        self.table_frac = self.add_weight(self.table_group, "zeros", trainable=False, name="table_frac")
        self.frozen = self.add_weight((), "zeros", trainable=False, name="frozen")

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        x = self._quantize_input(x, training)
        y = self._finish(self._float(x), training)
        if training:
            self.frozen.assign(ops.zeros((), self.frozen.dtype))
            return y
        if self.input_quantizer.calibrating or self.output_quantizer.calibrating:
            return y
        return ops.where(read(self.frozen) > 0, self._look_up(x), y)

    def _float(self, x: Tensor) -> Tensor:
        return keras.activations.get(self.function)(x) if isinstance(self.function, str) else self.function(x)

    def _look_up(self, x: Tensor) -> Tensor:
        """`x` is a number of the input type, so its place in the table is exact."""
        size = 1 << self.table_bits
        starts = np.arange(int(np.prod(self.table_group))).reshape(self.table_group) * size
        place = ops.cast(x * power_of_two(read(self.table_frac)) - read(self.table_lowest), "int32")
        place = ops.clip(place, 0, size - 1) + ops.convert_to_tensor(starts.astype("int32"))
        return ops.take(ops.reshape(read(self.table), (-1,)), place)

    @property
    def is_frozen(self) -> bool:
        """Whether inference reads the table."""
        return bool(ops.convert_to_numpy(read(self.frozen)) > 0)

    def freeze(self) -> None:
        """Makes the table for the present types.

        Raises:
            ValueError: a range is not known, an argument is too wide, or the function is not finite there.
        """
        for quantizer in (self.input_quantizer, self.output_quantizer):
            if not quantizer.range_known:
                raise ValueError(f"{quantizer}: its range is not known. Fix: calibrate or train the model first.")
        reads, types = self.input_quantizer.types(self.table_group), self.output_quantizer.types(self.table_group)
        table = np.zeros((reads.size, 1 << self.table_bits))
        known: dict[tuple, np.ndarray] = {}
        for row, pair in enumerate(zip(reads, types, strict=True)):
            if pair not in known:
                known[pair] = self._entries(*pair)
            table[row, : len(known[pair])] = known[pair]
        self.table.assign(table.reshape(self.table.shape))
        self.table_lowest.assign(reads.lo.astype(np.float64))
        self.table_frac.assign(reads.frac.astype(np.float64))
        self.frozen.assign(np.ones(()))

    def _entries(self, reads: FixedType | None, t: FixedType | None) -> np.ndarray:
        """The results for every value of a type, lowest first, as numbers of the output type."""
        if reads is not None and reads.width > self.table_bits:
            raise ValueError(
                f"{self}: its input type {reads} has {reads.width} bits, more than table_bits={self.table_bits}. "
                "Fix: raise table_bits, or train with fewer bits."
            )
        x = np.arange(reads.lo, reads.hi + 1) * reads.lsb if reads else np.zeros(1)
        with np.errstate(all="ignore"):
            y = FUNCTIONS[self.function](x) if isinstance(self.function, str) else self._by_backend(x)
        if not np.isfinite(y).all():
            where = x[~np.isfinite(y)][0]
            raise ValueError(
                f"{self}: the function gives {y[~np.isfinite(y)][0]} at {where}. Fix: keep it finite there."
            )
        if t is None:
            return np.zeros(len(x))
        types = FixedArray.full((1,), t)
        m = encode(y[:, None], types, self.output_quantizer.rounding, self.output_quantizer.overflow)
        return np.ldexp(m[:, 0].astype(np.float64), -t.frac)

    def _by_backend(self, x: np.ndarray) -> np.ndarray:
        """The user's function in float64."""
        with double_precision():
            y = np.asarray(ops.convert_to_numpy(self._float(ops.convert_to_tensor(x, "float64"))), np.float64)
        if y.shape != x.shape:
            raise ValueError(f"{self}: the function makes shape {y.shape} of {x.shape}. Fix: work element by element.")
        return y

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["activation"]
        named = isinstance(self.function, str)
        function = self.function if named else keras.saving.serialize_keras_object(self.function)
        return config | {"function": function, "table_bits": self.table_bits}
