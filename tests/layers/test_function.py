"""QFunction: the table is what the layer computes, and what cannot be a table is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from hgq.errors import ConversionError
from hgq.fixed import Overflow, Rounding, encode
from hgq.frontend import read_model
from hgq.layers import QDense, QFunction
from hgq.layers.function import FUNCTIONS
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate, freeze_tables

X = np.random.default_rng(0).normal(size=(200, 6)).astype("float32") * 2


def model_of(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,), name="x"), *layers])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_are_those_of_keras(name: str) -> None:
    x = np.linspace(-6, 6, 241)
    want = np.asarray(ops.convert_to_numpy(keras.activations.get(name)(ops.convert_to_tensor(x, "float32"))))
    assert np.allclose(FUNCTIONS[name](x), want, rtol=1e-5, atol=1e-5)  # float32 against float64


def test_a_frozen_layer_gives_the_function_of_every_value_rounded_once() -> None:
    layer = QFunction("tanh", input_quantizer=WidthQuantizer(b0=5, i0=2, overflow="SAT"))
    model = model_of(layer)
    calibrate(model, X)
    (reads,), (types,) = (set(q.types((6,))) for q in (layer.input_quantizer, layer.output_quantizer))
    x = np.arange(reads.lo, reads.hi + 1) * reads.lsb
    rows = np.repeat(x[:, None], 6, axis=1).astype("float32")
    want = encode(np.tanh(rows.astype(np.float64)), layer.output_quantizer.types((6,)), Rounding.RND, Overflow.SAT)
    assert (ops.convert_to_numpy(model(rows, training=False)) == want * types.lsb).all()


def test_training_drops_the_table_and_reaches_the_widths() -> None:
    layer = QFunction("silu")
    model = model_of(QDense(6), layer, QDense(1))
    model.compile("adam", "mse")
    calibrate(model, X)
    assert layer.table.is_frozen
    before = [np.array(v) for v in (layer.input_quantizer.f, layer.output_quantizer.f)]
    model.fit(X, X[:, :1], epochs=2, verbose=0)
    assert not layer.table.is_frozen
    after = [np.array(v) for v in (layer.input_quantizer.f, layer.output_quantizer.f)]
    assert all((a != b).all() for a, b in zip(before, after, strict=True))
    with pytest.raises(ConversionError, match=r"its table has not been made(.|\n)*freeze"):
        read_model(model)
    assert freeze_tables(model) == 1 and freeze_tables(model) == 0
    read_model(model)


def test_a_table_comes_back_from_a_file_as_it_was(tmp_path) -> None:
    model = model_of(QFunction("gelu", output_quantizer=FracQuantizer(f0=3, granularity="element"), name="g"))
    calibrate(model, X)
    table = model.get_layer("g").table.entries
    table.assign(np.array(table) * 0)  # no function gives this
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert not ops.convert_to_numpy(again(X)).any() and str(read_model(again)) == str(read_model(model))


def test_a_table_for_other_types_is_refused() -> None:
    model = model_of(QFunction("tanh", name="t"))
    calibrate(model, X)
    model.get_layer("t").input_quantizer.f.assign([1.0])
    with pytest.raises(ConversionError, match=r"QFunction 't'(.|\n)*its table was not made for(.|\n)*freeze"):
        read_model(model)


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: QFunction("tan", name="t"), r"QFunction 't': function='tan'; choose one of sigmoid"),
        (lambda: QFunction(3, name="t"), "neither a name nor a function"),
        (lambda: QFunction("tanh", output_quantizer=None, name="t"), "output_quantizer=None, but a table needs both"),
        (lambda: QFunction("tanh", table_bits=17, name="t"), r"table_bits=17; it must be a whole number in 1\.\.16"),
        (
            lambda: QFunction("tanh", input_quantizer=FracQuantizer(f0=9, granularity="tensor"), name="t"),
            r"QFunction 't': the argument of its table has the type s1\df9 of 1\d bits, more than(.|\n)*raise",
        ),
        (lambda: QFunction(ops.log, name="t"), r"QFunction 't': the function gives (nan|-inf) at"),
    ],
    ids=["name", "object", "no quantizer", "table bits", "too wide", "not finite"],
)
def test_what_cannot_be_a_table_is_named(make, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        calibrate(model_of(make()), X)
