"""What recurrent layers share: the walk over time, their constants, their price."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.activation import QActivation
from hgq.layers.arrival import limits
from hgq.layers.base import ACTIVATIONS, QLayer
from hgq.layers.conv import channel_quantizer
from hgq.layers.function import QFunction
from hgq.layers.luts import biases, sums
from hgq.layers.table import Table
from hgq.quantizers import FracQuantizer, Quantizer, bias_quantizer, weight_quantizer
from hgq.quantizers.exact import Tensor, read
from hgq.resource.ebops import bias_ebops, matmul_ebops

Apply = Callable[[Any, Tensor], Tensor]
"""Applies a quantizer, or an activation with its quantizers, to a value of one time step."""

UNSUPPORTED = {
    "stateful": "leave it out: hardware starts every sequence at zero",
    "dropout": "put keras.layers.Dropout in front of the layer",
    "recurrent_dropout": "leave it out, or put keras.layers.Dropout in front of the layer",
    "zero_output_for_mask": "leave it out: there are no masks",
    "kernel_regularizer": "leave it out: beta prices the bits of all weights",
    "recurrent_regularizer": "leave it out: beta prices the bits of all weights",
    "bias_regularizer": "leave it out: beta prices the bits of all weights",
    "kernel_constraint": "leave it out: the quantizers bound all weights",
    "recurrent_constraint": "leave it out: the quantizers bound all weights",
    "bias_constraint": "leave it out: the quantizers bound all weights",
}
"""Arguments of Keras' recurrent layers that may only be left at their default, and what to do instead."""


def state_quantizer() -> FracQuantizer:
    """States: one type for each unit, the same at every time step. A state that wrapped would spoil all that follow."""
    return FracQuantizer(f0=4.0, overflow="SAT", granularity="channel")


