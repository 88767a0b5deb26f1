"""Recurrent layers: the arithmetic of Keras, saving, training, and what their arguments may be."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from hgq.layers import QGRU, QLSTM, QActivation, QSimpleRNN
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.resource import model_ebops
from hgq.training import calibrate
from tests.frontend.recurrent_models import MODELS, table

X = np.random.default_rng(1).normal(size=(64, 5, 3)).astype("float32")
FINE = FracQuantizer(f0=16)
WIDE = WidthQuantizer(b0=20, i0=3)
PAIRS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "simple rnn": (QSimpleRNN, keras.layers.SimpleRNN, {"return_sequences": True}),
    "gru": (QGRU, keras.layers.GRU, {"return_sequences": True, "go_backwards": True}),
    "gru, reset before": (QGRU, keras.layers.GRU, {"reset_after": False}),
    "lstm": (QLSTM, keras.layers.LSTM, {"return_state": True}),
}


def part(name: str) -> Any:
    from hgq.layers import QFunction

    return QFunction(name, input_quantizer=FINE, output_quantizer=FINE)


@pytest.mark.parametrize("ours,theirs,options", PAIRS.values(), ids=PAIRS)
def test_with_fine_quantizers_it_is_the_layer_of_keras(ours: type, theirs: type, options: dict[str, Any]) -> None:
    keras.utils.set_random_seed(0)
    fine = dict.fromkeys(["kernel_quantizer", "recurrent_quantizer", "bias_quantizer"], WIDE)
    fine |= {"input_quantizer": FINE, "activation": part("tanh")}
    if ours is not QSimpleRNN:
        fine |= {"state_quantizer": FINE, "recurrent_activation": part("sigmoid")}
    if ours is QGRU:
        fine["reset_quantizer"] = FINE
    if ours is QLSTM:
        fine |= {"carry_quantizer": FINE, "carry_activation": part("tanh")}
    layer, other = ours(4, **fine, **options), theirs(4, bias_initializer="random_normal", **options)
    layer.build((None, *X.shape[1:]))
    other(X)
    layer.kernel.assign(ops.convert_to_numpy(other.cell.kernel.value))
    layer.recurrent_kernel.assign(ops.convert_to_numpy(other.cell.recurrent_kernel.value))
    bias = ops.convert_to_numpy(other.cell.bias.value)
    if bias.ndim == 2:  # Keras adds two biases to each gate
        bias = np.concatenate([bias[0, :8] + bias[1, :8], bias[0, 8:], bias[1, 8:]])
    layer.bias.assign(bias)
    for a, b in zip(keras.tree.flatten(layer(X, training=True)), keras.tree.flatten(other(X)), strict=True):
        assert ops.convert_to_numpy(a) == pytest.approx(
            ops.convert_to_numpy(b), abs=2e-3
        )  # 16 fractional bits, over 5 steps


def test_biases_of_the_forget_gate_start_at_one() -> None:
    layer = QLSTM(2)
    layer.build((None, 4, 3))
    assert ops.convert_to_numpy(layer.bias.value).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_models_come_back_from_files_as_they_were(tmp_path) -> None:
    for name in ("gru, reset before, backwards", "lstm of its own", "bidirectional"):
        model = MODELS[name]()
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        x = X[:, :3]
        for a, b in zip(keras.tree.flatten(model(x)), keras.tree.flatten(again(x)), strict=True):
            assert (ops.convert_to_numpy(a) == ops.convert_to_numpy(b)).all(), name
        assert model_ebops(again) == model_ebops(model)


def test_training_lowers_the_price_and_calibration_makes_the_tables() -> None:
    keras.utils.set_random_seed(0)
    layer = QGRU(3, beta=1e-3)
    model = keras.Sequential([keras.Input((5, 3)), layer])
    calibrate(model, X)
    assert all(t.is_frozen for t in layer.tables().values()) and len(layer.tables()) == 2
    before, bar = model_ebops(model), float(layer.ebops_bar())
    assert before <= bar
    model.compile(keras.optimizers.Adam(2e-2), "mse")
    model.fit(X, X.mean(1), epochs=15, verbose=0)
    assert not any(t.is_frozen for t in layer.tables().values())
    calibrate(model, X)
    assert model_ebops(model) < before


ERRORS = {
    "units": (lambda: QGRU(0, name="g"), "QGRU 'g': units=0"),
    "stateful": (lambda: QGRU(2, stateful=True, name="g"), "QGRU 'g': stateful=True.*Fix: leave it out"),
    "dropout": (lambda: QLSTM(2, dropout=0.2, name="l"), r"QLSTM 'l': dropout=0\.2.*Fix: put keras\.layers\.Dropout"),
    "recurrent dropout": (lambda: QLSTM(2, recurrent_dropout=0.2, name="l"), r"recurrent_dropout=0\.2.*Fix"),
    "regularizer": (lambda: QSimpleRNN(2, kernel_regularizer="l2", name="s"), "kernel_regularizer='l2'.*Fix"),
    "activation": (lambda: QGRU(2, activation="tan", name="g"), "QGRU 'g': activation='tan'.*choose one of.*relu"),
    "gates": (lambda: QLSTM(2, recurrent_activation="tan", name="l"), "QLSTM 'l': recurrent_activation='tan'"),
    "a slope": (
        lambda: QGRU(2, activation=QActivation("leaky_relu", output_quantizer=FINE), name="g"),
        "QGRU 'g': activation=.*slope.*Fix: use QFunction",
    ),
    "no state quantizer": (lambda: QGRU(2, state_quantizer=None, name="g"), "QGRU 'g': state_quantizer=None.*Fix"),
    "no kernel quantizer": (lambda: QLSTM(2, recurrent_quantizer=None, name="l"), "recurrent_quantizer=None.*Fix"),
    "unknown steps": (lambda: QGRU(2, name="g")(keras.Input((None, 3))), "QGRU 'g'.*both sizes.*Fix"),
    "initial state": (
        lambda: QGRU(2, name="g")(X, initial_state=np.zeros((64, 2), "float32")),
        "QGRU 'g': it is called with an initial_state.*Fix: leave initial_state out",
    ),
}


@pytest.mark.parametrize("make,message", ERRORS.values(), ids=ERRORS)
def test_arguments_without_a_meaning_in_hardware_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


def test_an_activation_may_be_a_part_with_quantizers_of_ones_own() -> None:
    layer = QGRU(2, activation=table(table_bits=9), recurrent_activation="hard_sigmoid")
    again = QGRU.from_config(layer.get_config())
    assert again.activation.table.table_bits == 9 and again.recurrent_activation.function == "hard_sigmoid"
    assert again.activation.output_quantizer.granularity == "channel"
