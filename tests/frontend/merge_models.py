"""Models of merges, moved elements, keras.ops, shared layers and nested models, with widths as training leaves them."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from hgq.layers import QActivation, QDense, QFunction
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

L = keras.layers
RNG = np.random.default_rng(5)
DATA = {
    "a": RNG.normal(size=(300, 6)).astype("float32"),
    "b": (RNG.normal(size=(300, 6)) * 20).astype("float32"),
    "m": RNG.normal(size=(300, 4, 2, 2)).astype("float32"),
}

DATA["a"][:, 0] *= 2.0**-7


def quantised(x, name: str | None = None):
    return QActivation("linear", output_quantizer=FracQuantizer(f0=2), input_quantizer=None, name=name)(x)


def same_for_all(units: int) -> QDense:
    """A layer with one type for all inputs: every type of its own costs the C++ compiler time."""
    return QDense(units, input_quantizer=FracQuantizer(granularity="tensor"))


def trained(model: keras.Model, seed: int = 0) -> keras.Model:
    """Widths anywhere: zero bits, negative integer bits, negative fractional bits; ranges from data."""
    rng = np.random.default_rng(seed)
    for _, _, quantizer in model_quantizers(model):
        for name, low, high in (("f", -1, 4), ("b", 0, 5), ("i", -1, 3)):
            variable = getattr(quantizer, name, None)
            if hasattr(variable, "assign"):
                variable.assign(rng.uniform(low, high, variable.shape))
        if getattr(quantizer, "owner", "").endswith("'q_a'"):
            quantizer.f.assign([8.0, *np.array(quantizer.f)[1:]])  # a small element: negative integer bits
    data = {t._keras_history.operation.name: DATA[t._keras_history.operation.name] for t in model.inputs}
    calibrate(model, data if len(data) > 1 else next(iter(data.values())))
    return model


CASES: dict[str, tuple[tuple[str, ...], Callable]] = {}
"""Name -> the inputs of a case and its function on quantised inputs."""


def everything(*names: str) -> keras.Model:
    """One model of several cases side by side: compilers take a while to start."""
    keras.utils.set_random_seed(2)
    raw = {name: keras.Input(x.shape[1:], name=name) for name, x in DATA.items()}
    front = {name: quantised(x, f"q_{name}") for name, x in raw.items()}
    outputs = [CASES[name][1](*(front[i] for i in CASES[name][0])) for name in names]
    return trained(keras.Model(raw, keras.tree.flatten(outputs), name="everything"))


def of(function: Callable, *inputs: str) -> Callable[[], keras.Model]:
    """Builds a model of a function of quantised inputs: 'a' by default."""
    inputs = inputs or ("a",)

    def make() -> keras.Model:
        keras.utils.set_random_seed(2)
        raw = [keras.Input(DATA[name].shape[1:], name=name) for name in inputs]
        return trained(keras.Model(raw, function(*(quantised(x, f"q_{n}") for x, n in zip(raw, inputs, strict=True)))))

    make.__name__ = function.__name__
    return make


def case(*inputs: str) -> Callable:
    """Names a function as a case, and makes it the model of itself."""

    def wrap(function: Callable) -> Callable[[], keras.Model]:
        CASES[function.__name__] = inputs, function
        return of(function, *inputs)

    return wrap


@case("a", "b")
def merges(a, b):
    h = QDense(6, activation="relu", name="h")(a)
    narrow = quantised(h)
    merged = [
        L.Add()([a, b, narrow]), L.Subtract()([h, b]), L.Multiply()([a, b, narrow]), L.Average()([a, narrow]),
        L.Maximum()([a, b, h]), L.Minimum()([b, h]), L.Concatenate()([a, h, b]),
    ]  # fmt: skip
    return [quantised(m) for m in merged[:3]] + merged[3:]


@case("a")
def residuals(a):
    """Wires that arrive in different cycles."""
    x = QDense(6, activation="relu")(a)
    for _ in range(2):
        x = L.Add()([x, QDense(6)(x)])
    return [L.Add()([x, a]), QDense(3)(x + x)]


@case("m")
def moves(m):
    one = L.Permute((3, 1, 2))(m)
    two = L.ZeroPadding2D(((1, 0), (2, 1)))(m)
    three = L.Cropping2D(((1, 0), (0, 1)))(two)
    four = L.UpSampling2D((2, 1))(three)
    line = L.Reshape((4, 4))(m)
    five = L.Cropping1D((1, 2))(L.ZeroPadding1D((2, 3))(L.UpSampling1D(2)(line)))
    flat = L.Flatten()(L.RepeatVector(2)(L.Flatten()(m)))
    return [one, same_for_all(3)(four), five, same_for_all(2)(flat)]


@case("m")
def slices(m):
    h = L.Reshape((4, 4))(m)
    pieces = [h[:, :3], h[..., ::2], h[:, -1], h[:, None, 2:4, 1:], ops.take(h, np.array([3, 0, 3]), axis=1)]
    pieces += [ops.transpose(h, (0, 2, 1)), ops.flip(h, axis=1), ops.roll(h, 2, axis=2), ops.repeat(h, 2, axis=1)]
    pieces += [ops.stack([h, h * 2], axis=-1), ops.squeeze(ops.expand_dims(h, 1), 1), ops.swapaxes(h, 1, 2)]
    pieces += [ops.pad(h, ((0, 0), (1, 0), (0, 2))), ops.concatenate([h, h[:, :1]], axis=1), ops.reshape(h, (-1, 16))]
    pieces += ops.split(h, 2, axis=2)
    return [*pieces[:4], same_for_all(2)(L.Concatenate()([L.Flatten()(p) for p in pieces[4:]]))]


@case("a", "b")
def arithmetic(a, b):
    h = QDense(6)(a)
    narrow = quantised(h)
    return [
        h + h, h - 1.5, 0.75 - h, h * 0.25, h * 1.25, h / 4, -h, narrow * narrow, ops.abs(h), h + np.arange(6.0),
        ops.maximum(h, 0.5), ops.minimum(h, b), ops.maximum(h, 0.0), ops.clip(h, -0.5, 1.25), ops.square(narrow),
        ops.relu(h), ops.relu6(h), ops.leaky_relu(h, 0.125), ops.minimum(h, -1.0), ops.subtract(b, h),
        ops.multiply(narrow, b), ops.add(a, h), ops.hard_tanh(h),
    ]  # fmt: skip


@case("m")
def reductions(m):
    return [
        ops.sum(m, axis=1), ops.sum(m, axis=(1, 2), keepdims=True), ops.max(m, axis=-1), ops.min(m, axis=(2, 3)),
        ops.mean(m, axis=(1, 2)), QDense(3)(ops.mean(m, axis=3)), ops.max(m, axis=(1, 2, 3), keepdims=True),
        L.Concatenate(axis=1)([m, ops.sum(m, axis=1, keepdims=True)]), m * ops.max(m, axis=1, keepdims=True),
    ]  # fmt: skip


@case("a", "b")
def shared_and_nested(a, b):
    """A layer called twice, a model inside called twice, one tensor as two outputs, a slice as an output."""
    shared = QDense(6, name="shared", input_quantizer=WidthQuantizer(b0=4, i0=2, overflow="SAT"))
    i = keras.Input((6,), name="i")
    j = keras.Input((6,), name="j")
    inner = QDense(6, activation="relu", name="inside")(L.Add()([i, j]))
    block = keras.Model([i, j], [inner, inner[:, :2]], name="block")
    tail = keras.Sequential([keras.Input((6,)), QDense(3, activation="relu"), QDense(2)], name="tail")
    first, _ = block([a, b])
    second, piece = block([shared(first), shared(b)])
    return [tail(second), second, second, piece, first[:, 1:3], tail(first)]


@case("a")
def rectifiers(a):
    h = QDense(6)(a)
    slopes = L.PReLU(alpha_initializer=keras.initializers.Constant(0.375))
    layers = [L.ReLU(max_value=1.5), L.ReLU(negative_slope=0.25), L.LeakyReLU(negative_slope=0.5), slopes]
    layers += [L.Activation(name) for name in ("relu6", "hard_tanh", "linear", "relu")]
    return [layer(h) for layer in layers]


@keras.saving.register_keras_serializable(package="tests")
def bump(x):
    """A user's own function."""
    return 1.0 / (1.0 + x * x)


