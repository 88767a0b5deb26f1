"""Callbacks, calibration and wrap counts on small models."""

import csv
import json

import keras
import numpy as np
import pytest

from hgq.layers import QActivation, QDense
from hgq.quantizers import FracQuantizer
from hgq.resource import model_ebops
from hgq.training import BetaSchedule, EBOPs, ParetoFront, calibrate, copy_model, count_wraps, mean_bits
from hgq.training.progress import add_cost


def data(seed=0, samples=128):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (samples, 4)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def model():
    keras.utils.set_random_seed(5)
    made = keras.Sequential([keras.Input((4,)), QDense(6, "relu"), QDense(2)])
    made.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",  # compiling costs TensorFlow seconds a model
    )
    return made


def fit(made, *callbacks, epochs=6, **arguments):
    x, y = data()
    return made.fit(x, y, validation_data=data(1), epochs=epochs, verbose=0, callbacks=list(callbacks), **arguments)


# --- beta -----------------------------------------------------------------------------------------------------------


class Betas(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append([float(np.asarray(layer.beta.value)) for layer in self.model.layers])


def test_beta_ramps_in_the_logarithm_and_then_stays():
    betas = Betas()
    fit(model(), BetaSchedule(1e-6, 1e-4, ramp=0.5), betas, epochs=8)
    expected = [1e-6 * 100 ** (min(epoch, 4) / 4) for epoch in range(8)]
    assert [row[0] for row in betas.seen] == pytest.approx(expected)
    assert all(row[0] == row[1] for row in betas.seen)


def test_a_resumed_run_has_the_beta_of_its_epoch():
    betas = Betas()
    fit(model(), BetaSchedule(1e-6, 1e-4, ramp=0.5), betas, epochs=8, initial_epoch=3)
    assert betas.seen[0][0] == pytest.approx(1e-6 * 100**0.75)


def test_without_a_ramp_beta_is_the_end_value_at_once():
    assert BetaSchedule(1e-6, 1e-4, ramp=0, epochs=5).beta(0) == 1e-4


BAD_SCHEDULES = {
    "start": (dict(beta_start=0, beta_end=1), "beta_start=0"),
    "end": (dict(beta_start=1, beta_end=float("nan")), "beta_end=nan"),
    "ramp": (dict(beta_start=1, beta_end=1, ramp=2), "ramp=2"),
    "epochs": (dict(beta_start=1, beta_end=1, epochs=0), "epochs=0"),
}


@pytest.mark.parametrize("case", BAD_SCHEDULES)
def test_bad_schedules_are_named(case):
    arguments, message = BAD_SCHEDULES[case]
    with pytest.raises(ValueError, match=message):
        BetaSchedule(**arguments)


def test_a_model_without_quantised_layers_has_no_beta():
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    plain.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="no quantised layer"):
        fit(plain, BetaSchedule(1e-6, 1e-4))


# --- progress -------------------------------------------------------------------------------------------------------


def test_the_progress_bar_shows_loss_metric_ebops_and_bits(capsys):
    x, y = data()
    made = model()
    history = made.fit(x, y, epochs=2, verbose=2, callbacks=[EBOPs()])
    text = capsys.readouterr().out
    assert all(f"{name}:" in text for name in ("loss", "accuracy", "ebops", "bits"))
    assert history.history["ebops"][-1] == model_ebops(made)
    assert history.history["bits"][-1] == pytest.approx(mean_bits(made), abs=1e-3)


def test_an_epoch_that_was_no_training_is_named():
    made = model()  # whose ranges nothing has seen: layers were not told that it was training
    with pytest.raises(ValueError, match=r"none of its quantised layers was called.*give training on"):
        add_cost(made, {})


def test_mean_bits_by_hand():
    made = keras.Sequential([keras.Input((2,)), QActivation(input_quantizer=FracQuantizer(f0=0))])
    calibrate(made, np.array([[7.0, 0.0]], np.float32))
    assert mean_bits(made) == 1.5


