"""What steers a training: budgets, held widths, averages, damping, soft labels, resumption."""

import keras
import numpy as np
import pytest
from keras import ops

from hgq.layers import QDense
from hgq.quantizers import WidthQuantizer
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


def data(seed=0, samples=48):
    x = np.random.default_rng(seed).uniform(-1, 1, (samples, 3)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def model(eager=True):
    """Eager: tracing a graph takes longer than these few steps."""
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((3,)), QDense(2, kernel_quantizer=WidthQuantizer(b0=2.2))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"], run_eagerly=eager, jit_compile=False)
    return made


def fit(made, *callbacks, epochs, **arguments):
    x, y = data()
    given = dict(batch_size=48, shuffle=False, validation_data=data(1)) | arguments
    return made.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks), **given)


def values(variables):
    return [np.array(ops.convert_to_numpy(v.value)) for v in variables]


def widths(made):
    return [v for v in made.trainable_variables if v.name in ("b", "i", "f")]


def same(one, other):
    return all((a == b).all() for a, b in zip(one, other, strict=True))


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


# --- budget ---------------------------------------------------------------------------------------------------------


def steer(budget, plant, epochs, made=None, first=0, length=None):
    """What Keras would do if the cost followed beta as `plant` says, half of the way (in the logarithm) an epoch."""
    made = made or model()
    budget.set_model(made)
    budget.set_params({"epochs": length or epochs})
    budget.on_train_begin()
    betas, costs, now = [], [], plant(1e-6)
    for epoch in range(first, epochs):
        budget.on_epoch_begin(epoch)
        betas.append(budget.beta)
        now = (now * plant(budget.beta)) ** 0.5
        costs.append(now)
        budget.on_epoch_end(epoch, {"ebops": 1, "bits": 1.0, "luts": now})
    return betas, costs


def falling(beta):
    """A cost as networks have it: half for four times the price, and never below 500."""
    return max(500.0, 8000.0 * (beta / 1e-6) ** -0.5)


@pytest.mark.parametrize("epochs", [40, 200])
def test_a_budget_is_met_and_stays_met_while_nothing_is_steered(epochs):
    betas, costs = steer(Budget(1200), falling, epochs)
    assert costs[-1] == pytest.approx(1200, rel=0.03)
    assert min(costs) > 1080  # hardly any overshoot
    assert len(set(betas[int(0.75 * epochs) + 1 :])) == 1
    assert max(abs(np.diff(np.log(betas)))) <= np.log(2) + 1e-6


def test_a_target_out_of_reach_winds_nothing_up():
    reachable = [False]

    def plant(beta):
        return 100.0 if reachable[0] else falling(beta)

    budget, made = Budget(200, bounds=(1e-8, 1e-4), until=1.0), model()
    betas, _ = steer(budget, plant, 60, made, length=100)
    assert betas[-1] == pytest.approx(1e-4)
    reachable[0] = True
    betas, costs = steer(budget, plant, 65, made, first=60, length=100)
    below = next(n for n, cost in enumerate(costs) if cost < 200)
    assert betas[below] == pytest.approx(1e-4) and betas[below + 1] < betas[below] * 0.99


def test_a_metric_is_traded_for_cost_down_to_its_goal():
    budget = Budget(metric="val_accuracy", goal=0.9)
    steer(budget, falling, 0, length=100)
    for epoch, accuracy, moves in ((5, 0.95, 1), (6, 0.9, 0), (7, 0.85, -1), (90, 0.95, 0)):
        before = budget.beta
        budget.on_epoch_end(epoch, {"ebops": 1, "luts": 1, "bits": 1.0, "val_accuracy": accuracy})
        assert np.sign(round(np.log(budget.beta / before), 9)) == moves
    with pytest.raises(ValueError, match=r"'val_accuracy' is not in the logs.*accuracy"):
        budget.on_epoch_end(8, {"ebops": 1, "luts": 1, "bits": 1.0, "accuracy": 0.9})


def test_a_budget_knows_which_metrics_fall():
    for arguments, moves in ((dict(metric="val_mae"), -1), (dict(metric="hits", mode="max"), 1)):
        budget = Budget(goal=0.1, **arguments)
        steer(budget, falling, 0, length=100)
        before = budget.beta
        budget.on_epoch_end(5, {"ebops": 1, "luts": 1, "bits": 1.0, arguments["metric"]: 0.5})
        assert np.sign(np.log(budget.beta / before)) == moves
    with pytest.raises(ValueError, match="Budget: whether metric 'hits' is better"):
        Budget(metric="hits", goal=1)


def test_a_budget_stops_where_widths_are_held():
    budget, made = Budget(1200, until=1.0), model()
    steer(budget, falling, 3, made, length=100)
    hold_widths(made)
    betas, _ = steer(budget, falling, 9, made, first=3, length=100)
    assert len(set(betas)) == 1


def test_a_resumed_budget_goes_on_as_if_nothing_had_happened():
    whole, _ = steer(Budget(1200), falling, 20)
    made = model()
    first, costs = steer(Budget(1200), falling, 8, made, length=20)
    assert first == whole[:8]
    budget, now = Budget(1200), costs[-1]
    budget.set_model(made)
    budget.set_params({"epochs": 20})
    budget.on_train_begin()
    for epoch in range(8, 20):
        budget.on_epoch_begin(epoch)
        assert budget.beta == whole[epoch]
        now = (now * falling(budget.beta)) ** 0.5
        budget.on_epoch_end(epoch, {"ebops": 1, "bits": 1.0, "luts": now})


BAD_BUDGETS = {
    "nothing": (dict(), "either a target"),
    "both": (dict(target=5, metric="accuracy", goal=1), "either a target"),
    "no goal": (dict(metric="accuracy"), "either a target"),
    "target": (dict(target=-5), "target=-5"),
    "beta": (dict(target=5, beta=1.0), "beta=1.0 must lie in bounds"),
    "until": (dict(target=5, until=2), "until=2"),
    "cost": (dict(target=5, cost="watts"), "cost='watts'"),
}


@pytest.mark.parametrize("case", BAD_BUDGETS)
def test_bad_budgets_are_named(case):
    arguments, message = BAD_BUDGETS[case]
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)


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
