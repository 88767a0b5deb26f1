"""Models of einsums, embeddings and attention, with widths as training leaves them."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from hgq.layers import (
    QActivation,
    QDot,
    QEinsum,
    QEinsumDense,
    QEinsumDenseBatchNorm,
    QEmbedding,
    QFunction,
    QMultiHeadAttention,
)
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

L = keras.layers
RNG = np.random.default_rng(6)
DATA = {
    "x": RNG.normal(size=(300, 4, 3)).astype("float32"),
    "y": (RNG.normal(size=(300, 2, 3)) * 4).astype("float32"),
    "z": RNG.normal(size=(300, 2, 3, 2)).astype("float32"),
    "words": RNG.integers(0, 11, (300, 3)).astype("float32"),
}
DATA["x"][:, 0] *= 2.0**-6


def quantised(x, name: str | None = None):
    if name == "q_words":
        return x
    return QActivation("linear", output_quantizer=FracQuantizer(f0=2), input_quantizer=None, name=name)(x)


def trained(model: keras.Model, seed: int = 0) -> keras.Model:
    """Widths anywhere: zero bits, negative integer bits, negative fractional bits; ranges from data."""
    rng = np.random.default_rng(seed)
    for _, _, quantizer in model_quantizers(model):
        for name, low, high in (("f", -1, 4), ("b", 0, 5), ("i", -1, 3)):
            variable = getattr(quantizer, name, None)
            if hasattr(variable, "assign"):
                variable.assign(rng.uniform(low, high, variable.shape))
        if getattr(quantizer, "owner", "").endswith("'q_x'"):
            f = ops.convert_to_numpy(quantizer.f).copy()
            f[0] = 7.0  # small elements: negative integer bits
            quantizer.f.assign(f)
    for variable in model.variables:
        if variable.name in ("moving_mean", "moving_variance", "gamma"):
            variable.assign(rng.uniform(0.3, 2.0, variable.shape))
    inputs = [t._keras_history.operation.name for t in model.inputs]
    calibrate(model, {name: DATA[name] for name in inputs} if len(inputs) > 1 else DATA[inputs[0]])
    return model


CASES: dict[str, tuple[tuple[str, ...], Callable]] = {}
"""Name -> the inputs of a case and its function on quantised inputs."""


def of(function: Callable, *names: str) -> Callable[[], keras.Model]:
    """Builds a model of a function of quantised inputs."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(2)
        raw = [keras.Input(DATA[name].shape[1:], name=name) for name in names]
        front = (quantised(x, f"q_{n}") for x, n in zip(raw, names, strict=True))
        return trained(keras.Model(raw, keras.tree.flatten(function(*front))))

    return make


def case(*names: str) -> Callable:
    """Names a function as a case."""

    def wrap(function: Callable) -> Callable:
        CASES[function.__name__] = names, function
        return function

    return wrap


def everything(*names: str) -> keras.Model:
    """One model of several cases side by side: compilers take a while to start."""
    keras.utils.set_random_seed(2)
    used = {i: None for name in names for i in CASES[name][0]}
    raw = {name: keras.Input(DATA[name].shape[1:], name=name) for name in used}
    front = {name: quantised(x, f"q_{name}") for name, x in raw.items()}
    outputs = [CASES[name][1](*(front[i] for i in CASES[name][0])) for name in names]
    return trained(keras.Model(raw, keras.tree.flatten(outputs), name="einsums"))


def biased(equation: str, shape, bias_axes: str | None, kind=QEinsumDense, **options) -> QEinsumDense:
    return kind(equation, shape, bias_axes=bias_axes, bias_initializer="random_normal", **options)


@case("x", "y", "z")
def dense(x, y, z):
    """Biases along one axis, several, and those of positions; shared axes; axes that only one operand has."""
    channel = FracQuantizer(granularity="channel", f0=2)
    sat = WidthQuantizer(b0=4, i0=2, overflow="SAT", granularity="tensor")
    return [
        biased("abc,cd->abd", (None, 4), "d", activation="relu", input_quantizer=channel)(x),
        biased("abc,cd->abd", (4, 2), "bd", output_quantizer=FracQuantizer(f0=3))(x),
        biased("abc,bcd->adb", (3, 4), "b", input_quantizer=sat)(x),
        biased("...x,xyz->...yz", (2, 2), "yz")(y),
        biased("abcd,bd->ac", 3, None)(z),
        biased("abcd,cde->aeb", (2, None), "eb", activation="relu")(z),
        biased("ab...,bc->ac...", 3, "c")(y),
        QEinsumDense("abc,de->ade", (2, 2))(y),
    ]


