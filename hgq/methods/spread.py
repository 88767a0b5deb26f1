"""What values a network's tensors take, without data: from normalisations and a stated range of the input.

Each element has an interval that holds for all inputs of that range, and a mean and a deviation. Behind a
BatchNormalization these are its beta and |gamma|, which is what it was trained to give; behind other layers they follow
from those before, as if elements were independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from hgq.errors import ConversionError, problem
from hgq.importers.keras_layers import PLAIN
from hgq.methods.network import averages, bias_value, kernel_value, weighted
from hgq.methods.ranges import Ranges

Statistics = dict[str, tuple[np.ndarray, np.ndarray]]
"""Layer -> mean and deviation of each channel of what it gives, before its activation."""
SUMS = ("Add", "Average", "Subtract")
ELEMENTWISE = ("ReLU", "LeakyReLU", "Activation")
STRUCTURE = tuple(name for name in PLAIN if name not in (*SUMS, *ELEMENTWISE, "Multiply", "Maximum", "Minimum"))
"""Layers that only move elements, or take the largest or the mean of some: each part of a spread goes through them."""


@dataclass(frozen=True)
class Spread:
    """Of a tensor with a batch axis of 1: mean, deviation, and ends that nothing exceeds. float64."""

    mean: np.ndarray
    std: np.ndarray
    lo: np.ndarray
    hi: np.ndarray

    def each(self, function: Callable[[np.ndarray], np.ndarray]) -> Spread:
        return Spread(*(function(part) for part in (self.mean, self.std, self.lo, self.hi)))


def data_free(
    folded: keras.Model,
    input_range: tuple[float, float],
    statistics: Statistics,
    sigmas: float | None = 6.0,
    per_channel: bool = True,
) -> Ranges:
    """The ranges of the inputs of `weighted` and `averages`, from no data at all.

    Args:
        input_range: smallest and largest value of the model's inputs.
        statistics: of the normalisations that were folded, from `norm_statistics`.
        sigmas: a range ends that many deviations from the mean, or at the bound that holds for all inputs if that is
            nearer (6: Nagel et al., data-free quantization through weight equalization, 2019). None: only at bounds.
        per_channel: one range for each index of the last axis, or one for the tensor.

    Raises:
        ConversionError: a layer whose values cannot be told in advance.
        ValueError: values beyond float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is refused below
        spreads = _inputs(folded, input_range, statistics)
    found: Ranges = {}
    for layer in [*weighted(folded), *averages(folded)]:
        for given in spreads[layer.name]:
            lo, hi = given.lo, given.hi
            if sigmas is not None:
                lo = np.minimum(np.maximum(lo, given.mean - sigmas * given.std), hi)
                hi = np.maximum(np.minimum(hi, given.mean + sigmas * given.std), lo)
            axes = tuple(range(lo.ndim - 1)) if per_channel else tuple(range(lo.ndim))
            shape = (1,) * (lo.ndim - 2) + (-1,)
            lo, hi = lo.min(axis=axes).reshape(shape), hi.max(axis=axes).reshape(shape)
            if not (np.isfinite(lo) & np.isfinite(hi)).all():
                raise ValueError(
                    f"layer '{layer.name}': what it reads may be beyond float32 for inputs from {input_range[0]:g} to "
                    f"{input_range[1]:g}. Fix: give the range that inputs really have, or scale the weights"
                )
            if layer.name in found:  # called again
                lo, hi = np.minimum(lo, found[layer.name][0]), np.maximum(hi, found[layer.name][1])
            found[layer.name] = lo, hi
    return found


def _inputs(folded: keras.Model, input_range: tuple[float, float], statistics: Statistics) -> dict[str, list[Spread]]:
    """The spread of what each layer reads, for each of its calls."""
    lo, hi = input_range
    if not (np.isfinite([lo, hi]).all() and lo < hi):
        raise ValueError(f"input_range={lo:g}:{hi:g} is no range; give the smallest and the largest value of the input")
    made: dict[int, Spread] = {}
    for tensor in folded.inputs:
        one = np.ones((1, *tensor.shape[1:]))
        made[id(tensor)] = Spread(one * (lo + hi) / 2, one * (hi - lo) / np.sqrt(12), one * lo, one * hi)
    read: dict[str, list[Spread]] = {}
    for depth in sorted(folded._nodes_by_depth, reverse=True):
        for node in folded._nodes_by_depth[depth]:
            layer = node.operation
            if not node.is_input:
                given = [made[id(tensor)] for tensor in node.arguments.keras_tensors]
                read.setdefault(layer.name, []).append(given[0])
                made[id(node.outputs[0])] = _through(layer, given, statistics)
    return read


