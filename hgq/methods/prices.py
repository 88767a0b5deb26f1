"""EBOPs of a model for constants that it does not hold: what a search asks a hundred times, without Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hgq.fixed import FixedArray, encode
from hgq.importers.types import Types
from hgq.methods.network import LayerTypes, bias_value, completed, kernel_value, weighted
from hgq.resource import model_ebops, priced_layers
from hgq.resource.ebops import affine_ebops, bias_ebops, span


def bits_met(layer: Any) -> np.ndarray:
    """For each weight of a layer that `build` made, the sum of the widths of all values that it multiplies in a call.

    Shape: that of the kernel. EBOPs of the products are the sum over weights of this times the `span` of the weight.
    """
    shape = layer.input_shape_
    widths = layer.input_quantizer.types(shape).width
    kernel = tuple(layer.kernel.shape)
    if not hasattr(layer, "windows"):  # dense: every position of the leading axes
        return np.broadcast_to(widths.reshape(-1, shape[-1]).sum(axis=0)[:, None], kernel)
    met = layer.windows((None, *shape)).gather(widths, 0).sum(axis=0).reshape(*kernel[:-2], -1)
    if type(layer).__name__.startswith("QDepthwise"):
        return np.broadcast_to(met[..., None], kernel)
    channels, filters = kernel[-2:]
    group = np.arange(filters) // (filters // (shape[-1] // channels))
    return met[..., group[None, :] * channels + np.arange(channels)[:, None]]


class Prices:
    """Exact EBOPs of what `build` would make, for other kernels and biases than those of a model that it made.

    Args:
        folded: the float model.
        model: what `build` made of it; the types of all inputs stay as they are here.
    """

    def __init__(self, folded: keras.Model, model: keras.Model):
        self._layers = weighted(folded)
        self._calls = {layer.name: calls for layer, calls in priced_layers(model)}
        self._ours = {layer.name: model.get_layer(layer.name) for layer in self._layers}
        self._met = {name: bits_met(ours) for name, ours in self._ours.items() if hasattr(ours, "kernel")}
        held = sum(self._calls[name] * ours.exact_ebops() for name, ours in self._ours.items())
        self._others = model_ebops(model) - held

    def total(self, chosen: dict[str, LayerTypes]) -> int:
        """EBOPs of the whole model with these kernels and biases."""
        return self._others + sum(self._calls[one.name] * self._price(one, chosen[one.name]) for one in self._layers)

    def _price(self, layer: keras.Layer, chosen: LayerTypes) -> int:
        chosen, ours = completed(layer, chosen), self._ours[layer.name]
        kernel, kernel_types = _mantissas(kernel_value(layer), chosen.kernel, chosen.kernel_values)
        own = bias_value(layer)
        bias = None if own is None else _mantissas(own, chosen.bias, chosen.bias_values)
        if layer.name not in self._met:
            return affine_ebops((kernel, kernel_types), bias, ours.input_quantizer.types(ours.input_shape_).width)
        total = int((span(kernel) * self._met[layer.name]).sum())
        if bias is not None:
            total += bias_ebops(bias[0], bias[1].width, int(np.prod(ours.output_shape_[:-1], dtype=np.int64)))
        return total


def _mantissas(own: np.ndarray, types: Types, values: np.ndarray | None) -> tuple[np.ndarray, FixedArray]:
    values = own if values is None else np.asarray(values).reshape(own.shape)
    fixed = types.fixed(own.shape)
    return encode(values[None], fixed, types.rounding, types.overflow)[0], fixed