@case("a", "b")
def functions(a, b):
    each = FracQuantizer(f0=3, granularity="element", overflow="SAT")
    wraps = FracQuantizer(f0=2, granularity="channel", overflow="WRAP")
    h = QDense(6, activation="relu")(a)
    tables = [QFunction("tanh")(h), QFunction("silu", output_quantizer=each)(b), QFunction(bump)(a)]
    tables.append(QFunction("exponential", input_quantizer=WidthQuantizer(b0=3, i0=1), output_quantizer=wraps)(a))
    tables.append(QFunction("sigmoid", input_quantizer=each, output_quantizer=each, table_bits=12)(h))
    return [*tables, QDense(3)(L.Concatenate()(tables)), L.Multiply()([tables[0], tables[1]])]


def rearranged_input() -> keras.Model:
    """Moves before anything is quantised: the port has the types of what reads each element."""
    keras.utils.set_random_seed(2)
    m = keras.Input(DATA["m"].shape[1:], name="m")
    left = L.Flatten()(L.ZeroPadding2D(1)(L.Permute((2, 1, 3))(m[:, 1:, ::2])))
    return trained(keras.Model(m, QDense(3)(left)))


MODELS = {
    make.__name__: make
    for make in (merges, residuals, moves, slices, arithmetic, reductions, shared_and_nested, rectifiers, functions)
} | {"rearranged input": rearranged_input}