def _through(layer: keras.Layer, given: list[Spread], statistics: Statistics) -> Spread:
    kind, x = type(layer).__name__, given[0]
    if kind == "BatchNormalization":
        scale, offset = kernel_value(layer).astype(np.float64), np.asarray(bias_value(layer), np.float64)
        ends = x.lo * scale + offset, x.hi * scale + offset
        y = Spread(x.mean * scale + offset, x.std * np.abs(scale), np.minimum(*ends), np.maximum(*ends))
        return _known(layer, y, statistics)
    if hasattr(layer, "kernel"):
        return _elementwise(layer.activation, _known(layer, _linear(layer, x), statistics))
    if kind in ELEMENTWISE:
        return _elementwise(layer, x)
    if kind in SUMS or kind in ("Maximum", "Minimum", "Multiply"):
        return _merged(kind, given)
    if kind in STRUCTURE:
        if kind == "Concatenate":
            parts = (np.concatenate(p, axis=layer.axis) for p in zip(*(vars(g).values() for g in given), strict=True))
            return Spread(*parts)
        return x.each(lambda part: _call(layer, part))
    what = "what values it gives cannot be told without data"
    raise ConversionError([problem(kind, layer.name, what, "use a method that takes data")])


def _call(layer: keras.Layer, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(layer(x.astype(np.float32))), np.float64)


def _linear(layer: keras.Layer, x: Spread) -> Spread:
    kernel, bias = kernel_value(layer).astype(np.float64), bias_value(layer)
    copy = type(layer).from_config(layer.get_config() | {"activation": None, "use_bias": False})
    copy.build((1, *x.mean.shape[1:]))

    def times(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
        copy.set_weights([weights.astype(np.float32)])
        return _call(copy, values)

    offset = 0.0 if bias is None else bias.astype(np.float64)
    centre = times(kernel, (x.lo + x.hi) / 2) + offset
    radius = times(np.abs(kernel), (x.hi - x.lo) / 2)
    mean = times(kernel, x.mean) + offset
    return Spread(mean, np.sqrt(times(kernel**2, x.std**2)), centre - radius, centre + radius)


def _known(layer: keras.Layer, y: Spread, statistics: Statistics) -> Spread:
    if layer.name not in statistics:
        return y
    mean, std = statistics[layer.name]
    return Spread(np.broadcast_to(mean, y.mean.shape), np.broadcast_to(std, y.mean.shape), y.lo, y.hi)


NODES, SHARES = np.polynomial.hermite_e.hermegauss(31)
"""Of an average over a normal distribution."""


def _elementwise(function: Callable, x: Spread) -> Spread:
    """Through a monotone function: its ends, and the moments of it on a normal distribution."""

    def f(values: np.ndarray) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(function(values.astype(np.float32))), np.float64)

    weights = SHARES / SHARES.sum()
    y = np.stack([f(x.mean + x.std * node) for node in NODES])
    mean = np.tensordot(weights, y, 1)
    return Spread(mean, np.sqrt(np.tensordot(weights, (y - mean) ** 2, 1)), f(x.lo), f(x.hi))


def _merged(kind: str, given: list[Spread]) -> Spread:
    y = given[0]
    for x in given[1:]:
        if kind == "Multiply":
            corners = [a * b for a in (y.lo, y.hi) for b in (x.lo, x.hi)]
            std = np.abs(y.mean) * x.std + np.abs(x.mean) * y.std + y.std * x.std
            y = Spread(y.mean * x.mean, std, np.min(corners, axis=0), np.max(corners, axis=0))
        elif kind in ("Maximum", "Minimum"):
            choose = np.maximum if kind == "Maximum" else np.minimum
            y = Spread(choose(y.mean, x.mean), np.maximum(y.std, x.std), choose(y.lo, x.lo), choose(y.hi, x.hi))
        else:  # deviations add up, as those of tensors that move together
            sign = -1 if kind == "Subtract" else 1
            ends = (x.lo, x.hi) if sign > 0 else (-x.hi, -x.lo)
            y = Spread(y.mean + sign * x.mean, y.std + x.std, y.lo + ends[0], y.hi + ends[1])
    return y.each(lambda part: part / len(given)) if kind == "Average" else y