class Recurrent(QLayer):
    """A layer that walks over time; hardware holds one copy of the cell for each step. States start at zero.

    Everything that is multiplied is quantised: input, kernels, states, gates. Types are the same at every time step,
    so that all steps but the first (whose state is zero) share one Verilog module.

    EBOPs-bar of a call, over T time steps: ``T`` times that of the input kernel and the biases, ``T - 1`` times that of
    the recurrent kernel, and for each product of two variables the product of both widths.

    Args:
        units: width of the state.
        activation: name of a function ("tanh", "sigmoid", "hard_sigmoid" ... as for `QFunction`), "relu", "linear", or
            a `QFunction` or `QActivation` with quantizers of one's own.
        use_bias, kernel_initializer, recurrent_initializer, bias_initializer: as in Keras.
        kernel_quantizer, recurrent_quantizer, bias_quantizer: as for `QDense`.
        input_quantizer: "default" is a `FracQuantizer` per channel, shared by all time steps.
        return_sequences, return_state, go_backwards: as in Keras.
        unroll: without meaning here: training loops over time, hardware is always unrolled.
        beta, gamma: see `QLayer`.
    """

    blocks: ClassVar[int]
    """Blocks of `units` columns in both kernels."""
    state_count: ClassVar[int] = 1
    takes_activation = False
    _activation_default = staticmethod(channel_quantizer)

    def __init__(
        self,
        units: int,
        *,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_quantizer: Any = "default",
        recurrent_quantizer: Any = "default",
        bias_quantizer: Any = "default",
        input_quantizer: Any = "default",
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ):
        refused = {name: kwargs.pop(name) for name in UNSUPPORTED if name in kwargs}
        super().__init__(input_quantizer=input_quantizer, **kwargs)
        for name, value in refused.items():
            if value:
                raise ValueError(f"{self}: {name}={value!r} is not supported. Fix: {UNSUPPORTED[name]}.")
        if not isinstance(units, int | np.integer) or units < 1:
            raise ValueError(f"{self}: units={units!r}; it must be a whole number above 0")
        self.units, self.use_bias = int(units), bool(use_bias)
        self._required("input_quantizer", input_quantizer, channel_quantizer)
        self.kernel_quantizer = self._required("kernel_quantizer", kernel_quantizer, weight_quantizer)
        self.recurrent_quantizer = self._required("recurrent_quantizer", recurrent_quantizer, weight_quantizer)
        if use_bias:
            self.bias_quantizer = self._required("bias_quantizer", bias_quantizer, _bias_default)
        self.activation = self._part("activation", activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.unroll, self.stateful = bool(go_backwards), bool(unroll), False
        self.states = None  # keras.layers.Bidirectional asks for this and the next
        self.input_spec = keras.layers.InputSpec(ndim=3)

    # --- for subclasses ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _step(self, x: Tensor, states: list[Tensor], constants: dict[str, Tensor], apply: Apply) -> list[Tensor]:
        """The next states, the layer's output first.

        Args:
            x: what the input kernel makes of this step's input, biases of `_input_biases` included.
            constants: quantised "recurrent" kernel and "bias".
        """

    @abstractmethod
    def _products(self, recurrent: Tensor) -> Tensor:
        """EBOPs-bar of the products of two variables in a call, and of what the recurrent kernel multiplies.

        Args:
            recurrent: bits of each element of the recurrent kernel, or what else its price is counted in.
        """

    @abstractmethod
    def _exact_products(self, recurrent: np.ndarray) -> int:
        """As `_products`, exact; `recurrent` are the mantissas of the recurrent kernel."""

    def _parts(self) -> dict[str, QFunction | QActivation]:
        """The activations by the name of their argument."""
        return {"activation": self.activation}

    def _part_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"activation": (self.units,)}

    def _inner_quantizers(self) -> tuple[str, ...]:
        """Names of the quantizers of states and of what stands between products."""
        return ()

    def _bias_blocks(self) -> int:
        return self.blocks

    # --- building ---------------------------------------------------------------------------------------------------

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(
                f"{self}: its input has shape {tuple(input_shape)}; it takes (batch, steps, features), and hardware "
                "needs both sizes. Fix: give the model a fully known input shape."
            )
        self.steps: int = input_shape[1]  # type: ignore[assignment]
        features = input_shape[2]
        columns = self.blocks * self.units
        self.kernel = self.add_weight((features, columns), self.kernel_initializer, name="kernel")
        self.recurrent_kernel = self.add_weight(
            (self.units, columns), self.recurrent_initializer, name="recurrent_kernel"
        )
        self.kernel_quantizer.attach(tuple(self.kernel.shape), str(self), lambda: read(self.kernel))
        self.recurrent_quantizer.attach(
            tuple(self.recurrent_kernel.shape), str(self), lambda: read(self.recurrent_kernel)
        )
        if self.use_bias:
            biases = (self._bias_blocks() * self.units,)
            self.bias = self.add_weight(biases, self._first_biases, name="bias")
            self.bias_quantizer.attach(biases, str(self), lambda: read(self.bias))
        for name in self._inner_quantizers():
            getattr(self, name).attach((self.units,), str(self))
        for name, part in self._parts().items():
            part.build((None, *self._part_shapes()[name]))
        self._attach(input_shape, (None, self.units))

    def _first_biases(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return self.bias_initializer(shape, dtype=dtype)

    def _part(self, argument: str, given: Any) -> QFunction | QActivation:
        """The layer's own copy of an activation: a table, or a rectifier with a quantizer behind it."""
        name = f"{self.name}_{argument}"
        if isinstance(given, dict):
            given = keras.saving.deserialize_keras_object(given)
        if isinstance(given, QFunction | QActivation):
            if given.output_quantizer is None:
                raise ValueError(f"{self}: {argument}={given} has no output_quantizer. Fix: give it one.")
            if isinstance(given, QActivation) and given.slope() is not None:
                raise ValueError(
                    f"{self}: {argument}={given} multiplies by a slope. Fix: use QFunction({given.activation_name!r})."
                )
            return type(given).from_config(given.get_config() | {"name": name, "dtype": self.dtype_policy})
        if given is None or (isinstance(given, str) and given in ACTIVATIONS):
            plain = {"input_quantizer": None, "output_quantizer": state_quantizer()}
            return QActivation(given, name=name, dtype=self.dtype_policy, **plain)
        try:
            return QFunction(given, name=name, dtype=self.dtype_policy)
        except (ValueError, TypeError) as wrong:
            raise type(wrong)(f"{self}: {argument}={given!r}: {wrong}; or relu, linear, a QFunction") from None

    def _output_of(self, part: QFunction | QActivation) -> Quantizer:
        """The quantizer behind an activation; `_part` has seen to it that there is one."""
        assert part.output_quantizer is not None
        return part.output_quantizer

    def _required(self, argument: str, given: Any, default: Callable[[], Quantizer]) -> Quantizer:
        """The layer's own copy of a quantizer that must be there."""
        quantizer = self._quantizer(argument, given, default)
        if quantizer is None:
            raise ValueError(
                f"{self}: {argument}=None, but everything that enters the layer's arithmetic must be quantised. "
                'Fix: leave the argument out or pass "default".'
            )
        return quantizer

    # --- computing --------------------------------------------------------------------------------------------------

    def call(self, sequences: Tensor, initial_state: Any = None, training: bool = False) -> Any:
        if initial_state is not None:
            raise ValueError(
                f"{self}: it is called with an initial_state, but hardware starts every sequence at zero. "
                "Fix: leave initial_state out."
            )
        x = self._quantize_input(sequences, training)
        constants = {name: q.apply(read(value), training) for name, (q, value) in self._constant_sources().items()}
        x = ops.matmul(x, constants["kernel"])
        if self.use_bias:
            x = x + constants["bias"][: self.blocks * self.units]
        if training:
            for table in self.tables().values():
                table.thaw()
        x = ops.transpose(x, (1, 0, 2))
        readers: list[tuple[Quantizer, int]] = []
        *states, seen = self._walk(ops.flip(x, axis=0) if self.go_backwards else x, constants, training, readers)
        # A range is that of all steps together: once a call, so that it shrinks no faster than that of other layers.
        for quantizer, size in readers:
            quantizer.observe(ops.transpose(seen[:, :, :size], (1, 0, 2)), training)
            seen = seen[:, :, size:]
        last = [state[-1] for state in states]
        y = self._priced(ops.transpose(states[0], (1, 0, 2)) if self.return_sequences else last[0], training)
        return [y, *last] if self.return_state else y

    def _walk(
        self, x: Tensor, constants: dict[str, Tensor], training: bool, readers: list[tuple[Quantizer, int]]
    ) -> list[Tensor]:
        """The states at every step and, last, all values that quantizers read there; ``(steps, batch, n)`` each.

        The first step is computed by itself, as in hardware; the others are one loop of the backend. `readers` is
        filled with those quantizers and how many values each reads.
        """

        def step(states: list[Tensor], one: Tensor) -> list[Tensor]:
            seen: list[tuple[Quantizer, Tensor]] = []

            def apply(part: Any, value: Tensor) -> Tensor:
                if not isinstance(part, Quantizer):
                    return part.compute(value, training, apply)
                seen.append((part, value))
                return part.quantized(value, training)

            states = self._step(one, states, constants, apply)
            readers[:] = [(quantizer, value.shape[-1]) for quantizer, value in seen]
            return [*states, ops.concatenate([value for _, value in seen], axis=-1)]

        def body(carry: list[Tensor], one: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            made = step(carry[:-1], one)
            return made, made

        first = step([ops.zeros_like(x[0, :, : self.units])] * self.state_count, x[0])
        if self.steps == 1:
            return [value[None] for value in first]
        _, later = ops.scan(body, first, x[1:], length=self.steps - 1)
        return [ops.concatenate([a[None], b]) for a, b in zip(first, later, strict=True)]

    def _constant_sources(self) -> dict[str, tuple[Quantizer, Any]]:
        sources = {
            "kernel": (self.kernel_quantizer, self.kernel),
            "recurrent": (self.recurrent_quantizer, self.recurrent_kernel),
        }
        return sources | ({"bias": (self.bias_quantizer, self.bias)} if self.use_bias else {})

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        """ "kernel", "recurrent" and "bias" as inference computes them (float64), and their types."""
        return {
            name: self._numpy_constant(name, quantizer.apply(read(value), training=False), quantizer)
            for name, (quantizer, value) in self._constant_sources().items()
        }

    def _recurrent_bias(self, constants: dict[str, Tensor]) -> Tensor | float:
        """Biases that belong to the recurrent kernel: those behind the blocks of the input kernel."""
        return constants["bias"][self.blocks * self.units :] if self.use_bias else 0.0

    def compute_output_shape(self, sequences_shape: tuple[int | None, ...], initial_state_shape: Any = None) -> Any:  # noqa: ARG002
        state = (sequences_shape[0], self.units)
        y = (*sequences_shape[:2], self.units) if self.return_sequences else state
        return (y, *(state,) * self.state_count) if self.return_state else y

    # --- price ------------------------------------------------------------------------------------------------------

    def ebops_bar(self) -> Tensor:
        per_input = ops.sum(self._bits_of("kernel_quantizer", self.kernel.shape, sign=False), axis=1)
        widths = ops.broadcast_to(self.input_quantizer.bits(sign=True), self.input_shape_)
        recurrent = self._bits_of("recurrent_quantizer", self.recurrent_kernel.shape, sign=False)
        total = ops.sum(widths * per_input) + self._products(recurrent)
        if self.use_bias:
            total = total + self.steps * ops.sum(self._bits_of("bias_quantizer", self.bias.shape, sign=True))
        return total

    def luts(self) -> Tensor:
        widths = ops.expand_dims(self._widths(self.input_quantizer, self.input_shape_), 0)
        kernel = self.kernel_quantizer
        total = self._luts_before() + sums(widths, kernel.digits(), kernel.spare_bits(), ops.matmul)
        total = total + self._products(self.recurrent_quantizer.digits())
        steps = float(self.steps)
        for part in self._parts().values():
            total = total + steps * part.own_luts()
        for name in self._inner_quantizers():
            quantizer = getattr(self, name)
            total = total + steps * limits(quantizer, self._wide(quantizer, self.units))
        if self.use_bias:
            total = total + steps * biases(self._bits_of("bias_quantizer", self.bias.shape, sign=True))
        return total

    def exact_ebops(self) -> int:
        m = {name: np.ldexp(v, types.frac).astype(np.int64) for name, (v, types) in self.constants().items()}
        total = matmul_ebops(m["kernel"], self.input_quantizer.types(self._known_input_shape()).width)
        if self.use_bias:
            total += bias_ebops(m["bias"], self.bias_quantizer.types(m["bias"].shape).width, self.steps)
        return total + self._exact_products(m["recurrent"])

    def _bits_of(self, name: str, shape: Any, sign: bool) -> Tensor:
        return ops.broadcast_to(getattr(self, name).bits(sign=sign), shape)

    def _wide(self, quantizer: Quantizer, count: int) -> Tensor:
        """Widths of a vector, differentiable."""
        return ops.broadcast_to(quantizer.bits(sign=True), (count,))

    # --- what is inside ---------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, Table]:
        return {f"{name}.{key}": table for name, part in self._parts().items() for key, table in part.tables().items()}

    def quantizers(self) -> dict[str, Quantizer]:
        inner = {f"{n}.{key}": q for n, part in self._parts().items() for key, q in part.quantizers().items()}
        return super().quantizers() | inner

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {
            "kernel_quantizer": tuple(self.kernel.shape),
            "recurrent_quantizer": tuple(self.recurrent_kernel.shape),
            "bias_quantizer": (self._bias_blocks() * self.units,),
        }
        shapes |= dict.fromkeys(self._inner_quantizers(), (self.units,))
        for name, part in self._parts().items():
            shapes |= {f"{name}.{key}": shape for key, shape in part.quantized_shapes().items()}
        return super().quantized_shapes() | {n: shape for n, shape in shapes.items() if n in self.quantizers()}

    def _quantizer_names(self) -> tuple[str, ...]:
        return (
            "input_quantizer",
            "kernel_quantizer",
            "recurrent_quantizer",
            "bias_quantizer",
            *self._inner_quantizers(),
        )

    def get_config(self) -> dict[str, Any]:
        parts = {name: keras.saving.serialize_keras_object(part) for name, part in self._parts().items()}
        initializers = ("kernel_initializer", "recurrent_initializer", "bias_initializer")
        plain = ("units", "use_bias", "return_sequences", "return_state", "go_backwards", "unroll")
        return (
            super().get_config()
            | {name: keras.initializers.serialize(getattr(self, name)) for name in initializers}
            | {name: getattr(self, name) for name in plain}
            | parts
        )


_bias_default = bias_quantizer  # the constructor's argument of the same name hides it
