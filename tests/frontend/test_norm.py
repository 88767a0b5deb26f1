"""Softmax, normalisations and activations: Keras computes what the graph does, on both back ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from hgq import layers as q
from hgq.frontend import read_model
from hgq.frontend.predict import keras_engine
from hgq.ir import evaluate, parse
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.report.layers import ebops
from hgq.resource import model_ebops
from hgq.training import calibrate
from hgq.verify import corner_vectors, float32_certificate, verify_engines
from tests.frontend.norm_models import DATA, LAYERS, SHAPE, model_of


def check(name: str) -> None:
    """A model, its graph, the graph's text, and their EBOPs agree."""
    model = model_of(name)
    graph = read_model(model)
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 1000)
    (golden,) = evaluate(graph, inputs).values()
    assert len(np.unique(golden.reshape(len(golden), -1), axis=0)) > 20 or "of one" in name, "it hardly depends on x"
    float64 = not float32_certificate(graph).exact32
    verify_engines(graph, inputs, {"Keras": keras_engine(model, graph, float64=float64)})
    assert str(parse(str(graph))) == str(graph)
    assert sum(ebops(graph, node) for node in graph) == model_ebops(model)


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_is_what_its_graph_computes(name: str) -> None:
    check(name)


def test_jax_computes_the_same() -> None:
    """One process for all models: starting JAX costs more than running them."""
    code = "from tests.frontend import test_norm as t\nfor name in t.LAYERS:\n    print(name); t.check(name)"
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(LAYERS)


def test_models_survive_saving(tmp_path: Path) -> None:
    model = model_of(*LAYERS)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert str(read_model(again)) == str(read_model(model))


# --- softmax ---------------------------------------------------------------------------------------------------------


def alone(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(SHAPE, name="x"), *layers])
    calibrate(model, DATA)
    return model


@pytest.mark.parametrize("axis", [-1, 1, [1, 2]], ids=str)
def test_a_softmax_with_many_bits_is_that_of_keras(axis: int | list[int]) -> None:
    fine = {name: FracQuantizer(f0=f, overflow="SAT", granularity="tensor") for name, f in (
        ("input_quantizer", 9), ("difference_quantizer", 9), ("exp_quantizer", 16), ("sum_quantizer", 11),
        ("inverse_quantizer", 16), ("output_quantizer", 16),
    )}  # fmt: skip
    y = alone(q.QSoftmax(axis, **fine, table_bits=16)).predict(DATA, verbose=0)
    assert y == pytest.approx(keras.ops.convert_to_numpy(keras.layers.Softmax(axis)(DATA)), abs=2e-3)


def test_the_steps_of_a_softmax_by_hand() -> None:
    """x = 3, 1, 3 in units: d = 0, 2, 0; exp = 1, 35/256, 1; sum = 2 3/16 at 4 bits less rounding; 1/sum = 120/256."""
    model = keras.Sequential([keras.Input((3,)), q.QSoftmax()])
    calibrate(model, np.array([[3, 1, 3], [8, 0, 0]], "float32"))
    e = np.round(np.exp(-2.0) * 256) / 256
    total = np.floor((2 + e) * 16 + 0.5) / 16
    inverse = np.floor(256 / total + 0.5) / 256
    want = np.floor(np.array([1, e, 1]) * inverse * 256 + 0.5) / 256
    assert (model.predict(np.array([[3, 1, 3]], "float32"), verbose=0)[0] == want).all()


def test_masked_elements_are_zero_and_leave_the_others_as_if_they_were_not_there() -> None:
    kept = [0, 2, 3]
    masked = keras.Sequential([keras.Input((4,)), q.QSoftmax(mask=[True, False, True, True])])
    fewer = keras.Sequential([keras.Input((3,)), q.QSoftmax()])
    x = DATA.reshape(-1, 4)
    x[:, 1] = 50  # would win
    calibrate(masked, x)
    calibrate(fewer, x[:, kept])
    fewer.layers[0].input_quantizer.hi.assign(masked.layers[0].input_quantizer.hi)
    y = masked.predict(x, verbose=0)
    assert (y[:, 1] == 0).all() and (y[:, kept] == fewer.predict(x[:, kept], verbose=0)).all()


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: q.QSoftmax(0, name="s"), r"QSoftmax 's': axis=\[0\] does not fit.*not the batch axis"),
        (lambda: q.QSoftmax([1, -2], name="s"), r"QSoftmax 's': axis=\[1, -2\] does not fit.*each axis once"),
        (lambda: q.QSoftmax(1.5, name="s"), r"QSoftmax 's': axis=1.5; it must be a whole number"),
        (lambda: q.QSoftmax(mask=[1, 0, 1, 1], name="s"), "QSoftmax 's': mask holds int64.*booleans"),
        (lambda: q.QSoftmax(mask=[True, False], name="s"), r"QSoftmax 's': mask of shape \(2,\) does not fit"),
        (lambda: q.QSoftmax(exp_quantizer=None, name="s"), "QSoftmax 's': exp_quantizer=None.*a table needs both"),
        (lambda: q.QSoftmax(stable=False, input_quantizer=None, name="s"), "input_quantizer=None.*a table needs both"),
        (lambda: q.QSoftmax(activation="relu", name="s"), "QSoftmax 's': activation='relu', but it has none"),
        (lambda: q.QSoftmax(table_bits=0, name="s"), r"QSoftmax 's': table_bits=0; it must be .* in 1\.\.16"),
    ],
    ids=["batch axis", "axis twice", "axis", "mask", "shape of mask", "no exp", "no input", "activation", "table bits"],
)
def test_arguments_that_cannot_be_are_named(make, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        alone(make())


def test_a_table_that_grew_too_wide_is_named() -> None:
    wide = FracQuantizer(f0=12, overflow="SAT", granularity="tensor")
    with pytest.raises(ValueError, match=r"QSoftmax 's': the argument of its inverse_table has the type u1\df12"):
        alone(q.QSoftmax(sum_quantizer=wide, name="s"))


def test_layers_train_and_their_price_falls() -> None:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(256, *SHAPE)).astype("float32")
    coarse = WidthQuantizer(b0=6, i0=3, signed=False, overflow="SAT", granularity="tensor")
    layers = [q.QSoftmax(1, beta=1e-3, difference_quantizer=coarse)]
    model = keras.Sequential([keras.Input(SHAPE), *layers, keras.layers.Flatten(), q.QDense(2)])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    history = model.fit(x, x[:, 0, :2], epochs=1, verbose=0)
    before = model_ebops(model)
    widths = [v for layer in layers for v in layer.trainable_variables]
    first = [np.array(v.value) for v in widths]
    history = model.fit(x, x[:, 0, :2], epochs=8, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and history.history["loss"][-1] < history.history["loss"][0]
    assert model_ebops(model) < before
    moved = [(np.array(v.value) != a).any() for v, a in zip(widths, first, strict=True)]
    assert all(moved), [v.path for v, m in zip(widths, moved, strict=True) if not m]
    calibrate(model, x)
    read_model(model)
