"""QActivation, and Keras' own ReLU."""

from __future__ import annotations

from typing import Any

import keras

from hgq.frontend.context import Context, Unconvertible, Value


def finish(context: Context, layer: Any, y: Value) -> Value:
    """What every quantised layer ends with: its activation, then its output quantizer."""
    if layer.activation_name == "relu":
        y = context.add("relu", "relu", y)
    elif layer.activation_name != "linear":
        raise Unconvertible(f"activation={layer.activation_name!r} is not supported", "use 'relu' or None")
    return context.quantize("out", y, layer.output_quantizer)


def q_activation(context: Context, layer: Any, x: Value) -> Value:
    return finish(context, layer, context.quantize("in", x, layer.input_quantizer))


def relu(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.ReLU without its options."""
    for name, plain in (("max_value", None), ("negative_slope", 0.0), ("threshold", 0.0)):
        value = getattr(layer, name)
        if value != plain:
            raise Unconvertible(f"{name}={value} is not supported, only {name}={plain}", f"leave {name} out")
    return context.add("relu", "relu", x)


def activation(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.Activation of relu or linear."""
    if layer.activation is keras.activations.linear:
        return x
    if layer.activation is keras.activations.relu:
        return context.add("relu", "relu", x)
    name = keras.activations.serialize(layer.activation)
    raise Unconvertible(f"activation={name!r} is not supported", "use 'relu' or 'linear'")
