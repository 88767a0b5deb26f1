"""`refine` as users call it."""

from __future__ import annotations

import importlib
import random

import keras
import numpy as np
import pytest

from hgq.frontend import read_model
from hgq.layers import QDense, QFunction
from hgq.quantizers import FracQuantizer
from hgq.refinement.targets import Target, make_targets
from hgq.refinement.tuning import tuned
from hgq.resource import priced_layers
from hgq.training import calibrate, refine
from tests.refinement.models import made


@pytest.fixture(scope="module")
def net():
    model, x = made("dense", samples=900)
    return model, next(iter(x.values()))


def test_fewer_luts_at_no_more_loss_the_model_itself_untouched_and_the_same_every_time(net) -> None:
    model, x = net
    before = [np.copy(w) for w in model.get_weights()]
    first, second = (refine(model, x, lam=2e-3, sweeps=2) for _ in range(2))
    assert first.cost[1] < 0.9 * first.cost[0]
    refined = [np.copy(w) for w in first.model.get_weights()]
    assert all(np.array_equal(a, b) for a, b in zip(refined, second.model.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    # Keras' own loss of Keras' own predictions is that of the integers, but for float32.
    assert first.keras_losses == pytest.approx((first.losses[0][2], first.losses[1][2]), rel=1e-4)
    assert first.losses[1][2] + 2e-3 * first.cost[1] < first.losses[0][2] + 2e-3 * first.cost[0]
    assert sum(first.kept.values()) and "remove weight" in first.tried
    assert "LUTs" in str(first) and "kept low: crossentropy of 'q_dense" in str(first)


def test_the_default_saves_luts_within_the_loss_and_a_number_of_luts_is_reached(net) -> None:
    model, x = net
    teacher = np.random.default_rng(1).dirichlet(np.ones(3), len(x))
    found = refine(model, x, teacher)
    assert found.cost[1] < found.cost[0] and found.losses[1][2] <= found.losses[0][2]
    less = refine(model, x, teacher, target_luts=0.6 * found.luts[0])
    assert less.cost[1] <= 0.6 * found.luts[0]


def test_labels_of_other_samples_are_noted(net) -> None:
    model, x = net
    logits = model.predict(x, verbose=0)
    for labels, noted in ((keras.ops.convert_to_numpy(keras.ops.softmax(logits)), False), (logits.argmin(1), True)):
        found = refine(model, x, labels, sweeps=1, lam=1e-4)
        assert ("are these the labels" in str(found)) is noted


def test_the_loss_of_one_answer_for_all_samples() -> None:
    values = np.array([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]], np.float32)
    entropy = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    expected = {"crossentropy": entropy, "binary_crossentropy": entropy, "mse": 3 / 16, "mae": 1 / 4}
    for loss, wanted in expected.items():
        assert Target(loss, values).guessed_loss() == pytest.approx(wanted)
        assert Target(loss, values).keras_loss(_constant(loss, values)) == pytest.approx(wanted)


def _constant(loss, values):
    """What gives each sample the same, best answer."""
    mean = np.median(values, 0) if loss == "mae" else values.mean(0)
    answer = {"crossentropy": np.log, "binary_crossentropy": lambda p: np.log(p / (1 - p))}.get(loss, np.copy)(mean)
    return np.broadcast_to(answer, values.shape)


def test_training_between_turns_keeps_the_prices_of_layers_of_one_name_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: None)
    x = keras.Input((3,), name="x")
    inner = [keras.Sequential([keras.Input((3,)), QDense(3, name="d", gamma=g)], name=f"m{g}") for g in (1, 2)]
    model = keras.Model(x, inner[1](inner[0](x)))
    arrays = {"x": np.random.default_rng(0).normal(size=(32, 3)).astype("float32")}
    calibrate(model, arrays["x"])
    targets = [Target("mse", arrays["x"], "y")]
    assert [layer.gamma for layer, _ in priced_layers(tuned(model, arrays, targets, 32, 1, 1e-3, 0))] == [1, 2]


def test_weights_of_outputs_are_not_left_out_in_silence() -> None:
    x = keras.Input((3,))
    model = keras.Model(x, [QDense(2)(x), QDense(2)(x)])
    calibrate(model, np.ones((1, 3)))
    given = model, read_model(model), None, None, [np.zeros((4, 2))] * 2, np.arange(4), 4
    model.compile(loss=["mse", "mae"], loss_weights=[1, 1])
    assert [target.loss for target in make_targets(*given)] == ["mse", "mae"]
    model.compile(loss=["mse", "mae"], loss_weights=[1, 0.5])
    with pytest.raises(ValueError, match=r"loss_weights=\[1, 0.5\], but here all outputs count alike"):
        make_targets(*given)


