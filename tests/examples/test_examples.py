"""Each example runs from its data to a verified project, on a few samples; and says what is wrong with its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in ("datasets", "steps"))


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    env["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)])
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def made_up(tmp_path: Path) -> dict[str, Path]:
    """Files of the form that the examples take, with random content."""
    rng = np.random.default_rng(7)
    files = {"jets": tmp_path / "jets.npz", "mnist": tmp_path / "mnist.npz"}
    files |= dict.fromkeys(["mnist_conv", "fashion_conv", "autoencoder"], files["mnist"])
    files |= dict.fromkeys(["jets_attention", "jets_mass"], files["jets"])
    labels = np.arange(400) % 5
    np.savez(files["jets"], x=rng.normal(labels[:, None], 1.0, (400, 16)), y=labels)
    images = rng.integers(0, 256, (300, 28, 28), dtype=np.uint8) * (rng.random((1, 28, 28)) < 0.2).astype(np.uint8)
    classes = np.arange(300) % 10
    np.savez(files["mnist"], x_train=images, y_train=classes, x_test=images[:90], y_test=classes[:90])
    return files


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.hls
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_trains_converts_and_verifies(name: str, made_up: dict[str, Path], tmp_path: Path) -> None:
    file = ["--file", str(made_up[name])] if name in made_up else []
    done = run([str(EXAMPLES / f"{name}.py"), "--quick", "--out", str(tmp_path / "out"), *file])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    judged = "test reconstruction error" if name == "autoencoder" else "test accuracy"
    assert judged in done.stdout and "0 differences" in done.stdout
    report = json.loads((tmp_path / "out/project/report.json").read_text())
    assert set(report["verification"]["engines"]) == {
        "Keras",
        "hls4ml C simulation",
        "Verilog (Verilator)",
        "Verilog (cocotb protocol)",
    }
    if name == "digits":
        assert report["verification"]["data"] == 1797


def load(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(["-c", f"import datasets, numpy as np\n{code}"], **environment)


def test_the_digits_are_split_once_with_no_sample_in_two_parts() -> None:
    done = load(
        "d = datasets.digits()\n"
        "parts = [{row.tobytes() for row in x} for x in (d.x_train, d.x_val, d.x_test)]\n"
        "print(len(d.everything()), *map(len, parts), len(set.union(*parts)))\n"
    )
    assert done.stdout.split() == ["1797", "1149", "288", "360", "1797"], done.stderr


def test_jets_of_a_file_are_scaled_by_their_training_part(made_up: dict[str, Path]) -> None:
    done = load(
        f"d = datasets.jets({str(made_up['jets'])!r})\n"
        "print(len(d.x_train), len(d.x_val), len(d.x_test), np.abs(d.x_train.mean(0)).max() < 1e-5,\n"
        "      np.abs(d.x_train.std(0) - 1).max() < 1e-5, np.abs(d.x_test.mean(0)).max() < 1e-5)\n"
    )
    assert done.stdout.split() == ["256", "64", "80", "True", "True", "False"], done.stderr


def test_mnist_pixels_are_exact_in_binary(made_up: dict[str, Path], tmp_path: Path) -> None:
    done = load(
        "d = datasets.mnist()\n"
        "print(d.x_train.shape, d.x_val.shape, d.x_test.shape, (d.x_test * 1024 % 1 == 0).all())\n",
        HGQ_DATA=str(tmp_path),
    )
    assert done.stdout.strip() == "(270, 196) (30, 196) (90, 196) True", done.stderr


BAD = {
    "no file": ("datasets.jets('gone.npz')", "", "gone.npz: there is no such file"),
    "no such folder": ("datasets.mnist()", "/nowhere/data", "HGQ_DATA=/nowhere/data: there is no such folder"),
    "file not in folder": ("datasets.jets()", ".", "jsc_surrogate.npz: there is no such file"),
    "other arrays": ("np.savez('other.npz', a=1); datasets.jets('other.npz')", "", "holds no x, y; it holds a"),
}


@pytest.mark.parametrize("name", BAD)
def test_missing_data_is_one_line_that_names_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, folder, message = BAD[name]
    done = load(code, HGQ_DATA=folder)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_without_network_the_way_out_is_named(tmp_path: Path) -> None:
    # An unreachable proxy stands for a missing network.
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = load("datasets.mnist()", HGQ_DATA="", KERAS_HOME=str(tmp_path), **nowhere)
    assert done.returncode == 1
    assert "--file mnist.npz" in done.stderr and "HGQ_DATA" in done.stderr and "Traceback" not in done.stderr
