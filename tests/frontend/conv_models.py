"""Models of convolutions and poolings with trained-like widths: every option of every layer."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from hgq import layers as q
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

Maker = Callable[[], keras.Model]


def net(shape: tuple[int, ...], *layers: keras.layers.Layer, seed: int = 1) -> keras.Model:
    """A Sequential model whose widths differ, some of them 0, and which has seen data."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(shape, name="x"), *layers], name="net")
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for name in ("moving_mean", "moving_variance", "norm_gamma", "norm_beta", "bias"):
            variable = getattr(layer, name, None)
            if variable is not None:
                variable.assign(rng.uniform(0.3, 2, variable.shape))
    for _, name, quantizer in model_quantizers(model):
        if isinstance(quantizer, WidthQuantizer):
            quantizer.b.assign(rng.integers(0, 5, quantizer.b.shape))
            quantizer.i.assign(rng.integers(-2, 2, quantizer.i.shape))
        else:
            f = rng.integers(-1, 4, quantizer.f.shape)
            quantizer.f.assign(np.where(rng.random(f.shape) < 0.1, -6, f) if name == "input_quantizer" else f)
    calibrate(model, rng.normal(size=(64, *shape)).astype("float32") * 2)
    return model


def conv2d(**options) -> Maker:
    return lambda: net((6, 7, 4), q.QConv2D(4, (3, 2), activation="relu", **options), q.QConv2D(2, 2))


def conv1d(**options) -> Maker:
    return lambda: net((9, 4), q.QConv1D(4, 3, activation="relu", **options), keras.layers.Flatten(), q.QDense(3))


def one(shape: tuple[int, ...], make: Callable[[], keras.layers.Layer]) -> Maker:
    return lambda: net(shape, make())


MODELS: dict[str, Maker] = {
    "conv2d same": conv2d(padding="same"),
    "conv2d strides": conv2d(strides=(2, 1)),
    "conv2d same strides": conv2d(strides=2, padding="same"),
    "conv2d dilation": conv2d(dilation_rate=(1, 2), padding="same"),
    "conv2d groups, no bias": conv2d(groups=2, use_bias=False),
    "conv2d per element": conv2d(input_quantizer=FracQuantizer(), output_quantizer=FracQuantizer(overflow="SAT")),
    "conv1d causal": conv1d(padding="causal", dilation_rate=2),
    "conv1d same strides": conv1d(padding="same", strides=2),
    "conv2d batch norm": one((5, 5, 3), lambda: q.QConv2DBatchNorm(4, 3, activation="relu", padding="same")),
    "conv1d batch norm": one((8, 3), lambda: q.QConv1DBatchNorm(4, 2, center=False)),
    "depthwise 2d": one((6, 6, 3), lambda: q.QDepthwiseConv2D(3, 2, "same", 2)),
    "depthwise 1d": one((7, 3), lambda: q.QDepthwiseConv1D(2, dilation_rate=2, activation="relu")),
    "separable 2d": one((5, 5, 3), lambda: q.QSeparableConv2D(4, 3, padding="same", activation="relu")),
    "separable 1d": one((8, 2), lambda: q.QSeparableConv1D(3, 3, 2, depth_multiplier=2)),
    "transpose 2d same": one((4, 3, 3), lambda: q.QConv2DTranspose(2, 3, 2, "same")),
    "transpose 2d valid": one((3, 3, 2), lambda: q.QConv2DTranspose(3, (2, 3), (1, 2))),
    "transpose 1d gaps": one((4, 2), lambda: q.QConv1DTranspose(3, 2, 3)),
    "average 3 x 3": one((6, 7, 3), lambda: q.QAveragePooling2D(3, 2)),
    "average same": one((5, 5, 2), lambda: q.QAveragePooling2D(2, padding="same", output_quantizer=FracQuantizer())),
    "average of 4": one((6, 6, 2), lambda: q.QAveragePooling2D(2)),
    "average 1d": one((7, 3), lambda: q.QAveragePooling1D(3, 1, "same", activation="relu")),
    "global average 2d": one((3, 5, 3), lambda: q.QGlobalAveragePooling2D()),
    "global average 1d": one((8, 3), lambda: q.QGlobalAveragePooling1D(keepdims=True)),
    "keras poolings 2d": lambda: net(
        (8, 8, 2),
        q.QConv2D(3, 1),
        keras.layers.MaxPooling2D((2, 3), padding="same"),
        q.QActivation(input_quantizer=FracQuantizer()),
        keras.layers.AveragePooling2D((2, 1)),
        keras.layers.GlobalMaxPooling2D(),
    ),
    "keras poolings 1d": lambda: net(
        (16, 2),
        q.QConv1D(3, 1),
        keras.layers.MaxPooling1D(2),
        keras.layers.AveragePooling1D(2),
        keras.layers.GlobalAveragePooling1D(keepdims=True),
    ),
    "global max 1d, global average 2d": lambda: net(
        (8, 3),
        q.QConv1D(4, 1),
        keras.layers.GlobalMaxPooling1D(keepdims=True),
        keras.layers.Reshape((2, 2, 1)),
        keras.layers.GlobalAveragePooling2D(),
    ),
}
"""Id -> model. hgq.layers of this family and Keras' own poolings are all here."""
