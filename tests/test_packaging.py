"""What pip installs: a wheel that works in an empty directory, and refuses to live beside other hgq packages."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import hgq

ROOT = Path(__file__).parents[1]


def run(command: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command without this checkout on its path."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def pip(*arguments: object, cwd: Path = ROOT) -> None:
    done = run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], cwd)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


def rival_wheel(folder: Path, name: str) -> Path:
    """A wheel that installs a package hgq of its own, as the distributions hgq2 and HGQ do."""
    path = folder / f"{name}-9.9-py3-none-any.whl"
    info = f"{name}-9.9.dist-info"
    files = {
        "hgq/__init__.py": "mine = False\n",
        "hgq/layers/__init__.py": "mine = False\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return path


def environment(folder: Path, *wheels: Path) -> Path:
    """A new environment that holds the wheels and sees the packages of this one; returns its bin folder."""
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    python = folder / "bin/python"
    for path in wheels:
        pip("--python", python, "install", "--quiet", "--no-deps", "--no-index", path)
    (site,) = folder.glob("lib/python*/site-packages")
    # Only paths, so that the .pth file of an editable installation of this checkout is not followed.
    (site / "packages_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_wheel_holds_the_package_the_entry_points_and_every_template(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {
        "hgq/" + path.relative_to(ROOT).as_posix()
        for path in (ROOT / "hls_templates").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hgq").rglob("*.py")}
    assert templates
    assert templates | modules | {"hgq_fpga.py"} <= names
    assert {name.split("/")[0] for name in names} == {"hgq", "hgq_fpga.py", f"hgq_fpga-{hgq.__version__}.dist-info"}


def test_the_version_in_the_metadata_is_the_one_in_the_code() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == hgq.__version__


def test_every_pin_is_a_plain_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines and all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines)


def test_an_installed_wheel_works_in_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    commands = environment(tmp_path / "env", wheel)
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run([commands / "python", "-c", "import hgq, hgq.emit; print(hgq.__file__)"], empty)
    assert where.returncode == 0, where.stderr
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)
    for command in ("hgq-convert", "hgq-simulate", "hgq-report", "hgq-refine", "hgq-quantize"):
        done = run([commands / command, "--help"], empty)
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout
    missing = run([commands / "hgq-convert", "nowhere.keras", "out"], empty)
    assert missing.returncode == 2
    assert "nowhere.keras" in missing.stderr and "Traceback" not in missing.stderr
    assert not list(empty.iterdir())


TRAIN = """
import keras, numpy as np
from hgq.layers import QDense
keras.utils.set_random_seed(1)
keras.Sequential([keras.Input((4,)), QDense(3, activation="relu"), QDense(2)], name="small").save("small.keras")
np.save("x.npy", np.random.default_rng(1).normal(size=(30, 4)))
"""


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.hls
def test_an_installed_wheel_converts_and_verifies(wheel: Path, tmp_path: Path) -> None:
    commands = environment(tmp_path / "env", wheel)
    empty = tmp_path / "empty"
    empty.mkdir()
    for command in (
        [commands / "python", "-c", TRAIN],
        [commands / "hgq-convert", "small.keras", "small", "--data", "x.npy"],
        [commands / "hgq-simulate", "small"],
    ):
        done = run(command, empty)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "verified: 0 differences" in (empty / "small/report.html").read_text()


@pytest.mark.parametrize("name", ["hgq2", "HGQ"])
@pytest.mark.parametrize("order", ["theirs_first", "theirs_last"])
def test_another_hgq_distribution_is_refused_in_either_order(
    wheel: Path, tmp_path: Path, name: str, order: str
) -> None:
    theirs = rival_wheel(tmp_path, name)
    commands = environment(tmp_path / "env", *([theirs, wheel] if order == "theirs_first" else [wheel, theirs]))
    statements = ["import hgq"] if order == "theirs_first" else []
    statements.append("from hgq.errors import HGQError")  # stays ours even where theirs replaced hgq/__init__.py
    attempts = [[commands / "python", "-c", statement] for statement in statements]
    attempts += [[commands / "hgq-convert", "--help"], [commands / "hgq-simulate", "--help"]]
    for attempt in attempts:
        done = run(attempt, tmp_path)
        assert done.returncode == (1 if "-c" in attempt else 2), done.stdout
        assert f"the distribution {name} 9.9 is installed" in done.stderr
        assert "pip uninstall" in done.stderr
        assert "-c" in attempt or "Traceback" not in done.stderr


def test_what_uninstalling_another_hgq_distribution_leaves_is_called_damaged(wheel: Path, tmp_path: Path) -> None:
    theirs = rival_wheel(tmp_path, "hgq2")
    commands = environment(tmp_path / "env", wheel, theirs)
    pip("--python", commands / "python", "uninstall", "--quiet", "--yes", "hgq2")
    done = run([commands / "hgq-convert", "--help"], tmp_path)
    assert done.returncode == 2
    assert "damaged" in done.stderr and "--force-reinstall" in done.stderr
