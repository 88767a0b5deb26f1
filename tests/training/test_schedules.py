"""What steers a training: held widths, averages, damping, soft labels, resumption."""

import keras
import numpy as np
import pytest
from keras import ops

from hgq.layers import QDense
from hgq.quantizers.base import Between
from hgq.resource import model_ebops, model_luts
from hgq.training import (
    BetaSchedule,
    Budget,
    Freeze,
    ParetoFront,
    calibrate,
    damp,
    hold_widths,
    release_widths,
    soft_labels,
)
from hgq.training.freeze import widths_held
from tests.training.small import data, fit, model, same, values, widths

# --- held widths, averages, damping ---------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.widths, self.kernels = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.widths.append(values(widths(self.model)))
        self.kernels.append(values([self.model.layers[0].kernel]))


@pytest.mark.parametrize(("average", "each"), [(0.3, 0.3), (0.9, 0.01 ** (1 / 4))], ids=["as given", "a short run"])
def test_the_last_part_of_a_run_has_held_widths_and_ends_with_averages(average, each):
    made, watch = model(), Watch()
    fit(made, watch, Freeze(0.5, average=average), epochs=4, validation_data=None, batch_size=24)
    assert not same(watch.widths[0], watch.widths[1])
    assert same(watch.widths[1], watch.widths[2]) and same(watch.widths[1], watch.widths[3])
    assert same(watch.widths[1], values(widths(made)))
    kept = each**2  # two steps an epoch
    first = watch.kernels[1][0] * kept + watch.kernels[2][0] * (1 - kept)
    expected = first * kept + watch.kernels[3][0] * (1 - kept)
    assert np.abs(values([made.layers[0].kernel])[0] - expected).max() < 1e-6
    assert all(isinstance(v.constraint, Between) for v in widths(made))  # the next run trains them again


def test_holding_and_releasing_hold_for_a_training_step_that_is_compiled_already():
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((3,)), QDense(2)])
    made.compile(keras.optimizers.SGD(0.5, momentum=0.9), "mse", jit_compile=False)
    x, y = data()[0], np.ones((48, 2))
    for layer in made.layers:
        layer.beta.assign(0.01)
    made.train_on_batch(x, y)
    before, kernel = values(widths(made)), values([made.layers[0].kernel])
    hold_widths(made)
    made.train_on_batch(x, y)
    assert same(before, values(widths(made))) and not same(kernel, values([made.layers[0].kernel]))
    release_widths(made)
    assert all(isinstance(v.constraint, Between) for v in widths(made))


def test_validation_and_checkpoints_have_the_averages(tmp_path):
    made = model()
    front = ParetoFront(tmp_path, metric="val_loss")
    history = fit(made, Freeze(0.7, average=0.8), front, epochs=3).history
    assert front.points
    for point in front.points:
        assert point["metric"] == pytest.approx(history["val_loss"][point["epoch"]])
        kept = keras.models.load_model(tmp_path / point["file"])
        assert kept.evaluate(*data(1), batch_size=48, verbose=0)[0] == pytest.approx(point["metric"], abs=1e-6)
        if point["epoch"] == 2:
            assert same(values(kept.trainable_variables), values(made.trainable_variables))
    assert 2 in [point["epoch"] for point in front.points]


