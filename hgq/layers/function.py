"""Any function of one number, as a table of integers in hardware."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq.layers.base import QLayer
from hgq.layers.luts import table
from hgq.layers.table import Table
from hgq.quantizers import FracQuantizer, Quantizer
from hgq.quantizers.exact import Tensor


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

    In training that is what is computed; freezing or calibrating makes it a table of integers, see `Table`.

    Args:
        function: name of an activation of Keras (`FUNCTIONS` lists them), or a function of a tensor, registered with
            `keras.saving.register_keras_serializable` if the model is to be saved.
        input_quantizer, output_quantizer: never None; "default" is one learned type for the whole tensor. Elements
            with types of their own get tables of their own.
        table_bits: widest argument, in bits, that a table may have, up to 16.
    """

    takes_activation = False

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
        self.function = function
        exact = FUNCTIONS[function] if isinstance(function, str) else None
        self.table = self._table("table", self._float, exact, table_bits)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._attach(input_shape, input_shape)
        self.table.attach(self.input_quantizer, self.output_quantizer, str(self))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        return self._priced(self.table.apply(self._quantize_input(x, training), training), training)

    def compute(self, x: Tensor, training: bool, quantize: Callable[[Quantizer, Tensor], Tensor]) -> Tensor:
        """The results, with a function of one's own that applies quantizers; changes nothing by itself."""
        return self.table.compute(quantize(self.input_quantizer, x), training, quantize)

    def luts(self) -> Tensor:
        return self._luts_before() + self.own_luts()

    def own_luts(self) -> Tensor:
        """LUTs of the tables, whose results need no further limits."""
        widths = [
            self._widths(quantizer, self.input_shape_) for quantizer in (self.input_quantizer, self.output_quantizer)
        ]
        return table(*widths)

    def _float(self, x: Tensor) -> Tensor:
        return keras.activations.get(self.function)(x) if isinstance(self.function, str) else self.function(x)

    def tables(self) -> dict[str, Table]:
        return {"table": self.table}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        named = isinstance(self.function, str)
        function = self.function if named else keras.saving.serialize_keras_object(self.function)
        return super().get_config() | {"function": function, "table_bits": self.table.table_bits}
