"""Softmax, normalisations and activations with widths as training leaves them, side by side in one model."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from hgq import layers as q
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

SHAPE = (3, 4)
RNG = np.random.default_rng(7)
DATA = (RNG.normal(size=(400, *SHAPE)) * 2).astype("float32")
DATA[:, 0, 0] *= 2.0**-7
DATA.setflags(write=False)

EACH = FracQuantizer(f0=3, overflow="SAT")
"""A type for each element."""
CHANNEL = FracQuantizer(f0=3, overflow="SAT", granularity="channel")
MASK = np.array([[True, True, False, True], [False] * 4, [False, True, False, False]])

LAYERS: dict[str, Callable[[], list[keras.layers.Layer]]] = {
    "softmax": lambda: [q.QSoftmax(name="softmax")],
    "softmax per element": lambda: [q.QSoftmax(1, input_quantizer=EACH, exp_quantizer=EACH, output_quantizer=EACH)],
    "softmax per channel": lambda: [q.QSoftmax([1], exp_quantizer=CHANNEL, difference_quantizer=CHANNEL)],
    "softmax of accumulators": lambda: [q.QDense(3), q.QSoftmax((-1, -2), input_quantizer=None)],
    "softmax, not stable": lambda: [q.QSoftmax(stable=False, output_quantizer=None)],
    "softmax, masked": lambda: [q.QSoftmax(mask=MASK)],
    "softmax, not stable, masked": lambda: [q.QSoftmax(1, stable=False, mask=MASK[0], inverse_quantizer=CHANNEL)],
    "softmax of one": lambda: [keras.layers.Reshape((12, 1)), q.QSoftmax()],
    "layer norm": lambda: [q.QLayerNormalization(name="layer_norm")],
    "layer norm of three": lambda: [q.QLayerNormalization(1, scale=False, centered_quantizer=EACH)],
    "layer norm over both axes": lambda: [q.QLayerNormalization([1, 2], center=False, output_quantizer=CHANNEL)],
    "layer norm without constants": lambda: [q.QLayerNormalization(center=False, scale=False, activation="relu")],
    "rms norm": lambda: [q.QRMSNormalization(epsilon=0.01, input_quantizer=EACH)],
    "rms norm without gamma": lambda: [q.QRMSNormalization(1, epsilon=0.1, scale=False)],
    "batch norm": lambda: [q.QBatchNormalization()],
    "batch norm, relu": lambda: [q.QBatchNormalization(2, scale=False, activation="relu", output_quantizer=EACH)],
    "leaky relu": lambda: [q.QActivation("leaky_relu", input_quantizer=EACH)],
    "leaky relu, a quarter": lambda: [q.QActivation("leaky_relu", negative_slope=0.25, output_quantizer=CHANNEL)],
    "hard sigmoid": lambda: [q.QActivation("hard_sigmoid")],
    "hard tanh, relu6": lambda: [q.QDense(3, "hard_tanh"), q.QActivation("relu6"), q.QDense(2, activation="relu6")],
    "prelu": lambda: [q.QPReLU(keras.initializers.RandomUniform(0, 1), name="prelu")],
    "prelu, shared": lambda: [q.QPReLU(shared_axes=[1], output_quantizer=EACH)],
    "tanh with default quantizers": lambda: [q.QFunction("tanh")],
}
"""Name -> the layers of a case; they read a quantised tensor of `SHAPE`."""


def trained(model: keras.Model, seed: int = 3) -> keras.Model:
    """Widths anywhere: zero bits, negative integer bits, negative fractional bits; ranges and statistics from data."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for name in ("moving_mean", "moving_variance", "norm_gamma", "norm_beta", "bias"):
            variable = getattr(layer, name, None)
            if variable is not None:
                variable.assign(rng.uniform(0.3, 2, variable.shape))
    for _, name, quantizer in model_quantizers(model):
        many = len(set(quantizer.group)) > 1
        if name == "alpha_quantizer":
            quantizer.b.assign(rng.integers(0, 6, quantizer.group))
        elif isinstance(quantizer, WidthQuantizer):
            quantizer.b.assign(np.round(np.array(quantizer.b.value) + rng.uniform(-2, 1, quantizer.group)))
            quantizer.i.assign(np.round(np.array(quantizer.i.value) + rng.uniform(-1, 1, quantizer.group)))
            if many:
                quantizer.b.assign(np.where(rng.random(quantizer.group) < 0.2, 0, np.array(quantizer.b.value)))
        else:
            f = np.array(quantizer.f.value) + rng.uniform(-2, 1, quantizer.group)
            f = np.where(rng.random(f.shape) < 0.2, rng.choice([-8, -1], f.shape), f) if many else f
            quantizer.f.assign(f)
        if name == "input_quantizer" and getattr(quantizer, "owner", "").endswith("'front'"):
            f = rng.choice([-1, 0, 2, 3], quantizer.group)
            f[0, 0] = 8  # a small element: negative integer bits
            quantizer.f.assign(f)
    calibrate(model, DATA)
    return model


def model_of(*names: str) -> keras.Model:
    """One model of several cases that read the same input."""
    keras.utils.set_random_seed(2)
    x = keras.Input(SHAPE, name="x")
    front = q.QActivation(input_quantizer=FracQuantizer(f0=3), name="front")(x)
    outputs = []
    for name in names:
        y = front
        for layer in LAYERS[name]():
            y = layer(y)
        outputs.append(y)
    return trained(keras.Model(x, outputs, name="everything"))
