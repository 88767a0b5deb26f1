"""What all quantised layers share: activation, input and output quantizers, the price of bits, saving."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray
from hgq.layers.arrival import arrival, limits
from hgq.layers.price import Measure, exact_price, products_price, trained
from hgq.layers.rectify import ACTIVATIONS
from hgq.layers.table import Exact, Table
from hgq.quantizers import Quantizer, activation_quantizer
from hgq.quantizers.exact import Tensor
from hgq.resource.model import COSTS

DTYPES = ("float32", "float64")


class QLayer(keras.layers.Layer):
    """Base of all quantised layers. The converter recognises layers by it and reads:

    `input_quantizer`, `output_quantizer` (a quantizer or None), `activation_name` (of `ACTIVATIONS`),
    `input_shape_` (shape of the input without the batch axis) and `constants()`.

    In training each call adds ``beta * cost + gamma * sum(bits)`` to the loss, where cost is `luts` or `ebops_bar`;
    evaluation adds nothing, so that `val_loss` is the loss of the task alone.

    Args:
        activation: None, "linear", "relu", "relu6" or "hard_tanh".
        input_quantizer: quantizes what comes in; "default" is a `FracQuantizer` per element.
        output_quantizer: quantizes what goes out, after the activation; None leaves the exact accumulator.
        cost: "ebops" or "luts": what training presses on. Callbacks such as `BetaSchedule` set it for a whole model.
        beta: weight of the cost in the loss, kept in a variable that `BetaSchedule` sets.
        gamma: weight of the plain sum of bits in the loss. Far below 1e-6: Adam turns any steady gradient into
            full-speed decay of bits that nothing else holds.
    """

    takes_activation: ClassVar[bool] = True
    """False: the layer computes a function of its own, and `activation` is refused."""
    _activation_default = staticmethod(activation_quantizer)
    """What "default" means for the quantizers of activations."""

    def __init__(
        self,
        *,
        activation: str | None = None,
        input_quantizer: Any = "default",
        output_quantizer: Any = None,
        cost: str = "ebops",
        beta: float = 1e-6,
        gamma: float = 1e-8,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._check_dtype()
        self.activation_name = self._activation(activation)
        if not self.takes_activation and self.activation_name != "linear":
            raise ValueError(f"{self}: activation={activation!r}, but it has none. Fix: put a QActivation behind it.")
        for what, value in (("beta", beta), ("gamma", gamma)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{self}: {what}={value}; it must be 0 or more")
        if cost not in COSTS:
            raise ValueError(f"{self}: cost={cost!r}; choose one of {', '.join(COSTS)}")
        self.cost, self.initial_beta, self.gamma = cost, beta, gamma
        self.input_quantizer = self._quantizer("input_quantizer", input_quantizer, self._activation_default)
        self.output_quantizer = self._quantizer("output_quantizer", output_quantizer, self._activation_default)

    def constants(self) -> dict[str, tuple[np.ndarray, FixedArray]]:
        """Quantised constants as inference computes them (float64) and their learned types: "kernel", "bias"."""
        return {}

    def exact_ebops(self) -> int:
        """Exact EBOPs of one call of this layer."""
        return 0

    def ebops_bar(self) -> Tensor:
        """Differentiable upper estimate of the EBOPs of one call."""
        return ops.zeros((), self.compute_dtype)

    def luts(self) -> Tensor:
        """LUTs to expect of one call, with what stands in front of it; differentiable, see `hgq/layers/luts.py`."""
        return self._luts_before() + self._luts_behind()

    @property
    def rectifies(self) -> bool:
        """Whether the layer's activation takes LUTs."""
        return self.activation_name != "linear"

    def product_ebops(self) -> float:
        """Exact EBOPs of one call's share of products that Keras' own layers make of what this one gives."""
        return exact_price(self) / max(len(self._inbound_nodes), 1)

    def output_bits(self, measure: Measure, sign: bool) -> Tensor | None:
        """Bits of each element that the layer gives (no batch axis), or None where no quantizer states them."""
        if self.output_quantizer is None:
            return None
        return measure(self.output_quantizer, self.output_shape_, sign)

    def quantizers(self) -> dict[str, Quantizer]:
        """All quantizers of the layer by the name of their argument."""
        found = {name: getattr(self, name, None) for name in self._quantizer_names()}
        return {name: quantizer for name, quantizer in found.items() if quantizer is not None}

    def quantized_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape (no batch axis) of the tensor that each quantizer of `quantizers()` works on."""
        shapes = {"input_quantizer": self.input_shape_, "output_quantizer": self.output_shape_}
        return {name: shapes[name] for name in self.quantizers() if name in shapes}

    def parts(self) -> list[QLayer]:
        """The quantised layers that this one is made of, if any: quantizers, tables and prices are then theirs."""
        return []

    def tables(self) -> dict[str, Table]:
        """Tables of functions that the layer owns, by name; none in most layers."""
        return {}

    def freeze(self) -> None:
        """Makes every table of the layer for the present types; see `Table.freeze`."""
        for table in self.tables().values():
            table.freeze()

    def product_luts(self) -> Tensor:
        """As `product_ebops`, of the trained widths: a product of two variables takes about as many LUTs as EBOPs."""
        # Products behind the layer are those of all its calls together.
        return ops.cast(products_price(self, trained) / max(len(self._inbound_nodes), 1), self.compute_dtype)

    # --- for subclasses ---------------------------------------------------------------------------------------------

    def _quantizer_names(self) -> tuple[str, ...]:
        return "input_quantizer", "output_quantizer"

    def _attach(self, input_shape: tuple[int | None, ...], output_shape: tuple[int | None, ...]) -> None:
        """Builds what this class owns; shapes with the batch axis."""
        self.input_shape_, self.output_shape_ = tuple(input_shape[1:]), tuple(output_shape[1:])
        if self.input_quantizer is not None:
            self.input_quantizer.attach(self.input_shape_, str(self))
        if self.output_quantizer is not None:
            self.output_quantizer.attach(self.output_shape_, str(self))
        self.beta = self.add_weight(
            (), keras.initializers.Constant(self.initial_beta), trainable=False, name="ebops_beta"
        )

    def _quantize_input(self, x: Tensor, training: bool) -> Tensor:
        return x if self.input_quantizer is None else self.input_quantizer.apply(x, training)

    def _finish(self, y: Tensor, training: bool) -> Tensor:
        """Activation, output quantizer, and the price of this call."""
        y = self._activate(y)
        if self.output_quantizer is not None:
            y = self.output_quantizer.apply(y, training)
        return self._priced(y, training)

    def _activate(self, y: Tensor) -> Tensor:
        """The activation of `y`."""
        return ACTIVATIONS[self.activation_name](y)

    def _priced(self, y: Tensor, training: bool) -> Tensor:
        """`y`; in training the price of this call goes to the loss."""
        if training:
            quantizers = self.quantizers().values()
            with ExitStack() as stack:
                for quantizer in quantizers:
                    stack.enter_context(quantizer.unchanged())
                all_bits = sum(ops.sum(quantizer.bits(sign=False)) for quantizer in quantizers)
                price = (self.luts() if self.cost == "luts" else self.ebops_bar()) + self.product_luts()
            self.add_loss(self.beta * price + self.gamma * all_bits)
        return y

    def _luts_before(self) -> Tensor:
        """LUTs of what stands between the layers before and the input quantizer."""
        if self.input_quantizer is None:
            return ops.zeros((), self.compute_dtype)
        return arrival(self, 0, self.input_quantizer, self._widths(self.input_quantizer, self.input_shape_))

    def _luts_behind(self) -> Tensor:
        """LUTs of the activation and the output quantizer; where there is none, whoever reads the layer pays."""
        if self.output_quantizer is None:
            return ops.zeros((), self.compute_dtype)
        widths = self._widths(self.output_quantizer, self.output_shape_)
        return limits(self.output_quantizer, widths) + (ops.sum(widths) if self.rectifies else 0.0)

    def _widths(self, quantizer: Quantizer, shape: tuple[int | None, ...]) -> Tensor:
        """Bits of each element of a tensor, sign included; differentiable."""
        return trained(quantizer, self._sized(shape), sign=True)

    def _sized(self, shape: tuple[int | None, ...]) -> tuple[int, ...]:
        """A shape with 1 for each size that is not known."""
        return tuple(size or 1 for size in shape)

    def _numpy_constant(self, name: str, value: Tensor, quantizer: Quantizer) -> tuple[np.ndarray, FixedArray]:
        array = np.asarray(ops.convert_to_numpy(value), np.float64)
        if not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            raise ValueError(
                f"{self}: {bad} of {array.size} values of its {name} are NaN or infinite: training has diverged. "
                "Fix: train again with a lower learning rate, or load an earlier checkpoint."
            )
        return array, quantizer.types(array.shape)

    def _known_input_shape(self) -> tuple[int, ...]:
        if None in self.input_shape_:
            raise ValueError(
                f"{self}: its input has shape {self.input_shape_}; hardware needs every size. "
                "Fix: give the model a fully known input shape."
            )
        return self.input_shape_  # type: ignore[return-value]

    def _quantizer(self, argument: str, given: Any, default: Callable[[], Quantizer]) -> Quantizer | None:
        """The layer's own copy of the quantizer that the user gave."""
        if given is None:
            return None
        if isinstance(given, str) and given == "default":
            given = default()
        if isinstance(given, dict):
            given = keras.saving.deserialize_keras_object(given)
        if not isinstance(given, Quantizer):
            raise TypeError(
                f"{self}: {argument}={given!r} is no quantizer. "
                'Fix: pass an object such as hgq.quantizers.FracQuantizer(f0=4), its configuration, or "default".'
            )
        return given.copy(argument, self.dtype_policy)

    def _table(self, name: str, function: Callable[[Tensor], Tensor], exact: Exact | None, table_bits: int) -> Table:
        """A table that the layer has to attach in `build`."""
        try:
            return Table(function, exact, table_bits, name=name, dtype=self.dtype_policy)
        except ValueError as wrong:
            raise ValueError(f"{self}: {wrong}") from None

    def _activation(self, activation: Any) -> str:
        if activation is None:
            return "linear"
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise ValueError(
                f"{self}: activation={activation!r} is not supported; choose one of {', '.join(ACTIVATIONS)} or None. "
                "Fix: for another, put a QActivation, QFunction or QSoftmax behind the layer."
            )
        return activation

    def _check_dtype(self) -> None:
        policy = self.dtype_policy
        if policy.compute_dtype != policy.variable_dtype or policy.compute_dtype not in DTYPES:
            raise ValueError(
                f"{self}: dtype policy {policy.name!r} is not exact; quantised layers run in float32 or float64. "
                'Fix: keras.config.set_dtype_policy("float32"), or pass dtype="float32" to this layer.'
            )
        if policy.compute_dtype == "float64":
            made = keras.backend.standardize_dtype(ops.convert_to_tensor(np.zeros(1), dtype="float64").dtype)
            if made != "float64":
                raise ValueError(
                    f"{self}: dtype float64, but the {keras.backend.backend()} backend makes {made} of it. "
                    "Fix: set the environment variable JAX_ENABLE_X64=1."
                )

    def get_config(self) -> dict[str, Any]:
        quantizers = {name: getattr(self, name, None) for name in self._quantizer_names()}
        return (
            super().get_config()
            | {name: q and keras.saving.serialize_keras_object(q) for name, q in quantizers.items()}
            | ({"activation": self.activation_name} if self.takes_activation else {})
            | {"cost": self.cost, "beta": self.initial_beta, "gamma": self.gamma}
        )

    def __str__(self) -> str:
        return f"{type(self).__name__} '{self.name}'"