class Kept(keras.callbacks.Callback):
    """What Keras' own checkpoints would hold."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())
        logs["third"] = float(epoch == 2)


@pytest.mark.parametrize("first", [True, False], ids=["Freeze first", "Freeze last"])
def test_callbacks_of_keras_keep_the_weights_that_were_validated(first):
    made, kept = model(), Kept()
    stopping = keras.callbacks.EarlyStopping("third", mode="max", patience=9, restore_best_weights=True)
    freeze = Freeze(0.7, average=0.8)
    history = fit(made, *([freeze, kept, stopping] if first else [kept, stopping, freeze]), epochs=4).history
    assert stopping.best_epoch == 2 and same(made.get_weights(), kept.weights[2])
    assert not same(kept.weights[2], kept.weights[3])
    for loss, weights in zip(history["val_loss"], kept.weights, strict=True):
        made.set_weights(weights)
        assert made.evaluate(*data(1), batch_size=48, verbose=0)[0] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("front_first", [False, True], ids=["front last", "front first"])
def test_without_validation_the_front_has_costs_and_ranges_of_what_it_keeps(tmp_path, front_first):
    made, front = model(), ParetoFront(tmp_path, metric="ebops", mode="max", calibrate=data()[0])
    rest = [BetaSchedule(1e-4, 1e-2), Freeze(1.0, average=0.6)]
    fit(made, *([front, *rest] if front_first else [*rest, front]), epochs=3, validation_data=None)
    for point in front.points:
        kept = keras.models.load_model(tmp_path / point["file"])
        found = values(kept.variables)
        calibrate(kept, data()[0])
        assert same(found, values(kept.variables))
        assert (point["ebops"], point["luts"]) == (model_ebops(kept), model_luts(kept))


class Interrupt(keras.callbacks.Callback):
    def on_test_end(self, logs=None):
        if widths_held(self.model):
            raise KeyboardInterrupt


def test_a_run_that_was_interrupted_leaves_nothing_to_the_next(tmp_path):
    made, again, freeze = model(), model(), Freeze(0.5, average=0.9)
    fit(again, epochs=1)
    for callbacks in ([freeze], [ParetoFront(tmp_path, metric="val_loss")]):
        with pytest.raises(KeyboardInterrupt):
            fit(made, freeze, Interrupt(), epochs=2)
        fresh = model()
        made.set_weights(fresh.get_weights())
        made.compile(fresh.optimizer, fresh.loss, run_eagerly=True, jit_compile=False)
        freeze.epochs = 2  # of which this is the first
        fit(made, *callbacks, epochs=1)
        assert same(values(again.variables), values(made.variables)) and not widths_held(made)
    (point,) = callbacks[0].points
    assert same(values(keras.models.load_model(tmp_path / point["file"]).variables), values(made.variables))


def test_damping_leaves_quantised_values_as_they_are():
    made = model()
    layer = made.layers[0]
    before = layer.constants()["kernel"][0]
    far = np.abs(values([layer.kernel])[0] - before)
    damp(made, 0.25)
    assert (layer.constants()["kernel"][0] == before).all()
    assert np.abs(values([layer.kernel])[0] - before) == pytest.approx(0.75 * far, abs=1e-6) and far.max() > 0.01
    damp(made, 1.0)
    assert (values([layer.kernel])[0] == before).all()


def test_damping_leaves_layers_alone_that_are_not_trained():
    made = model()
    made.layers[0].trainable = False
    before = values(made.variables)
    damp(made, 0.5)
    assert same(before, values(made.variables))


def test_two_callbacks_that_set_beta_in_one_run_are_refused():
    made = model()
    with pytest.raises(ValueError, match=r"BetaSchedule: Budget sets beta in this run, too.*one Budget"):
        fit(made, Budget(100), BetaSchedule(1e-4, 1e-5), epochs=2)
    with pytest.raises(ValueError, match="Budget: BetaSchedule sets beta"):
        fit(made, BetaSchedule(1e-4, 1e-5), Budget(100), epochs=2)
    schedule = BetaSchedule(1e-4, 1e-5)
    for callback in (Budget(100), schedule, schedule):  # one run after another is fine
        fit(made, callback, epochs=2)


def test_a_run_too_short_for_a_schedule_to_move_is_said():
    for callback, match in ((Freeze(0.2), "Freeze: fraction=0.2 of 4 epochs is less"), (BetaSchedule(1e-4, 1e-5), "")):
        with pytest.warns(UserWarning, match=match or "BetaSchedule: beta is 0.0001 for the whole run"):
            fit(model(), callback, epochs=4 if match else 1)


BAD_FREEZES = {
    "fraction": (dict(fraction=1.5), "fraction=1.5"),
    "average": (dict(average=1.0), "average=1.0"),
    "damping": (dict(damping=-1), "damping=-1"),
    "epochs": (dict(epochs=0), "epochs=0"),
}


@pytest.mark.parametrize("case", BAD_FREEZES)
def test_bad_arguments_of_freeze_are_named(case):
    arguments, message = BAD_FREEZES[case]
    with pytest.raises(ValueError, match=message):
        Freeze(**arguments)


def test_freeze_and_budget_want_a_quantised_model():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    for callback in (Freeze(), Budget(100)):
        callback.set_model(plain)
        with pytest.raises(ValueError, match="no quantised layer"):
            callback.on_train_begin()


def test_an_optimizer_that_averages_widths_does_not_go_with_freeze():
    made, freeze = model(), Freeze()
    made.compile(keras.optimizers.Adam(use_ema=True), "mse")
    freeze.set_model(made)
    with pytest.raises(ValueError, match="use_ema"):
        freeze.on_train_begin()


def test_a_model_that_is_not_built_is_named():
    later = keras.Sequential([QDense(2)])
    for callback in (Freeze(), Budget(100), BetaSchedule(1e-6, 1e-4)):
        callback.set_model(later)
        with pytest.raises(ValueError, match=r"is not built: QDense '.*' has no variables yet.*keras.Input"):
            callback.on_train_begin()


# --- resumption -----------------------------------------------------------------------------------------------------


def schedules():
    return BetaSchedule(1e-4, 1e-2, epochs=4, cost="luts"), Freeze(0.25, average=0.9, epochs=4)


def test_a_run_resumed_from_its_file_ends_as_one_that_was_not_interrupted(tmp_path):
    """Up to the averages, which begin where the run is resumed: here before them."""
    whole = model()
    fit(whole, *schedules(), epochs=4)
    part = model()
    fit(part, *schedules(), epochs=2)
    part.save(tmp_path / "part.keras")
    again = keras.models.load_model(tmp_path / "part.keras")
    again.run_eagerly = True
    assert [layer.cost for layer in again.layers] == ["luts"]
    fit(again, *schedules(), epochs=4, initial_epoch=2)
    assert same(values(whole.variables), values(again.variables))


# --- labels and costs -----------------------------------------------------------------------------------------------


def teacher(activation=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation=activation)])


def test_soft_labels_by_hand():
    x = data()[0][:5]
    made = teacher()
    logits = ops.convert_to_numpy(made(x)).astype(np.float64)
    true = np.array([0, 3, 1, 2, 0])

    def rows(t):
        e = np.exp(logits / t)
        return e / e.sum(1, keepdims=True)

    assert soft_labels(made, x) == pytest.approx(rows(1), abs=1e-6)
    assert soft_labels(made, x, temperature=3.0) == pytest.approx(rows(3), abs=1e-6)
    mixed = 0.7 * rows(2) + 0.3 * np.eye(4)[true]
    assert soft_labels(made, x, true, weight=0.7, temperature=2.0) == pytest.approx(mixed, abs=1e-6)
    assert soft_labels(made, x, np.eye(4)[true], weight=0.7, temperature=2.0) == pytest.approx(mixed, abs=1e-6)
    sure = teacher("softmax")
    sure.set_weights(made.get_weights())
    assert soft_labels(sure, x, temperature=2.0) == pytest.approx(rows(2), abs=1e-5)


def test_bad_soft_labels_are_named():
    x = data()[0][:5]
    with pytest.raises(ValueError, match="below 1 needs y"):
        soft_labels(teacher(), x, weight=0.5)
    with pytest.raises(ValueError, match="temperature=0"):
        soft_labels(teacher(), x, temperature=0)
    with pytest.raises(ValueError, match="y holds -1; the teacher's classes are the numbers 0 to 3"):
        soft_labels(teacher(), x, [0, 1, 2, -1, 0], weight=0.5)
    with pytest.raises(ValueError, match="rows do not add up to 1"):
        soft_labels(teacher("sigmoid"), x)
    one = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    with pytest.raises(ValueError, match="one number for each sample"):
        soft_labels(one, x)
    with pytest.raises(ValueError, match=r"y of shape \(5, 3\)"):
        soft_labels(teacher(), x, np.zeros((5, 3)), weight=0.5)


def test_a_front_has_the_cost_that_training_presses_on(tmp_path):
    def play(*rows, schedule=None, **arguments):
        front, made = ParetoFront(tmp_path, **arguments), model()
        for callback in [schedule, front] if schedule else [front]:
            callback.set_model(made)
            callback.on_train_begin()
        for epoch, (accuracy, ebops, luts) in enumerate(rows):
            front.on_epoch_end(epoch, {"val_accuracy": accuracy, "ebops": ebops, "luts": luts, "bits": 1.0})
        return front

    front = play((0.5, 10, 90), (0.6, 20, 80), (0.6, 20, 80), (0.7, 5, 95), schedule=BetaSchedule(1, 1, cost="luts"))
    assert [(p["metric"], p["luts"], p["ebops"]) for p in front.points] == [(0.6, 80, 20), (0.7, 95, 5)]
    assert front.best["luts"] == 95 and front.points[0]["file"] == "epoch00001-luts80-0.6.keras"
    assert sorted(p.name for p in tmp_path.glob("epoch*")) == [p["file"] for p in front.points]
    with pytest.raises(ValueError, match="front of luts, not of ebops"):
        play(cost="ebops")
    with pytest.raises(ValueError, match="cost='watts'"):
        ParetoFront(tmp_path, cost="watts")
