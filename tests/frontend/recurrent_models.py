"""Recurrent models with widths as training leaves them: zero bits, negative fractional bits, saturating states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq import layers as q
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

STEPS, FEATURES = 3, 3
X = np.random.default_rng(3).normal(size=(200, STEPS, FEATURES)).astype("float32")

Call = Callable[[Any], Any]


def trained(model: keras.Model, x: np.ndarray = X, seed: int = 0) -> keras.Model:
    """The model with random widths and biases, some units pruned, and ranges found on `x`."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(rng.normal(size=variable.shape))
    for _, name, quantizer in model_quantizers(model):
        if isinstance(quantizer, WidthQuantizer):
            quantizer.b.assign(rng.choice([0, 1, 2, 3, 4], quantizer.b.shape, p=[0.1, 0.1, 0.3, 0.3, 0.2]))
            quantizer.i.assign(rng.integers(-1, 2, quantizer.i.shape))
        else:
            f = rng.integers(1, 5, quantizer.f.shape)
            pruned = rng.random(f.shape) < (0.0 if "activation" in name else 0.1)
            quantizer.f.assign(np.where(pruned, -6, f))
    calibrate(model, x)
    return model


def quantised(x: Any) -> Any:
    return q.QActivation(input_quantizer=FracQuantizer(f0=2, granularity="channel"), name="front")(x)


def of(*calls: Call, front: Call = quantised, steps: int = STEPS) -> Callable[[], keras.Model]:
    """Builds a model of the calls side by side, each on the same quantised input."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(4)
        x = keras.Input((steps, FEATURES), name="x")
        y = front(x)
        outputs = keras.tree.flatten([call(y) for call in calls])
        return trained(keras.Model(x, outputs, name="net"), X[:, :steps])

    return make


def table(**options: Any) -> q.QFunction:
    return q.QFunction("tanh", output_quantizer=FracQuantizer(f0=3, granularity="channel", overflow="SAT"), **options)


CASES: dict[str, Call] = {
    "simple rnn": lambda x: q.QSimpleRNN(3)(x),
    "relu, no bias, every step": lambda x: q.QSimpleRNN(
        3, activation="relu", use_bias=False, return_sequences=True, return_state=True
    )(x),
    "gru": lambda x: q.QGRU(3, return_sequences=True)(x),
    "gru, reset before, backwards": lambda x: q.QGRU(2, reset_after=False, go_backwards=True)(x),
    "lstm": lambda x: q.QLSTM(2, return_state=True)(x),
    "bidirectional": lambda x: keras.layers.Bidirectional(q.QGRU(2, return_sequences=True), name="both")(x),
}
"""What is built on every engine."""

MORE: dict[str, Call] = {
    "linear": lambda x: q.QSimpleRNN(2, activation=None, return_sequences=True)(x),
    "own tables": lambda x: q.QGRU(2, activation=table(), recurrent_activation="hard_sigmoid", use_bias=False)(x),
    "gru of relu": lambda x: q.QGRU(2, activation="relu", reset_after=False, return_sequences=True)(x),
    "lstm of its own": lambda x: q.QLSTM(
        2,
        activation="softsign",
        carry_activation="linear",
        recurrent_activation="hard_sigmoid",
        return_sequences=True,
        go_backwards=True,
        unit_forget_bias=False,
    )(x),
    "types for each step": lambda x: q.QGRU(2, input_quantizer=FracQuantizer(), unroll=True)(x),
    "states that wrap": lambda x: q.QLSTM(
        3, carry_quantizer=FracQuantizer(overflow="WRAP"), state_quantizer=FracQuantizer(granularity="tensor")
    )(x),
    "two layers": lambda x: q.QDense(2)(q.QLSTM(3)(q.QGRU(3, return_sequences=True)(x))),
    "sum of both": lambda x: keras.layers.Bidirectional(q.QLSTM(2), merge_mode="sum")(x),
    "average of both": lambda x: keras.layers.Bidirectional(
        q.QSimpleRNN(2, return_sequences=True),
        merge_mode="ave",
        backward_layer=q.QSimpleRNN(2, go_backwards=True, return_sequences=True, activation="sigmoid"),
    )(x),
    "more units backwards": lambda x: keras.layers.Bidirectional(
        q.QSimpleRNN(1, return_sequences=True),
        backward_layer=q.QSimpleRNN(2, go_backwards=True, return_sequences=True),
    )(x),
    "product of both": lambda x: keras.layers.Bidirectional(q.QGRU(2, return_sequences=True), merge_mode="mul")(x),
    "both apart": lambda x: keras.layers.Bidirectional(q.QGRU(2), merge_mode=None)(x),
}  # fmt: skip

MODELS: dict[str, Callable[[], keras.Model]] = {name: of(call) for name, call in (CASES | MORE).items()} | {
    "straight from the input": of(lambda x: q.QGRU(2)(x), front=lambda x: x),
    "one step": of(lambda x: q.QLSTM(2)(x), lambda x: q.QGRU(2)(x), steps=1),
    "behind a convolution": of(lambda x: q.QGRU(2)(x), front=lambda x: q.QConv1D(2, 2, padding="same")(x)),
}
"""Id -> model. Every recurrent layer, with every option of it."""
