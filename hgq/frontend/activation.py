"""QActivation, QPReLU, and Keras' own rectifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Context, Unconvertible, Value
from hgq.frontend.merge import affine_attrs, between, constant_values, limited, scaled
from hgq.frontend.operation import leaky_relu
from hgq.layers.activation import SLOPED
from hgq.layers.function import FUNCTIONS

PLAIN: dict[str, Callable[[Context, Value], Value]] = {
    "linear": lambda context, x: x,
    "relu": lambda context, x: context.add("relu", "relu", x),
    "relu6": lambda context, x: limited(context, x, 0.0, 6.0),
    "hard_tanh": lambda context, x: limited(context, x, -1.0, 1.0),
}
"""Activations that are exact without a table or a constant."""


def finish(context: Context, layer: Any, y: Value, suffix: str = "out") -> Value:
    """What every quantised layer ends with: its activation, then its output quantizer."""
    if layer.activation_name not in PLAIN:
        raise Unconvertible(f"activation={layer.activation_name!r} is not supported", f"use one of {', '.join(PLAIN)}")
    return context.quantize(suffix, PLAIN[layer.activation_name](context, y), layer.output_quantizer)


def q_activation(context: Context, layer: Any, x: Value) -> Value:
    if layer.input_quantizer is None and layer.activation_name == "linear":
        return context.quantize("out", x, layer.output_quantizer)  # makes the port where it reads an input
    x = context.quantize("in", x, layer.input_quantizer)
    if layer.slope() is None:
        return finish(context, layer, x)
    scaled_x = context.add("slope", "affine", x, **affine_attrs(context.shape(x), *layer.affine()))
    if layer.activation_name == "leaky_relu":
        y = between(context, "maximum", x, scaled_x)
    else:
        y = limited(context, scaled_x, 0.0, 1.0)
    return context.quantize("out", y, layer.output_quantizer)


def q_prelu(context: Context, layer: Any, x: Value) -> Value:
    """The rectifier with slopes that the layer has learned."""
    x = context.quantize("in", x, layer.input_quantizer)
    slopes, zeros = layer.affine()
    values = layer.constants()["alpha"][0]
    if not ((values >= 0) & (values <= 1)).all():
        raise Unconvertible(
            f"a slope is {values.min() if values.min() < 0 else values.max()}; 0 to 1 is supported",
            "quantise alpha without sign and integer bits, as by default",
        )
    scaled_x = context.add("slope", "affine", x, **affine_attrs(context.shape(x), slopes, zeros))
    return finish(context, layer, between(context, "maximum", x, scaled_x))


def relu(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.ReLU, with an exact max_value or negative_slope."""
    if layer.threshold != 0:
        raise Unconvertible(f"threshold={layer.threshold} is not supported, only threshold=0", "leave threshold out")
    if layer.max_value is None:
        return leaky_relu(context, x, float(layer.negative_slope))
    if layer.negative_slope != 0:
        raise Unconvertible(
            f"negative_slope={layer.negative_slope} together with max_value={layer.max_value} is not supported",
            "leave one of them out",
        )
    return limited(context, x, 0.0, float(constant_values(float(layer.max_value), 0, "max_value")))


def leaky(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.LeakyReLU with a slope that is exact."""
    return leaky_relu(context, x, float(layer.negative_slope))


def prelu(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.PReLU whose slopes are exact and lie in 0 to 1."""
    slopes = np.broadcast_to(constant_values(layer.alpha, len(context.shape(x)), "alpha"), context.shape(x))
    if not ((slopes >= 0) & (slopes <= 1)).all():
        raise Unconvertible(
            f"alpha lies in {slopes.min()}..{slopes.max()}; slopes from 0 to 1 are supported", "constrain alpha"
        )
    return between(context, "maximum", x, scaled(context, x, slopes, np.zeros(slopes.shape)))


def activation(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.Activation of what needs no table."""
    for name, make in PLAIN.items():
        if layer.activation is getattr(keras.activations, name):
            return make(context, x)
    name = keras.activations.serialize(layer.activation)
    raise Unconvertible(f"activation={name!r} is not supported, only {', '.join(PLAIN)}", instead(name))


def instead(name: str) -> str:
    """What to use in place of an activation of Keras that has no exact form without learned types."""
    if name == "softmax":
        return "use hgq.layers.QSoftmax, which learns the widths of its tables"
    if name in SLOPED:
        return f"use hgq.layers.QActivation({name!r}), which owns a fixed-point constant, or one of 'relu' or 'linear'"
    if name in FUNCTIONS:
        return f"use hgq.layers.QFunction({name!r}), a table with learned types, or one of 'relu' or 'linear'"
    return "use hgq.layers.QFunction with that function, if it works element by element, or one of 'relu' or 'linear'"
