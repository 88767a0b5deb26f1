"""The super-net: a float Keras network whose weighted layers hold every candidate width at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.errors import ConversionError, problem
from hgq.layers import QConv1D, QConv2D, QDense, QDepthwiseConv1D, QDepthwiseConv2D
from hgq.layers.linear import QLinear
from hgq.methods.gmpq.cost import LayerCost, layer_cost
from hgq.methods.gmpq.mixed import MixedQuantizer, checked_widths
from hgq.methods.gmpq.ranges import least_error
from hgq.methods.network import bias_value, kernel_value, row_axes, weighted
from hgq.methods.policy import Bits, Policy
from hgq.quantizers import WidthQuantizer
from hgq.quantizers.exact import Tensor

BIAS_WIDTH = 8
"""Bits of a bias, with the sign: its range is that of the layer's largest, with one bit to grow."""
CALIBRATION = 512
"""Samples that ranges of activations are read off."""
LINEAR = {
    "Dense": (QDense, "units"),
    "Conv1D": (QConv1D, "filters kernel_size strides padding dilation_rate groups"),
    "Conv2D": (QConv2D, "filters kernel_size strides padding dilation_rate groups"),
    "DepthwiseConv1D": (QDepthwiseConv1D, "kernel_size strides padding depth_multiplier dilation_rate"),
    "DepthwiseConv2D": (QDepthwiseConv2D, "kernel_size strides padding depth_multiplier dilation_rate"),
}


