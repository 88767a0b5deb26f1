"""The commands on a real model: exit code 0 for equal, 1 for a difference, 2 for what the user must change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    code = f"import hgq_fpga; hgq_fpga.{command}()"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("TF_CPP_MIN_LOG_LEVEL", None)
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, data for it, and the project that hgq-convert makes of them."""
    import keras

    from hgq.layers import QDense

    folder = tmp_path_factory.mktemp("commands")
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), QDense(3, activation="relu"), QDense(2)], name="small")
    model.save(folder / "small.keras")
    rng = np.random.default_rng(3)
    np.save(folder / "x.npy", rng.normal(size=(60, 4)))
    np.save(folder / "wide.npy", rng.normal(size=(60, 5)))
    np.savez(folder / "sets.npz", a=rng.normal(size=(50, 4)), b=rng.normal(size=(40, 4)))
    done = run(
        "convert",
        folder / "small.keras",
        folder / "project",
        *("--calibrate", f"{folder}/x.npy", "--verify", f"{folder}/sets.npz:a", "--clock-ns", 2),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "0 differences" in done.stdout and "50 data samples" in done.stdout
    assert str(folder / "project/report.json") in done.stdout
    return folder


@pytest.mark.rtl
@pytest.mark.hls
def test_simulate_repeats_the_comparison_on_other_data(folder: Path) -> None:
    done = run("simulate", folder / "project", "--data", f"{folder}/sets.npz:b", "--engine", "verilator")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "0 differences over 40 data samples and 100,000 corner vectors" in done.stdout


@pytest.mark.rtl
@pytest.mark.hls
def test_a_changed_sign_in_the_verilog_exits_1_and_names_the_layer(folder: Path) -> None:
    files = {path: path.read_text() for path in sorted((folder / "project/rtl").glob("*.v"))}
    path, text = next((path, text) for path, text in files.items() if "endmodule" in text and " + " in text)
    path.write_text(text.replace(" + ", " - ", 1))
    try:
        done = run("simulate", folder / "project", "--engine", "verilator")
    finally:
        path.write_text(text)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "q_dense" in done.stderr and "expected" in done.stderr and "Traceback" not in done.stderr


BAD = {
    "a wrong shape": (["small.keras", "other", "--verify", "wide.npy"], ["(60, 5)", "(samples, 4)"]),
    "no model": (["x.npy", "other"], ["x.npy"]),
    "a folder of something else": (["small.keras", "."], ["holds no hgq project"]),
    "a type": (["small.keras", "other", "--input-type", "s16"], ["'s16'", "s16f8"]),
    "a clock": (["small.keras", "other", "--clock-ns", "0"], ["clock"]),
    "no range": (["small.keras", "other"], ["alibrat"]),
}


@pytest.mark.rtl
@pytest.mark.hls
@pytest.mark.parametrize("name", BAD)
def test_what_a_user_must_change_exits_2_with_one_message(folder: Path, name: str) -> None:
    arguments, facts = BAD[name]
    places = [folder / text if (folder / text).exists() or text == "other" else text for text in arguments]
    done = run("convert", *places)
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(fact in done.stderr for fact in facts), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (folder / "other").exists()
