"""Small models with what refinement meets: sums, windows, merges, tables, products, loops, shared layers."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from hgq.layers import (
    QGRU,
    QActivation,
    QConv1D,
    QConv2D,
    QDense,
    QDenseBatchNorm,
    QEinsumDense,
    QFunction,
    QGlobalAveragePooling1D,
    QSeparableConv1D,
    QSoftmax,
)
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), QDense(5, activation="relu"), QDense(3)])


def saturating() -> keras.Model:
    """Types that saturate, shared types, half to even, BatchNorm folded in."""
    per_channel = WidthQuantizer(b0=5, i0=1, granularity="channel", rounding="RND_CONV")
    whole = FracQuantizer(f0=4, overflow="SAT", granularity="tensor", rounding="TRN")
    return keras.Sequential(
        [
            keras.Input((5,)),
            QDenseBatchNorm(6, activation="relu6", kernel_quantizer=FracQuantizer(f0=5, granularity="channel")),
            QDense(4, input_quantizer=per_channel, kernel_quantizer=WidthQuantizer(b0=4, granularity="tensor")),
            QDense(2, input_quantizer=whole, output_quantizer=FracQuantizer(f0=2, overflow="SAT_SYM")),
        ]
    )


def windows() -> keras.Model:
    x = given = keras.Input((6, 6, 2))
    x = QConv2D(3, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D(2, padding="same")(x)
    y = QConv2D(3, 2, padding="same", groups=3)(x)
    x = keras.layers.AveragePooling2D(2, strides=1)(keras.layers.Add()([x, y]))
    return keras.Model(given, QDense(2)(keras.layers.Flatten()(x)))


def sequence() -> keras.Model:
    """Two outputs; one layer is called twice."""
    x = given = keras.Input((4, 3))
    shared = QDense(3, activation="relu")
    a = shared(x)
    b = QConv1D(3, 2, padding="causal")(shared(a))
    c = QSeparableConv1D(2, 2)(keras.layers.Maximum()([a, b]))
    d = QGlobalAveragePooling1D()(keras.layers.Subtract()([a, b]))
    return keras.Model(given, [QDense(2)(keras.layers.Flatten()(c)), d])


def tables() -> keras.Model:
    """Two inputs; a product, a table, probabilities."""
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    x = keras.layers.Multiply()([QActivation("relu")(left), QActivation(None)(right)])
    x = QFunction("tanh")(QDense(4)(x))
    return keras.Model([left, right], QSoftmax()(QDense(3)(x)))


def einsum() -> keras.Model:
    x = given = keras.Input((3, 4))
    x = QEinsumDense("abc,bcd->abd", (3, 5), bias_axes="d", activation="relu")(x)
    return keras.Model(given, QEinsumDense("abc,cd->ad", 3, bias_axes="d")(x))


def recurrent() -> keras.Model:
    return keras.Sequential([keras.Input((3, 2)), QGRU(3), QDense(2)])


MODELS: dict[str, Callable[[], keras.Model]] = {
    f.__name__: f for f in (dense, saturating, windows, sequence, tables, einsum, recurrent)
}


def made(name: str, samples: int = 400, seed: int = 0) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """A calibrated model with biases, and inputs by name."""
    keras.utils.set_random_seed(seed)
    model = MODELS[name]()
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if getattr(layer, "use_bias", False) and getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(size=layer.bias.shape) / 2)
    x = [random.normal(size=(samples, *t.shape[1:])).astype(np.float32) for t in model.inputs]
    calibrate(model, x if len(x) > 1 else x[0])
    return model, dict(zip([t._keras_history.operation.name for t in model.inputs], x, strict=True))