# --- the front ------------------------------------------------------------------------------------------------------


def play(front, *rows):
    """What Keras would do over a run in which the epochs measured these logs."""
    front.set_model(model())
    front.on_train_begin()
    for epoch, logs in enumerate(rows):
        front.on_epoch_end(epoch, {"loss": 1.0, "bits": 1.0, "luts": 7} | logs)
    front.on_train_end()
    return front


def front_after(folder, *rows, **arguments):
    return play(ParetoFront(folder, **arguments), *({"val_accuracy": v, "ebops": e} for v, e in rows))


def test_exactly_the_front_is_kept(tmp_path):
    front = front_after(tmp_path, (0.5, 100), (0.7, 200), (0.7, 200), (0.6, 300), (0.7, 150), (0.9, 900))
    assert [(p["metric"], p["ebops"]) for p in front.points] == [(0.5, 100), (0.7, 150), (0.9, 900)]
    assert {p.name for p in tmp_path.iterdir()} == {
        "front.json", "front.csv", "best.keras", *(p["file"] for p in front.points)
    }  # fmt: skip
    table = json.loads((tmp_path / "front.json").read_text())
    assert table["points"] == front.points and table["metric"] == "val_accuracy"
    rows = list(csv.DictReader((tmp_path / "front.csv").open()))
    assert [(float(r["metric"]), int(r["ebops"]), r["file"]) for r in rows] == [
        (p["metric"], p["ebops"], p["file"]) for p in front.points
    ]


def test_best_is_the_cheapest_within_the_tolerance(tmp_path):
    rows = (0.90, 100), (0.955, 200), (0.96, 300), (0.964, 900)
    front = front_after(tmp_path, *rows)
    assert front.best["ebops"] == 200
    assert (tmp_path / "best.keras").read_bytes() == (tmp_path / front.best["file"]).read_bytes()
    assert front_after(tmp_path / "strict", *rows, tolerance=0.0).best["ebops"] == 900


def test_for_losses_lower_is_better_and_the_tolerance_is_relative(tmp_path):
    rows = [(2.0, 500), (2.1, 300), (2.3, 200), (2.4, 250)]
    front = play(
        ParetoFront(tmp_path, metric="val_loss", tolerance=0.1), *({"val_loss": v, "ebops": e} for v, e in rows)
    )
    assert [p["ebops"] for p in front.points] == [200, 300, 500]
    assert front.best["ebops"] == 300


FALLING = {
    "val_categorical_crossentropy": True,
    "val_rmse": True,
    "val_mean_absolute_error_1": True,
    "val_out_mae": True,
    "val_kl_divergence": True,
    "val_accuracy": False,
    "val_out_sparse_top_k_categorical_accuracy": False,
    "val_auc_1": False,
    "val_mean_io_u": False,
    "val_f1_score": False,
}


@pytest.mark.parametrize("metric", FALLING)
def test_a_front_knows_which_metrics_fall(tmp_path, metric):
    front = play(ParetoFront(tmp_path), {"val_loss": 1.0, metric: 0.9, "ebops": 5}, {metric: 0.3, "ebops": 5})
    assert front.best["metric"] == (0.3 if FALLING[metric] else 0.9)


def test_a_metric_whose_direction_nobody_knows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="whether metric 'val_hits' is better"):
        play(ParetoFront(tmp_path / "a"), {"val_hits": 1.0, "ebops": 5})
    play(ParetoFront(tmp_path, mode="max"), {"val_hits": 1.0, "ebops": 5})
    with pytest.raises(ValueError, match="holds a front of the max of val_hits, not of the min"):
        play(ParetoFront(tmp_path, mode="min"), {"val_hits": 1.0, "ebops": 5})


def test_a_front_goes_on_where_it_stopped(tmp_path):
    front_after(tmp_path, (0.5, 100), (0.7, 200))
    (tmp_path / ".new-front.json").write_text("half a table")
    front = front_after(tmp_path, (0.4, 100), (0.8, 150))
    assert [(p["metric"], p["ebops"]) for p in front.points] == [(0.5, 100), (0.8, 150)]
    assert sorted(p.name for p in tmp_path.glob("epoch*.keras")) == sorted(p["file"] for p in front.points)
    assert not list(tmp_path.glob(".new-*"))


