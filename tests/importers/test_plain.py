"""Plain Keras models with given types, against the same arithmetic written out in NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConversionError
from hgq.fixed import FixedArray, FixedType, decode, encode
from hgq.frontend.model import read_model
from hgq.ir.evaluate import evaluate

TYPES = {
    "*": {"input": "s8f4", "kernel": "s8f6", "bias": "s12f8"},
    "last": {"kernel": "s4f2", "input": "u6f4", "output": "s10f6"},
}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A dense layer, its normalisation, an activation, two more dense layers, a softmax."""
    rng = np.random.default_rng(0)
    x = given = keras.Input((4,), name="x")
    x = keras.layers.Dense(5, name="first")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Dense(3, activation="relu", name="second")(x)
    x = keras.layers.Dense(2, use_bias=False, name="last")(x)
    model = keras.Model(given, keras.layers.Softmax(name="softmax")(x))
    for weight in model.weights:
        weight.assign(
            rng.uniform(0.1, 0.9, weight.shape) if "variance" in weight.path else rng.normal(0, 0.4, weight.shape)
        )
    return model


def rounded(x: np.ndarray, t: str) -> np.ndarray:
    types = FixedArray.full(x.shape[1:], FixedType.parse(t))
    return decode(encode(x, types, "RND", "SAT"), types.frac)


def expected(model: keras.Model, x: np.ndarray) -> np.ndarray:
    first, norm, second, last = (model.get_layer(n) for n in ("first", "norm", "second", "last"))
    gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
    kernel, bias = first.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel, bias = (kernel * scale).astype(np.float32), (bias * scale + beta - mean * scale).astype(np.float32)
    h = np.maximum(rounded(x, "s8f4") @ rounded(kernel, "s8f6") + rounded(bias[None], "s12f8"), 0)
    kernel, bias = second.get_weights()
    h = np.maximum(rounded(h, "s8f4") @ rounded(kernel, "s8f6") + rounded(bias[None], "s12f8"), 0)
    return rounded(rounded(h, "u6f4") @ rounded(last.get_weights()[0], "s4f2"), "s10f6")


@pytest.mark.parametrize("kind", ["keras", "h5", "json"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_plain_model_with_given_types_is_rounded_as_said_and_its_normalisation_folded(
    model: keras.Model, kind: str, tmp_path: Path
) -> None:
    file, weights, types = tmp_path / f"m.{kind}", None, TYPES
    if kind == "json":
        file.write_text(model.to_json())
        weights = tmp_path / "m.weights.h5"
        model.save_weights(weights)
        types = tmp_path / "types.json"
        types.write_text(json.dumps(TYPES))
    else:
        model.save(file)
    ours = hgq.load(file, weights=weights, types=types, drop_softmax=True)
    graph = read_model(ours)
    x = np.random.default_rng(1).normal(0, 3, (500, 4)).astype(np.float32)
    port = graph[graph.inputs[0]]
    y = graph.outputs[0]
    made = evaluate(graph, {port.name: encode(x, port.types, port.attrs["rounding"], port.attrs["overflow"])})[y]
    assert np.array_equal(decode(made, graph[y].range.frac), expected(model, x))
    assert len(np.unique(made)) > 20


REFUSED = {
    "no types": (None, True, ["Dense 'first': its input is not quantised", "types"]),
    "a part without type": ({"*": {"input": "s8f4"}}, True, ["Dense 'first': its kernel is not quantised"]),
    "weights that saturate": ("s2f2", True, ["Dense 'first': its kernel reaches", "s2f2 ends at 0.25"]),
    "a layer that is not there": ({"frist": {"kernel": "s8f6"}}, True, ["no layer 'frist'", "first, norm"]),
    "a part that is not there": ({"first": {"weights": "s8f6"}}, True, ["'weights' of 'first' is none of"]),
    "a type that nothing takes": (
        TYPES | {"relu": {"output": "u6f4"}},
        True,
        ["types: 'relu' takes none for its 'output'", "the layer before or behind"],
    ),
    "a part of a layer that is folded": (TYPES | {"norm": {"scale": "s6f4"}}, True, ["'norm' takes none for its 'sc"]),
    "no type": ("8 bits", True, ["'8 bits' is no fixed-point type"]),
    "softmax": (TYPES, False, ["Softmax 'softmax'", "drop_softmax=True"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_plain_model_cannot_do_without_is_asked_for(name: str, model: keras.Model, tmp_path: Path) -> None:
    types, drop, said = REFUSED[name]
    model.save(tmp_path / "m.keras")
    with pytest.raises(ConversionError) as error:
        hgq.load(tmp_path / "m.keras", types=types, drop_softmax=drop)
    assert [text for text in said if text not in str(error.value)] == []


def test_a_normalisation_of_another_axis_than_the_last_is_not_folded(tmp_path: Path) -> None:
    layers = [keras.layers.Dense(4, name="d"), keras.layers.BatchNormalization(axis=1, name="norm")]
    keras.Sequential([keras.Input((4, 3)), *layers]).save(tmp_path / "m.keras")  # as many steps as units
    with pytest.raises(ConversionError, match="BatchNormalization 'norm': axis=1 is not supported"):
        hgq.load(tmp_path / "m.keras", types="s16f6")


def test_inputs_and_outputs_of_dicts_have_the_order_of_keras(tmp_path: Path) -> None:
    z, a = (keras.Input((3,), name=name) for name in "za")
    parts = {"z": keras.layers.Dense(2, name="dz")(z), "a": keras.layers.Dense(2, name="da")(a)}
    model = keras.Model({"z": z, "a": a}, parts)
    model.save(tmp_path / "m.keras")
    ours = hgq.load(tmp_path / "m.keras", types="s16f6")
    assert [t.name for t in ours.inputs] == [t.name for t in model.inputs] == ["a", "z"]
    assert [t._keras_history.operation.name for t in ours.outputs] == ["da", "dz"]