def test_labels_of_0_and_1_for_outputs_in_0_to_1_are_of_a_binary_crossentropy() -> None:
    whether = FracQuantizer(f0=4, overflow="SAT", granularity="tensor")
    model = keras.Sequential([keras.Input((3,)), QDense(2), QFunction("sigmoid", output_quantizer=whether)])
    calibrate(model, np.linspace(-2, 2, 60).reshape(20, 3))
    out, both = [np.full((4, 2), 0.5)], np.array([[1, 1], [0, 0], [1, 0], [0, 1]])
    for labels, kind in ((both, "binary_crossentropy_of_probabilities"), (both * 0.5, "mse")):
        (target,) = make_targets(model, read_model(model), labels, None, out, np.arange(4), 4)
        assert target.loss == kind


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_inputs_and_outputs_of_a_dict_go_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = keras.Input((3,), name="z"), keras.Input((2,), name="y")
    both = keras.layers.Add()([QDense(3)(long), QDense(3)(short)])
    model = keras.Model({"a": long, "b": short}, {"p": QDense(2, name="last")(both), "o": QDense(1)(both)})
    x = np.random.default_rng(0).normal(size=(320, 5))
    calibrate(model, {"a": x[:, :3], "b": x[:, 3:]})
    model.compile(loss={"p": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "o": "mae"})
    wanted = {"p": x[:, 0] > x[:, 1], "o": x[:, 3:4]}
    done = refine(model, {"z": x[:, :3], "y": x[:, 3:]}, wanted, lam=1e-2, sweeps=1)
    assert done.loss == {"p": "crossentropy", "o": "mae"}
    assert done.keras_losses == pytest.approx((done.losses[0][2], done.losses[1][2]), rel=1e-4)
    assert sum(done.kept.values()) and not done.left
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: None)
    targets = [Target("mae", x[:, None, :1], "o"), Target("mse", x[:, None, :2], "p")]
    tuned(model, {"z": x[:, :3], "y": x[:, 3:]}, targets, 320, 1, 1e-3, 0)
    with pytest.raises(ValueError, match="type complex128; give numbers"):
        refine(model, {"z": x[:, :3] + 1j, "y": x[:, 3:]})


def test_an_interruption_keeps_the_best_model_so_far(net) -> None:
    model, x = net
    sweeps: list[str] = []

    def stop_in_the_second_sweep(line: str) -> None:
        if line.startswith("lam"):
            sweeps.append(line)
        elif len(sweeps) == 1 and "moves" in line:
            raise KeyboardInterrupt

    found = refine(model, x, lam=2e-3, progress=stop_in_the_second_sweep)
    assert found.interrupted and "interrupted" in str(found)
    assert found.cost[1] < found.cost[0]


def test_an_interruption_of_the_training_between_rounds_keeps_the_round_before(
    net, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("hgq.refinement.refine"), "tuned", stop)
    model, x = net
    found = refine(model, x, lam=2e-3, sweeps=1, rounds=2)
    assert found.interrupted and found.cost[1] < found.cost[0]


def draws() -> list[float]:
    """The next numbers of each generator that is set by keras.utils.set_random_seed."""
    return [random.random(), np.random.rand(), float(keras.random.uniform(()))]


def test_training_between_two_rounds_is_taken_only_if_it_helps_and_leaves_generators_alone(net) -> None:
    model, x = net
    teacher = np.random.default_rng(1).dirichlet(np.ones(3), len(x))
    lines: list[str] = []
    keras.utils.set_random_seed(7)
    wanted = draws()
    keras.utils.set_random_seed(7)
    found = refine(model, x, teacher, lam=2e-3, sweeps=1, rounds=2, epochs=1, progress=lines.append)
    assert draws() == wanted
    assert any(line.startswith("round 2") for line in lines)
    once = refine(model, x, teacher, lam=2e-3, sweeps=1)
    assert found.losses[1][2] + 2e-3 * found.cost[1] <= once.losses[1][2] + 2e-3 * once.cost[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lam": 1e-4, "max_loss": 1.0}, "lam and max_loss at once"),
        ({"lam": -1.0}, "lam=-1"),
        ({"y": np.full(900, 7)}, r"labels of '.*' lie in 7..7, its outputs are 3 classes"),
        ({"y": np.zeros((900, 4))}, r"shape \(900, 4\) for 900 samples.*Fix: give 3 numbers"),
        ({"y": np.zeros(950)}, "950 labels of '.*' for 900 samples"),
        ({"y": np.ones((900, 3))}, "0 or 1, its outputs any numbers.*loss='binary_crossentropy' or loss='mse'"),
        (
            {"loss": keras.losses.SparseCategoricalCrossentropy(ignore_class=0)},
            "with ignore_class=0 of .* not",
        ),
        ({"loss": "hinge"}, "loss 'hinge'.* not supported"),
        ({"samples": 200}, "300 samples are the least"),
        ({"held_out": 1.0}, "held_out=1.0"),
        ({"rounds": 0}, "rounds=0"),
        ({"seed": -1}, "seed=-1; it must be 0 or more"),
        ({"held_out": 1e-3}, "900 would choose changes, 0 accept them and 0 say when to stop"),
        ({"held_out": 0.99}, "10 would choose changes"),
    ],
)
def test_what_does_not_fit_is_named(net, wrong: dict, message: str) -> None:
    model, x = net
    with pytest.raises(ValueError, match=message):
        refine(model, x, **wrong)