def test_a_checkpoint_that_someone_removed_leaves_the_front(tmp_path):
    first = front_after(tmp_path, (0.5, 100), (0.7, 200))
    (tmp_path / first.points[0]["file"]).unlink()
    assert [p["ebops"] for p in front_after(tmp_path, (0.6, 150)).points] == [150, 200]


def test_a_front_has_the_cost_that_a_later_callback_presses_on(tmp_path):
    front = ParetoFront(tmp_path)
    fit(model(), front, BetaSchedule(1e-5, 1e-4, cost="luts"), epochs=2)
    assert front.cost == "luts"
    with pytest.raises(ValueError, match="holds a front of luts, not of ebops"):
        fit(model(), ParetoFront(tmp_path), BetaSchedule(1e-5, 1e-4, cost="ebops"), epochs=2)


def test_a_folder_with_another_front_json_is_named(tmp_path):
    for text in ("{oops", "[]", '{"points": []}'):
        (tmp_path / "front.json").write_text(text)
        with pytest.raises(ValueError, match=r"front\.json is no table of a front.*another folder"):
            front_after(tmp_path, (0.5, 100))


def test_a_front_of_another_model_or_metric_is_refused(tmp_path):
    front_after(tmp_path, (0.5, 100))
    other = keras.Sequential([keras.Input((4,)), QDense(2)])
    front = ParetoFront(tmp_path)
    front.set_model(other)
    with pytest.raises(ValueError, match="front of another model"):
        front.on_train_begin()
    with pytest.raises(ValueError, match="front of val_accuracy, not of val_loss"):
        play(ParetoFront(tmp_path, metric="val_loss"), {"val_loss": 1.0, "ebops": 5})


def test_the_front_of_a_real_run_loads_and_agrees_with_its_table(tmp_path):
    made = model()
    x, _ = data()
    front = ParetoFront(tmp_path, calibrate=x)
    fit(made, BetaSchedule(1e-5, 1e-2), front, epochs=10)
    assert front.metric == "val_accuracy" and front.mode == "max"
    for point in front.points:
        kept = keras.models.load_model(tmp_path / point["file"])
        assert model_ebops(kept) == point["ebops"]
        assert kept.evaluate(*data(1), verbose=0)[1] == pytest.approx(point["metric"], abs=1e-6)
        calibrate(kept, x)
        assert model_ebops(kept) == point["ebops"]
    keras.models.load_model(tmp_path / "best.keras")


def test_a_metric_that_is_not_measured_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'val_auc' is not in the logs.*val_accuracy"):
        play(ParetoFront(tmp_path, metric="val_auc"), {"val_accuracy": 1.0, "ebops": 5})


def test_a_validation_that_begins_later_takes_the_place_of_training_metrics(tmp_path):
    seen = {"accuracy": 0.9, "ebops": 50}
    rows = seen, seen | {"val_accuracy": 0.6, "ebops": 60}, seen | {"ebops": 10}, seen | {"val_accuracy": 0.8}
    front = play(ParetoFront(tmp_path), *rows)
    assert front.metric == "val_accuracy" and front.mode == "max"
    assert [(p["epoch"], p["metric"], p["ebops"]) for p in front.points] == [(3, 0.8, 50)]
    assert [p.name for p in tmp_path.glob("epoch*")] == [front.points[0]["file"]]
    assert (tmp_path / "best.keras").read_bytes() == (tmp_path / front.points[0]["file"]).read_bytes()


def test_a_resumed_run_that_validates_later_waits_for_it(tmp_path):
    play(ParetoFront(tmp_path), {"accuracy": 0.8, "val_accuracy": 0.5, "ebops": 9})
    later = {"accuracy": 0.9, "ebops": 7}
    front = play(ParetoFront(tmp_path), later, later | {"val_accuracy": 0.6, "ebops": 8})
    assert [(p["metric"], p["ebops"]) for p in front.points] == [(0.6, 8)]


