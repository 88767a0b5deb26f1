"""Multi-head attention: projections, scores, softmax, weighted sum, each of them a quantised layer."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.layers.base import QLayer
from hgq.layers.conv import channel_quantizer
from hgq.layers.einsum import QEinsumDense
from hgq.layers.product import QEinsum
from hgq.layers.softmax import QSoftmax
from hgq.quantizers import FracQuantizer, Quantizer
from hgq.quantizers.exact import Tensor


def weight_of_attention_quantizer() -> FracQuantizer:
    """What multiplies the values: numbers from 0 to 1, one type for all."""
    return FracQuantizer(f0=6.0, overflow="SAT", granularity="tensor")


class Scaled(QEinsumDense):
    """A `QEinsumDense` whose kernel and bias are multiplied by `factor` before they are quantised."""

    factor = 1.0

    def _float_kernel(self) -> Tensor:
        return self._times(super()._float_kernel())

    def _float_bias(self) -> Tensor:
        return self._times(super()._float_bias())

    def _times(self, value: Tensor) -> Tensor:
        # In float32 whatever the dtype, so that a float64 copy of a model has the same constants.
        return ops.cast(ops.cast(value, "float32") * np.float32(self.factor), self.compute_dtype)


@keras.saving.register_keras_serializable(package="hgq_fpga")
class QMultiHeadAttention(QLayer):
    """keras.layers.MultiHeadAttention with learned types, for tensors of shape (batch, tokens, features)::

        q, k, v = query_dense(query), key_dense(key), value_dense(value)       one kernel for each head
        weights = softmax(einsum("bqhd,bkhd->bhqk", q, k) / sqrt(key_dim))     masked where `mask` says so
        y = output_dense(einsum("bhqk,bkhd->bqhd", weights, v))

    The parts are layers of this package: `query_dense`, `key_dense`, `value_dense`, `output_dense` (`QEinsumDense`),
    `scores`, `combine` (`QEinsum`), `softmax` (`QSoftmax`); they have the quantizers, tables, losses and EBOPs.
    1/sqrt(key_dim) is split: its power of two costs nothing, the rest goes into the query's kernel and bias before
    they are quantised. Weights of a Keras layer therefore mean the same here.

    Called as ``layer(query, value)`` or ``layer(query, value, key)``; the value is the key where there is none.

    Args:
        num_heads, key_dim, value_dim, use_bias, kernel_initializer, bias_initializer: as in Keras.
        dropout: part of the attention weights that training drops.
        output_shape: number of features that leave; by default those of the query.
        mask: constant booleans of shape (queries, keys) or (heads, queries, keys), True where a query attends;
            "causal" for no attention to later tokens. In place of Keras' use_causal_mask and attention_mask.
        stable: whether the softmax subtracts the largest score first, see `QSoftmax`.
        input_quantizer: of query, key and value as they come in, for each a copy; "default" is per channel.
        kernel_quantizer, bias_quantizer: of the four dense layers.
        head_quantizer: of projected queries, keys and values; "default" is per channel.
        weight_quantizer: of the attention weights; "default" is one type for all.
        output_quantizer: of the result; None leaves the exact accumulator.
        softmax: arguments for `QSoftmax`, such as {"table_bits": 10}.
        attention_axes, flash_attention, sliding_window, use_gate: only None, None, None, False.
    """

    takes_activation = False

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | tuple[int, ...] | None = None,
        *,
        mask: Any = None,
        stable: bool = True,
        input_quantizer: Any = "default",
        kernel_quantizer: Any = "default",
        bias_quantizer: Any = "default",
        head_quantizer: Any = "default",
        weight_quantizer: Any = "default",
        output_quantizer: Any = None,
        softmax: dict[str, Any] | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        attention_axes: None = None,
        flash_attention: None = None,
        sliding_window: None = None,
        use_gate: bool = False,
        **kwargs: Any,
    ):
        super().__init__(input_quantizer=None, output_quantizer=None, **kwargs)
        for name, value in (
            ("attention_axes", attention_axes),
            ("flash_attention", flash_attention),
            ("sliding_window", sliding_window),
            ("use_gate", use_gate),
        ):
            if value:
                raise ValueError(f"{self}: {name}={value!r} is not supported. Fix: leave {name} out.")
        self.num_heads, self.key_dim = self._size("num_heads", num_heads), self._size("key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else self._size("value_dim", value_dim)
        shape = output_shape[0] if isinstance(output_shape, list | tuple) and len(output_shape) == 1 else output_shape
        self.features = None if shape is None else self._size("output_shape", shape)
        if not 0 <= dropout < 1:
            raise ValueError(f"{self}: dropout={dropout}; it must lie in 0..1, 1 left out")
        self.dropout, self.use_bias, self.stable = dropout, bool(use_bias), bool(stable)
        self.mask = mask if mask is None or isinstance(mask, str) else np.asarray(mask)
        if isinstance(mask, str) and mask != "causal":
            raise ValueError(f"{self}: mask={mask!r}; give constant booleans, or 'causal'")
        self.templates = {
            "input_quantizer": self._template("input_quantizer", input_quantizer),
            "kernel_quantizer": self._template("kernel_quantizer", kernel_quantizer),
            "bias_quantizer": self._template("bias_quantizer", bias_quantizer),
            "head_quantizer": self._template("head_quantizer", head_quantizer),
            "weight_quantizer": self._template("weight_quantizer", weight_quantizer),
            "output_quantizer": self._template("output_quantizer", output_quantizer),
        }
        self.softmax_arguments = {name: _configuration(value) for name, value in (softmax or {}).items()}
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        for name, shape in (("query", query_shape), ("value", value_shape), ("key", key_shape)):
            if len(shape) != 3 or None in shape[1:]:
                raise ValueError(
                    f"{self}: its {name} has shape {tuple(shape)}; it takes (batch, tokens, features) of known "
                    "sizes. Fix: Reshape to one axis of tokens."
                )
        if value_shape[1] != key_shape[1]:
            raise ValueError(f"{self}: {key_shape[1]} keys, but {value_shape[1]} values. Fix: give as many of both.")
        (queries, keys), heads = (query_shape[1], key_shape[1]), self.num_heads
        features = self.features or query_shape[-1]
        fraction, power = math.frexp(1 / math.sqrt(self.key_dim))  # fraction: 0.5 to 1
        self.power = power - (fraction < math.sqrt(0.5))
        factor = math.ldexp(1 / math.sqrt(self.key_dim), -self.power)
        self.query_dense = self._projection("query", query_shape, self.key_dim, factor)
        self.key_dense = self._projection("key", key_shape, self.key_dim)
        self.value_dense = self._projection("value", value_shape, self.value_dim)
        head, how = self._given("head_quantizer", channel_quantizer), self._shared()
        self.scores = QEinsum("bqhd,bkhd->bhqk", left_quantizer=head, right_quantizer=head, name="scores", **how)
        self.scores.build([(None, queries, heads, self.key_dim), (None, keys, heads, self.key_dim)])
        softmax = {"stable": self.stable, "mask": self._softmax_mask(queries, keys), "output_quantizer": None}
        self.softmax = QSoftmax(**softmax | dict(self.softmax_arguments), name="softmax", **how)
        self.softmax.build((None, heads, queries, keys))
        self.dropped = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        weight = self._given("weight_quantizer", weight_of_attention_quantizer)
        self.combine = QEinsum("bhqk,bkhd->bqhd", left_quantizer=weight, right_quantizer=head, name="combine", **how)
        self.combine.build([(None, heads, queries, keys), (None, keys, heads, self.value_dim)])
        inner = (None, queries, heads, self.value_dim)
        self.output_dense = self._dense("output", "abcd,cde->abe", (queries, features), "e")
        self.output_dense.build(inner)
        self.input_shape_, self.output_shape_ = tuple(query_shape[1:]), (queries, features)

    def _projection(self, name: str, shape: Any, size: int, factor: float = 1.0) -> QEinsumDense:
        layer = self._dense(name, "abc,cde->abde", (shape[1], self.num_heads, size), "de")
        layer.factor = factor
        layer.build(shape)
        return layer

    def _dense(self, name: str, equation: str, shape: tuple[int, ...], bias_axes: str) -> Scaled:
        return Scaled(
            equation,
            shape,
            bias_axes=bias_axes if self.use_bias else None,
            name=name,
            input_quantizer=self._given("input_quantizer" if name != "output" else "head_quantizer", channel_quantizer),
            kernel_quantizer=self.templates["kernel_quantizer"],
            bias_quantizer=self.templates["bias_quantizer"],
            output_quantizer=self.templates["output_quantizer"] if name == "output" else None,
            kernel_initializer=_fresh(self.kernel_initializer),
            bias_initializer=_fresh(self.bias_initializer),
            **self._shared(),
        )

    def _softmax_mask(self, queries: int, keys: int) -> np.ndarray | None:
        if isinstance(self.mask, str):
            return np.tril(np.ones((queries, keys), bool))
        if self.mask is not None and (self.mask.dtype != bool or self.mask.shape[-2:] != (queries, keys)):
            raise ValueError(
                f"{self}: mask of type {self.mask.dtype} and shape {self.mask.shape}; it must hold booleans for "
                f"{queries} queries and {keys} keys"
            )
        return self.mask

    def call(self, query: Tensor, value: Tensor, key: Tensor | None = None, training: bool = False) -> Tensor:
        key = value if key is None else key
        q = self.query_dense(query, training=training)
        k = self.key_dense(key, training=training)
        v = self.value_dense(value, training=training)
        scores = self.scores([q, k], training=training) * 2.0**self.power
        weights = self.dropped(self.softmax(scores, training=training), training=training)
        return self.output_dense(self.combine([weights, v], training=training), training=training)

    def parts(self) -> list[QLayer]:
        names = ("query_dense", "key_dense", "value_dense", "scores", "softmax", "combine", "output_dense")
        return [getattr(self, name) for name in names]

    def compute_output_shape(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> tuple:  # noqa: ARG002
        return (*query_shape[:-1], self.features or query_shape[-1])

    def _shared(self) -> dict[str, Any]:
        return {"cost": self.cost, "beta": self.initial_beta, "gamma": self.gamma, "dtype": self.dtype_policy}

    def _given(self, name: str, default: Any) -> Any:
        given = self.templates[name]
        return default() if isinstance(given, str) and given == "default" else given

    def _template(self, argument: str, given: Any) -> Any:
        """What the user gave for the quantizers of the parts; objects as configurations, for each part makes a copy."""
        if self._quantizer(argument, given, channel_quantizer) is None and argument != "output_quantizer":
            raise ValueError(
                f"{self}: {argument}=None, but everything that enters a multiplication must be quantised. "
                'Fix: leave the argument out or pass "default".'
            )
        return _configuration(given)

    def _size(self, name: str, value: Any) -> int:
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{self}: {name}={value!r}; it must be a whole number above 0")
        return int(value)

    def get_config(self) -> dict[str, Any]:
        mask = self.mask.tolist() if isinstance(self.mask, np.ndarray) else self.mask
        return (
            super().get_config()
            | dict(self.templates)
            | {
                "cost": self.query_dense.cost if self.built else self.cost,  # callbacks set it in the parts
                "num_heads": self.num_heads,
                "key_dim": self.key_dim,
                "value_dim": self.value_dim,
                "dropout": self.dropout,
                "use_bias": self.use_bias,
                "output_shape": self.features,
                "mask": mask,
                "stable": self.stable,
                "softmax": dict(self.softmax_arguments),
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
                "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            }
        )


def _configuration(given: Any) -> Any:
    return keras.saving.serialize_keras_object(given) if isinstance(given, Quantizer) else given


def _fresh(initializer: Any) -> Any:
    """A copy: one object would give all kernels the same values."""
    return initializer.__class__.from_config(initializer.get_config())