@dataclass(frozen=True)
class Candidates:
    """Widths in bits, signs included, among which the search chooses for each layer.

    kernel, input: the candidates of all layers but those in `fixed`.
    fixed: widths of layers that are not searched; the paper leaves the first and the last layer out.
    """

    kernel: tuple[int, ...] = (2, 3, 4, 6)
    input: tuple[int, ...] = (2, 3, 4, 6)
    fixed: Policy = field(default_factory=dict)

    def of(self, layer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Candidates of a layer's kernel and input."""
        if layer in self.fixed:
            return (self.fixed[layer].w,), (self.fixed[layer].a,)
        return checked_widths(self.kernel), checked_widths(self.input)


class SuperNet:
    """A network with shared float weights and a mixture of widths for each kernel and each input of a weighted layer.

    Layers keep their names. Kernels share a range for each output (po2) or for the layer (paper), biases have
    `BIAS_WIDTH` bits. A normalisation that could not be folded stays float and is not trained.

    Args:
        folded: what `hgq.methods.network.fold` gave; its weights are the start.
        x: samples for the first ranges of activations; `CALIBRATION` of them are read.
        candidates: the widths.
        scale: "po2" or "paper"; see `MixedQuantizer`.

    Attributes:
        model: the Keras model; layers of hgq.layers with `MixedQuantizer`.
        layers: the searched and the fixed ones, by name, in data flow order.
        costs: of each.
    """

    def __init__(self, folded: keras.Model, x: np.ndarray, candidates: Candidates, scale: str = "po2"):
        self.candidates, self.scale = candidates, scale
        floats = {layer.name: layer for layer in weighted(folded) if type(layer).__name__ in LINEAR}
        if not floats:
            what = "it has no Dense layer or convolution, whose widths could be searched"
            raise ConversionError([problem("model", folded.name, what, "use the method rex")])
        unknown = sorted(set(candidates.fixed) - set(floats))
        if unknown:
            raise ValueError(f"fixed widths for {unknown[0]!r}; the layers of the model are {', '.join(floats)}")
        seen = inputs_of(folded, list(floats), x)
        signed = {name: bool(values.min() < 0) for name, values in seen.items()}
        self.model = keras.models.clone_model(folded, clone_function=lambda layer: self._twin(layer, signed))
        self.layers: dict[str, QLinear] = {name: self.model.get_layer(name) for name in floats}
        _take_weights(folded, self.model)
        for name, layer in self.layers.items():
            self._latch(layer, floats[name], seen[name])
        self.costs: dict[str, LayerCost] = {name: layer_cost(layer) for name, layer in self.layers.items()}

    def _twin(self, layer: Any, signed: dict[str, bool]) -> Any:
        config = layer.get_config()
        if layer.name not in signed:
            twin = type(layer).from_config(config)
            if isinstance(twin, keras.layers.BatchNormalization):
                twin.trainable = False  # its statistics are folded: they must not be tracked again
            return twin
        cls, names = LINEAR[type(layer).__name__]
        kernel, given = self.candidates.of(layer.name)
        granularity = "tensor" if self.scale == "paper" else _row_granularity(layer)
        return cls(
            **{name: config[name] for name in names.split()},
            name=layer.name,
            activation=config["activation"],
            use_bias=config["use_bias"],
            kernel_quantizer=MixedQuantizer(kernel, scale=self.scale, granularity=granularity),
            input_quantizer=MixedQuantizer(given, signed=signed[layer.name], scale=self.scale),
            bias_quantizer=WidthQuantizer(b0=BIAS_WIDTH - 1, granularity="tensor"),
            beta=0.0,
            gamma=0.0,
        )

    def _latch(self, layer: QLinear, float_layer: Any, seen: np.ndarray) -> None:
        kernel, quantizer = kernel_value(float_layer), layer.kernel_quantizer
        if self.scale == "paper":
            quantizer.latch(np.abs(kernel).max())
        else:
            ranges = [row_ranges(float_layer, kernel, width) for width in quantizer.widths]
            quantizer.latch(np.stack([np.broadcast_to(np.exp2(r), quantizer.group) for r in ranges]))
        quantizer = layer.input_quantizer
        if self.scale == "paper":
            quantizer.latch(np.abs(seen).max()[None])
        else:
            quantizer.latch(np.exp2([input_range(seen, width, quantizer.signed) for width in quantizer.widths]))
        if layer.bias_quantizer is not None:
            layer.bias_quantizer.b.trainable = False
            layer.bias_quantizer.i.trainable = False
            exponent = float(bias_range(bias_value(float_layer)))
            layer.bias_quantizer.i.assign(ops.full(layer.bias_quantizer.group, exponent))

    def expected_ebops(self) -> Tensor:
        """The complexity that the shares lead to, a scalar; differentiable in every alpha."""
        total = ops.zeros(())
        for name, layer in self.layers.items():
            total = total + self.costs[name].expected(layer.kernel_quantizer, layer.input_quantizer)
        return total

    def widest(self) -> Policy:
        """The widest candidates everywhere."""
        return {name: Bits(max(w), max(a)) for name, (w, a) in self.widths().items()}

    def narrowest(self) -> Policy:
        """The narrowest candidates everywhere."""
        return {name: Bits(min(w), min(a)) for name, (w, a) in self.widths().items()}

    def widths(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Candidates of kernel and input of each layer."""
        return {name: self.candidates.of(name) for name in self.layers}

    def shares(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """softmax(alpha) of kernel and input of each layer."""
        return {
            name: tuple(  # type: ignore[misc]
                np.asarray(ops.convert_to_numpy(q.shares()), np.float64)
                for q in (layer.kernel_quantizer, layer.input_quantizer)
            )
            for name, layer in self.layers.items()
        }

    def expected_widths(self) -> list[tuple[Tensor, Tensor]]:
        """(E[w], E[a]) of each searched layer."""
        searched = [layer for name, layer in self.layers.items() if name not in self.candidates.fixed]
        return [(one.kernel_quantizer.expected_width(), one.input_quantizer.expected_width()) for one in searched]


def inputs_of(folded: keras.Model, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    """What the named layers of a folded model read, for the first `CALIBRATION` samples of `x`.

    Raises:
        ConversionError: the model has several inputs.
    """
    if len(folded.inputs) != 1:
        raise ConversionError(
            [
                f"  - the model '{folded.name}' has {len(folded.inputs)} inputs; GMPQ takes models of one\n"
                "      Fix: choose another method, or train widths with hgq.layers"
            ]
        )
    outputs = [folded.get_layer(name).input for name in names]
    taps = keras.Model(folded.inputs[0], outputs)
    found: list[list[np.ndarray]] = [[] for _ in names]
    for start in range(0, min(len(x), CALIBRATION), 128):
        batch = ops.convert_to_tensor(x[start : min(start + 128, CALIBRATION)])
        for values, seen in zip(found, keras.tree.flatten(taps(batch, training=False)), strict=True):
            values.append(ops.convert_to_numpy(seen))
    return {name: np.concatenate(values) for name, values in zip(names, found, strict=True)}


def row_ranges(float_layer: Any, kernel: np.ndarray, width: int) -> np.ndarray:
    """Exponent of the range of each output's weights, in the rank of the kernel."""
    rows = row_axes(float_layer)
    axes = tuple(axis for axis in range(kernel.ndim) if axis - kernel.ndim not in rows)
    return least_error(kernel, width, signed=True, constant=True, axes=axes)


def input_range(seen: np.ndarray, width: int, signed: bool) -> int:
    """Exponent of the range of an activation."""
    axes = tuple(range(seen.ndim))
    return int(least_error(seen, width, signed=signed, constant=False, axes=axes).reshape(()))


def bias_range(bias: np.ndarray) -> int:
    """Exponent of the range of a layer's biases, with one bit to grow."""
    largest = float(np.abs(bias).max())
    return int(np.frexp(largest)[1]) + 1 if largest > 0 else 0


def _row_granularity(layer: Any) -> str:
    return "element" if len(row_axes(layer)) > 1 else "channel"


def _take_weights(folded: keras.Model, twin: keras.Model) -> None:
    for layer in folded.layers:
        mine = twin.get_layer(layer.name)
        if isinstance(mine, QLinear):
            mine.kernel.assign(kernel_value(layer))
            if mine.bias is not None:
                mine.bias.assign(bias_value(layer))
        else:
            mine.set_weights(layer.get_weights())