def test_bad_front_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="mode='up'"):
        ParetoFront(tmp_path, mode="up")
    with pytest.raises(ValueError, match="tolerance=-1"):
        ParetoFront(tmp_path, tolerance=-1)


# --- ranges on data -------------------------------------------------------------------------------------------------


def test_calibration_forgets_and_finds_ranges():
    made = model()
    x, _ = data()
    calibrate(made, 100 * x)
    wide = made.layers[0].input_quantizer.types((4,))
    assert calibrate(made, x, batch_size=50) == 128
    narrow = made.layers[0].input_quantizer.types((4,))
    assert (narrow.width < wide.width).all()
    assert set(count_wraps(made, x).values()) == {(0, 0)}
    calibrate(made, x, batch_size=7)
    assert made.layers[0].input_quantizer.types((4,)) == narrow


def test_wraps_are_counted_by_sample_and_element():
    quantizer = FracQuantizer(f0=0)
    made = keras.Sequential([keras.Input((3,)), QActivation(input_quantizer=quantizer, name="q")])
    calibrate(made, np.array([[3, 3, -4]], np.float32))
    x = np.array([[3, 3, 3], [4, -1, 0], [4, 0, -5], [3.4, 0, -4.5]], np.float32)
    # Sample 1 wraps twice, sample 2 twice; 3.4 and -4.5 round into the range.
    assert count_wraps(made, x, batch_size=3) == {made.layers[0].input_quantizer.path: (2, 4)}


def test_calibration_finds_the_ranges_that_inference_meets():
    made = model()
    fit(made, epochs=2)
    x, _ = data(9)
    calibrate(made, x)
    free = [layer.input_quantizer for layer in made.layers]
    assert all(q.range_known for q in free)
    assert set(count_wraps(made, x).values()) == {(0, 0)}
    assert sum(samples for samples, _ in count_wraps(made, 50 * x).values()) > 0


def test_calibration_leaves_no_trace_when_it_fails():
    made = model()
    calibrate(made, data()[0])
    ranges = [np.array(v) for v in made.non_trainable_variables]
    with pytest.raises(ValueError, match=r"nan at index \(1, 2\)"):
        calibrate(made, np.array([[0, 0, 0, 0], [0, 0, np.nan, 0]], np.float32))
    with pytest.raises(ValueError, match="samples"):
        calibrate(made, np.zeros((0, 4), np.float32))
    with pytest.raises(Exception, match=r"."):
        calibrate(made, np.zeros((3, 5), np.float32))
    assert not any(layer.input_quantizer.calibrating for layer in made.layers)
    assert all((a == np.array(b)).all() for a, b in zip(ranges, made.non_trainable_variables, strict=True))


def test_several_inputs_are_sliced_together():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    made = keras.Model({"a": a, "b": b}, QDense(2)(keras.layers.Concatenate()([a, b])))
    x = {"a": data()[0][:, :2], "b": data()[0][:, 2:]}
    assert calibrate(made, x, batch_size=100) == 128
    with pytest.raises(ValueError, match=r"\[64, 128\] samples"):
        calibrate(made, x | {"b": x["b"][:64]})
    for no_array, kind in (
        (iter([x]), "iterator"),
        ({"a": x["a"], "b": [[1.0, 2.0]]}, "float"),
        (np.float32(1), "float"),
    ):
        with pytest.raises(ValueError, match=f"has a .*{kind}.*, which is no array of samples"):
            ParetoFront("nowhere", calibrate=no_array)


def test_a_copy_is_independent_and_equal():
    made = model()
    x, _ = data()
    calibrate(made, x)
    twin = copy_model(made)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in made.layers]
    assert (twin.predict(x, verbose=0) == made.predict(x, verbose=0)).all()
    calibrate(twin, 10 * x)
    assert model_ebops(twin) > model_ebops(made)
