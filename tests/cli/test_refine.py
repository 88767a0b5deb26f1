"""hgq-refine: what it refuses, and that a file appears whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hgq.cli import refine_command
from tests.refinement.models import made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refine")
    model, x = made("dense", samples=600)
    model.save(folder / "model.keras")
    (data,) = x.values()
    np.save(folder / "x.npy", data)
    np.save(folder / "y.npy", np.arange(600) % 3)
    np.save(folder / "short.npy", np.arange(20) % 3)
    return folder


def call(*arguments: object):
    return CliRunner().invoke(refine_command.app, [str(a) for a in arguments])


def test_a_refined_model_is_written_and_loads(files: Path) -> None:
    import hgq

    out = files / "out.keras"
    done = call(
        files / "model.keras", out, "--data", files / "x.npy", "--labels", files / "y.npy", "--lam", "1e-3", "--seed", 1
    )
    assert done.exit_code == 0, done.output
    assert "LUTs (estimate" in done.output and f"model: {out}" in done.output
    assert hgq.load(out).output_shape == (None, 3)
    assert sorted(p.name for p in files.glob("*.keras")) == ["model.keras", "out.keras"]
    assert not list(files.glob(".out*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.h5", "--data", "x.npy"], "out.h5: Keras saves models as .keras"),
        (["no/out.keras", "--data", "x.npy"], "no/out.keras: there is no folder"),
        (["model.keras", "--data", "x.npy"], "model.keras: this is the model that is read"),
        (["out2.keras", "--data", "x.npy", "--seed", "-1"], "Invalid value for '--seed'"),
        (["out2.keras", "--data", "none.npy"], "none.npy: there is no such file"),
        (["out2.keras", "--data", "x.npy", "--labels", "short.npy"], "20 labels"),
        (["out2.keras", "--data", "x.npy", "--loss", "mse", "--loss", "mae"], "loss: 2 given for 1 outputs"),
        (["out2.keras", "--data", "x.npy", "--lam", "1", "--target-luts", "5"], "lam and target_luts at once"),
    ],
)
def test_what_does_not_fit_is_said_in_one_error(files: Path, monkeypatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(files)
    done = call("model.keras", *arguments)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not Path("out2.keras").exists()