@case("x", "z")
def folded(x, z):
    kind = QEinsumDenseBatchNorm
    return [
        biased("abc,cd->abd", (None, 3), None, kind, activation="relu")(x),
        biased("abcd,dec->abe", (None, 2), "e", kind, center=False)(z),
    ]


@case("x", "y", "z")
def products(x, y, z):
    e = QEinsum("bqd,bkd->bqk", activation="relu", output_quantizer=FracQuantizer(f0=2, overflow="SAT"))([x, y])
    flat = L.Flatten()(y)
    return [
        e,
        QEinsum("bijk,bij->bjk", left_quantizer=WidthQuantizer(b0=4, i0=2))([z, y]),
        QEinsum("b...d,b...d->b...")([y, y]),
        QEinsum("bii,bk->bik")([y[:, :, :2], flat]),
        QDot(2)([x, y]),
        QDot((1, -1))([flat, L.Flatten()(z)[:, :6]]),
        QDot((-1, 2))([y, z]),
    ]


@case("x", "y")
def plain(x, y):
    """Keras' own products of quantised tensors, and constants among the operands' elements."""
    padded = L.ZeroPadding1D(1)(y)
    return [
        L.Dot(-1)([x, padded]), L.Dot((2, 2))([y, x]), ops.einsum("bqd,bkd->bkq", x, y),
        ops.matmul(y, ops.transpose(x, (0, 2, 1))), L.Multiply()([x, padded]),
    ]  # fmt: skip


@case("words", "x")
def embeddings(words, x):
    """Tables of 11 and 5 vectors; indices from the port, and computed by the model."""
    each, wide = WidthQuantizer(b0=4, i0=0), keras.initializers.RandomNormal(stddev=2.0)
    vectors = QEmbedding(11, 3, wide, name="vectors")(words)
    counted = QActivation("relu", input_quantizer=FracQuantizer(f0=1))(x[:, 2:])
    more = QEmbedding(5, 2, wide, embeddings_quantizer=each, activation="relu")(counted)
    return [vectors, QEinsum("bqd,bkd->bqk")([vectors, x]), L.Multiply()([vectors, vectors]), more]


def attention(*args, **options) -> QMultiHeadAttention:
    return QMultiHeadAttention(*args, input_quantizer=FracQuantizer(granularity="tensor"), **options)


@case("x", "y")
def attentions(x, y):
    """Self, cross with three different tensors, one head; key_dim that is no power of 4, value_dim, both masks."""
    mask = np.array([[True, False, True, True], [False, True, False, False]])
    return [
        attention(2, 3, mask="causal")(x, x),
        attention(1, 2, value_dim=3, output_shape=2, use_bias=False)(x, y),
        attention(2, 2, mask=mask)(y, x, key=L.Permute((2, 1))(L.Reshape((3, 4))(x))),
    ]


@keras.saving.register_keras_serializable(package="tests")
def inverse(x):
    """One over x, but finite at 0."""
    return 1 / (ops.abs(x) + 0.125)


def linear_attention(x):
    """phi(query) (phi(key)^T value) / (phi(query) sum phi(key)), phi = relu; one over the denominator is a table."""
    query, key = (QEinsumDense("btc,cd->btd", (None, 4), activation="relu", bias_axes="d")(x) for _ in range(2))
    value = QEinsumDense("btc,ce->bte", (None, 2), bias_axes="e")(x)
    memory = QEinsum("bsd,bse->bde")([key, value])
    share = QEinsum("btd,bde->bte", output_quantizer=FracQuantizer(f0=4))([query, memory])
    total = QEinsum("btd,bqd->btq")([query, ops.sum(key, axis=1, keepdims=True)])
    weight = QFunction(inverse)(total)
    return L.Multiply()([share, ops.repeat(weight, 2, axis=-1)])


MODELS = {name: of(function, *names) for name, (names, function) in CASES.items()}
MODELS["linear_attention"] = of(linear_attention, "x")
