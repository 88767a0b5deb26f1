"""hgq-quantize: what it refuses before it starts, and one model through it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import hgq
from hgq.cli import quantize_command
from hgq.fixed import FixedType
from hgq.frontend import read_model


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    given = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(3, use_bias=False, name="first")(given))
    model = keras.Model(given, keras.layers.Dense(2, activation="softmax", name="last")(keras.layers.ReLU()(x)))
    model.save("float.keras")
    np.save("x.npy", np.eye(4))
    np.save("y.npy", np.zeros((40, 3)))
    np.save("classes.npy", np.array([0, 1, 0, 1]))
    np.save("nan.npy", np.where(np.arange(16).reshape(4, 4) == 9, np.nan, np.eye(4)))
    Path("other.json").write_text('{"first": {"w": 3, "a": 6}, "last": {"w": 4, "a": 5}, "middle": {"w": 4, "a": 5}}')
    Path("policy.json").write_text('{"first": {"w": 3, "a": 6}, "last": {"w": 4, "a": 5}}')
    return tmp_path


def quantize(*arguments: str, model: str = "float.keras", out: str = "out.keras") -> Result:
    return CliRunner().invoke(quantize_command.app, [model, out, *arguments], prog_name="hgq-quantize")


REX = ("--method", "rex", "--input-range", "0:1", "--drop-softmax")
MRECG = ("--method", "mrecg", "--data", "x.npy", "--drop-softmax")


def test_a_model_is_quantised_saved_whole_and_summed_up(folder: Path) -> None:
    done = quantize(*REX, "--bits", "3", "--orders", "1", "--activation-bits", "6")
    assert done.exit_code == 0, done.output
    assert "first (QDense)" in done.stdout and "model: out.keras" in done.stdout
    model = hgq.load("out.keras")
    assert f"{hgq.resource.model_ebops(model):,}" in done.stdout
    assert sorted(path.name for path in folder.glob("*.keras")) == ["float.keras", "out.keras"]
    assert not list(folder.glob(".*"))
    done = quantize(*REX, "--policy", "policy.json", out="policy.keras")
    assert done.exit_code == 0, done.output
    assert hgq.load("policy.keras").get_layer("last").input_quantizer.types((3,)).width.max() == 5


SMART = ("--method", "smart", "--data", "x.npy", "--labels", "y.npy", "--drop-softmax")


GMPQ = ("--method", "gmpq", "--data", "x.npy", "--labels", "classes.npy", "--drop-softmax")


def test_smart_trains_on_labelled_data(folder: Path) -> None:
    np.save("y.npy", np.array([0, 1, 0, 1]))
    done = quantize(*SMART, "--depth", "binary", "--epochs", "1")
    assert done.exit_code == 0, done.output
    assert "first: binary, 0% zeros, 12 bits" in done.stdout and "memory: 18 bits for 18 weights" in done.stdout
    kernel, _ = hgq.load("out.keras").get_layer("first").constants()["kernel"]
    assert len(set(np.abs(kernel).ravel().tolist())) == 1


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, str], list[str]]] = {
    "no range": (("--method", "rex", "--bits", "3"), {}, ["needs --input-range", "0:1"]),
    "data": ((*REX, "--bits", "3", "--data", "x.npy"), {}, ["--data is of no use to --method rex"]),
    "both": ((*REX, "--bits", "3", "--budget-ebops", "9"), {}, ["--bits and --budget-ebops contradict"]),
    "neither": (REX, {}, ["--bits 4 or --budget-ebops"]),
    "a budget too small": ((*REX, "--budget-ebops", "3"), {}, ["budget of 3 EBOPs is below"]),
    "range": (("--method", "rex", "--bits", "3", "--input-range", "1:0"), {}, ["--input-range 1:0"]),
    "range words": (("--method", "rex", "--bits", "3", "--input-range", "all"), {}, ["--input-range all", "LO:HI"]),
    "no labels": (("--method", "smart", "--data", "x.npy"), {}, ["needs --labels", "--labels y.npy"]),
    "no such labels": ((*SMART[:-2], "policy.npy"), {}, ["--labels policy.npy", "no such file"]),
    "softmax": (("--method", "rex", "--bits", "3", "--input-range", "0:1"), {}, ["'last'", "--drop-softmax"]),
    "no model": ((*REX, "--bits", "3"), {"model": "nowhere.keras"}, ["nowhere.keras", "no such file"]),
    "no Keras file": ((*REX, "--bits", "3"), {"model": "x.npy"}, ["x.npy"]),
    "another ending": ((*REX, "--bits", "3"), {"out": "out.h5"}, ["out.h5", "out.keras"]),
    "itself": ((*REX, "--bits", "3"), {"out": "float.keras"}, ["float.keras", "another name"]),
    "no folder": ((*REX, "--bits", "3"), {"out": "no/where.keras"}, ["there is no folder"]),
    "no samples": ((*MRECG[:2], "--bits", "3"), {}, ["needs --data", "x.npy"]),
    "few samples": ((*MRECG, "--bits", "3"), {}, ["4 samples are less than one batch of 32"]),
    "orders of a budget": ((*REX, "--budget-ebops", "99", "--orders", "3"), {}, ["orders=3", "leave orders out"]),
    "inputs of a policy": (
        (*MRECG, "--policy", "policy.json", "--activation-bits", "6"),
        {},
        ["activation_bits=6", "leave it out"],
    ),
    "a search with a policy": (
        (
            "--method",
            "gmpq",
            "--data",
            "x.npy",
            "--labels",
            "x.npy",
            "--drop-softmax",
            "--policy",
            "policy.json",
            "--eta",
            "5",
        ),
        {},
        ["eta=5 is for the search"],
    ),
    "a budget": ((*MRECG, "--budget-ebops", "99"), {}, ["--budget-ebops is of no use to --method mrecg"]),
    "ends": ((*MRECG, "--ends", "all"), {}, ["--ends all", "2 to 24, or same"]),
    "ends of a policy": ((*MRECG, "--ends", "4", "--policy", "policy.json"), {}, ["--ends and --policy contradict"]),
    "a policy of another model": (
        (*GMPQ, "--policy", "other.json"),
        {},
        ["policy: names 'middle'", "the model's layers are first, last"],
    ),
    "other layers": ((*REX, "--policy", "x.npy"), {}, ["policy x.npy"]),
    "other shape": ((*MRECG[:3], "y.npy", "--drop-softmax"), {}, ["has shape (40, 3); the model takes (samples, 4)"]),
    "NaN": ((*SMART[:3], "nan.npy", *SMART[4:]), {}, ["holds nan at index (2, 1)"]),
    "labels with NaN": (
        ("--method", "gmpq", "--data", "x.npy", "--labels", "nan.npy", "--drop-softmax"),
        {},
        ["labels hold nan at index (2, 1)"],
    ),
    "bits of no candidate": (
        ("--method", "gmpq", "--data", "x.npy", "--labels", "x.npy", "--bits", "8", "--drop-softmax"),
        {},
        ["bits=8", "2, 3, 4, 6 bits", "Fix: give one of these"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nonsense_is_one_clear_error(case: str, folder: Path) -> None:
    arguments, files, named = REFUSED[case]
    before = (folder / "float.keras").read_bytes()
    done = quantize(*arguments, **files)
    assert done.exit_code == 2
    assert all(words in done.stderr for words in named), done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out.keras").exists() and (folder / "float.keras").read_bytes() == before


def _sequential(*layers: keras.Layer, name: str = "net") -> keras.Model:
    return keras.Sequential([keras.Input((4,)), *layers], name=name)


def _of_two_inputs() -> keras.Model:
    given = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    return keras.Model(given, keras.layers.Dense(2)(keras.layers.Add()(given)))


def _with_nan() -> keras.Model:
    net = _sequential(keras.layers.Dense(2, name="broken"))
    net.set_weights([np.full((4, 2), np.nan), np.zeros(2)])
    return net


NO_METHOD_FOR: dict[str, tuple[Callable[[], keras.Model], tuple[str, ...], list[str]]] = {
    "a model within": (
        lambda: _sequential(_sequential(keras.layers.Dense(3), name="inner"), keras.layers.Dense(2)),
        (*REX[:-1], "--bits", "3"),
        ["'inner': a model within the model", "Fix: call the layers of model.get_layer('inner') in its place"],
    ),
    "no weights": (
        lambda: _sequential(keras.layers.ReLU(), name="bare"),
        (*REX[:-1], "--bits", "3"),
        ["'bare': it has no layer with weights", "Dense, Conv1D"],
    ),
    "NaN": (_with_nan, ("--method", "mrecg", "--data", "x.npy"), ["Dense 'broken': its kernel holds NaN"]),
    "two inputs": (
        _of_two_inputs,
        ("--method", "mrecg", "--data", "x.npy"),
        ["it has the inputs a, b, and mrecg takes models of one", "the method rex"],
    ),
}


def test_what_cannot_be_converted_is_refused_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = keras.Input((4,))
    gated = keras.layers.Multiply(name="gated")([keras.layers.Dense(3)(given), keras.layers.Dense(3)(given)])
    keras.Model(given, keras.layers.Dense(2)(gated)).save("gated.keras")
    np.save("y.npy", np.array([0, 1, 0, 1]))
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trains"))
    for method in ("smart", "gmpq"):
        done = quantize("--method", method, "--data", "x.npy", "--labels", "y.npy", model="gated.keras")
        assert done.exit_code == 2 and "Multiply 'gated': it multiplies an accumulator" in done.stderr, done.stderr


@pytest.mark.parametrize("case", NO_METHOD_FOR)
def test_a_model_that_no_method_can_take_is_refused_with_what_to_do(case: str, folder: Path) -> None:
    make, arguments, named = NO_METHOD_FOR[case]
    make().save("made.keras")
    done = quantize(*arguments, model="made.keras")
    assert done.exit_code == 2
    assert all(words in done.stderr for words in named), done.stderr


def test_a_result_of_ours_is_not_quantised_again(folder: Path) -> None:
    assert quantize(*REX, "--bits", "3").exit_code == 0
    done = quantize(*REX, "--bits", "3", model="out.keras", out="again.keras")
    assert done.exit_code == 2 and "quantised already" in done.stderr


def test_what_fails_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    done = quantize(*REX, "--bits", "3")
    assert done.exit_code == 2
    assert "out.keras: no space is left on the disk\n  Fix: free some" in done.stderr
    assert not (folder / "out.keras").exists() and not list(folder.glob(".out*"))


def test_a_model_that_pools_its_input_is_made_and_its_summary_says_what_converting_needs(folder: Path) -> None:
    layers = keras.layers
    given = keras.Input((4, 2)), keras.Input((2, 2))
    both = layers.Concatenate()([layers.MaxPooling1D(2)(given[0]), given[1]])
    keras.Model(given, layers.Dense(3)(layers.Flatten()(both))).save("pooled.keras")
    done = quantize(*REX[:-1], "--bits", "3", model="pooled.keras")
    assert done.exit_code == 0, done.output
    assert "hgq-convert needs its type, as in --input-type u8f8" in done.stdout
    assert read_model(hgq.load("out.keras"), FixedType.parse("u8f8")).outputs


def test_samples_decide_the_rounding_and_a_policy_the_widths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hgq.methods import mrecg

    whole = mrecg.reconstruct
    monkeypatch.setattr(mrecg, "reconstruct", lambda *a: whole(*a[:3], replace(a[3], steps=5), *a[4:]))
    np.save("x.npy", np.random.default_rng(0).uniform(size=(64, 4)))
    done = quantize(*MRECG, "--policy", "policy.json")
    assert done.exit_code == 0, done.output
    assert "calibration samples: 64" in done.stdout and "oscillation: " in done.stdout
    made = hgq.load("out.keras")
    assert made.get_layer("first").constants()["kernel"][1].width.max() == 3
    for ends, width in (("same", 3), ("6", 6)):
        done = quantize(*MRECG, "--bits", "3", "--ends", ends)
        assert done.exit_code == 0, done.output
        alike = hgq.load("out.keras").get_layer("last")
        assert alike.constants()["kernel"][1].width.max() == width
    assert made.get_layer("last").input_quantizer.types((3,)).width.max() == 5


def test_a_seed_makes_the_same_model_again(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.uniform(size=(600, 4)))  # more than one batch
    np.save("y.npy", rng.integers(0, 2, 600))

    def kernel(*seed: str) -> bytes:
        keras.utils.set_random_seed(99)  # of no influence
        done = quantize(*SMART, "--epochs", "2", *seed)
        assert done.exit_code == 0, done.output
        layer = hgq.load("out.keras").get_layer("first")
        return b"".join(np.asarray(keras.ops.convert_to_numpy(variable)).tobytes() for variable in layer.variables)

    assert kernel() == kernel("--seed", "0") != kernel("--seed", "1")


@pytest.mark.parametrize("name", ["losses.svg", "losses.png"])
def test_the_losses_of_units_are_drawn(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hgq.methods import mrecg

    whole = mrecg.reconstruct
    monkeypatch.setattr(mrecg, "reconstruct", lambda *a: whole(*a[:3], replace(a[3], steps=5), *a[4:]))
    np.save("x.npy", np.random.default_rng(0).uniform(size=(64, 4)))
    done = quantize(*MRECG, "--bits", "3", "--seed", "5", "--losses", name)
    assert done.exit_code == 0, done.output
    assert f"losses: {name}" in done.stdout
    drawn = Path(name).read_bytes()
    if name.endswith(".svg"):
        assert b"reconstruction loss of the unit" in drawn and b"rounded to nearest: largest" in drawn
    else:
        assert drawn.startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (("losses.txt", "end in .svg, .png or .pdf"), ("no/losses.svg", "there is no folder no")):
        done = quantize(*MRECG, "--bits", "3", "--losses", name)
        assert done.exit_code == 2 and said in done.stderr, done.stderr
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    done = quantize(*MRECG, "--bits", "3", "--losses", "losses.svg")
    assert done.exit_code == 2 and "pip install 'hgq-fpga[plot]'" in done.stderr
    assert not Path("out.keras").exists()
