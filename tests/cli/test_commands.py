"""The commands, with the conversion itself replaced: what they pass on, print, and answer with."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import hgq
from hgq.cli import convert_command, report_command, simulate_command
from hgq.errors import ConversionError, HGQError, IRError, ToolError, VerificationError
from hgq.verify.proof.result import LayerProof, ProofResult


class FakeProject:
    """Stands for `hgq.project.Project`: records what it is asked."""

    path = Path("out")
    asked: dict[str, Any] = {}  # noqa: RUF012
    fails: Exception | None = None

    def summary(self) -> str:
        return "layer  bits"

    @classmethod
    def load(cls, folder: Path) -> FakeProject:
        cls.asked["folder"] = folder
        return cls()

    def simulate(
        self, data: np.ndarray | None = None, engine: str = "all", *, proof: bool, progress: Any
    ) -> dict[str, Any]:
        progress("lint")
        if self.fails:
            raise self.fails
        self.asked.update(data=data, engine=engine)
        return {"data": 3, "corners": 1000, "engines": {"csim": {"vectors": 1003}}}

    def self_test(self, data: np.ndarray | None, *, mutants: int, seed: int, progress: Any) -> SimpleNamespace:
        self.asked.update(data=data, mutants=mutants, seed=seed)
        left = ["one"] if seed == 7 else []
        return SimpleNamespace(table=lambda: "the table", survivors=left, mutants=range(mutants))

    @classmethod
    def convert(cls, model: Path, out: Path, *, progress: Any = None, **options: Any) -> FakeProject:
        progress("frontend")
        if cls.fails:
            raise cls.fails
        cls.asked.update(model=model, out=out, **options)
        return cls()


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeProject]:
    monkeypatch.setattr(FakeProject, "asked", {})
    monkeypatch.setattr(FakeProject, "fails", None)
    for name, function in (("convert", FakeProject.convert), ("Project", FakeProject)):
        module = ModuleType("fake")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, hgq._PUBLIC[name], module)
    for command in (convert_command, simulate_command):
        monkeypatch.setattr(command, "start_keras", lambda: None)
    monkeypatch.chdir(tmp_path)
    Path("model.keras").write_bytes(b"")
    Path("project").mkdir()
    np.save("x.npy", np.eye(3))
    return FakeProject


def convert(*arguments: str) -> Result:
    return CliRunner().invoke(convert_command.app, ["model.keras", "out", *arguments], prog_name="hgq-convert")


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(simulate_command.app, ["project", *arguments], prog_name="hgq-simulate")


def test_convert_passes_every_option_on_and_prints_the_summary(fake: type[FakeProject]) -> None:
    np.savez("many.npz", a=np.zeros((2, 3)), b=np.ones((4, 3)))
    options = "--calibrate x.npy --verify many.npz:b --clock-ns 2.5 --backend Vivado --part xcvu9p --input-type s16f8"
    options += " --effort 3 --objective adders --io-type io_stream"
    options += " --weights w.h5 --types s8f6 --drop-softmax --no-proof"
    done = convert(*options.split())
    assert done.exit_code == 0, done.output
    asked = fake.asked
    assert np.array_equal(asked.pop("calibrate"), np.eye(3))
    assert np.array_equal(asked.pop("verify"), np.ones((4, 3)))
    assert asked == {
        "model": Path("model.keras"),
        "out": Path("out"),
        "data": None,
        "clock_ns": 2.5,
        "latency": None,
        "backend": "Vivado",
        "io_type": "io_stream",
        "part": "xcvu9p",
        "input_type": "s16f8",
        "effort": 3,
        "objective": "adders",
        "proof": False,
        "weights": Path("w.h5"),
        "types": "s8f6",
        "drop_softmax": True,
    }
    assert done.stdout.splitlines() == ["layer  bits", "project: out", "report:  out/report.json"]
    assert done.stderr == ""  # progress is for terminals


def test_a_file_of_several_arrays_has_one_for_each_input(fake: type[FakeProject]) -> None:
    np.savez("many.npz", a=np.zeros((2, 3)), b=np.ones((2, 4)))
    assert convert("--calibrate", "many.npz").exit_code == 0
    given = fake.asked["calibrate"]
    assert list(given) == ["a", "b"] and np.array_equal(given["b"], np.ones((2, 4)))


def test_verification_is_on_unless_it_is_turned_off(fake: type[FakeProject]) -> None:
    convert()
    assert fake.asked["verify"] is None
    convert("--no-verify")
    assert fake.asked["verify"] is False


def test_self_test_prints_its_table_and_a_survivor_is_a_difference(fake: type[FakeProject]) -> None:
    done = simulate("--self-test", "--mutants", "40", "--data", "x.npy")
    assert done.exit_code == 0 and "the table" in done.output
    assert fake.asked["mutants"] == 40 and fake.asked["seed"] == 0 and fake.asked["data"] is not None
    assert simulate("--self-test", "--seed", "-1").exit_code == 2
    done = simulate("--self-test", "--seed", "7")
    assert done.exit_code == 1 and "the table" in done.output and "1 of 100 faults" in done.output


def test_simulate_passes_data_and_engine_on(fake: type[FakeProject]) -> None:
    done = simulate("--data", "x.npy", "--engine", "csim")
    assert done.exit_code == 0, done.output
    assert np.array_equal(fake.asked.pop("data"), np.eye(3))
    assert fake.asked == {"folder": Path("project"), "engine": "csim"}
    assert (
        "0 differences over 3 data samples and 1,000 corner vectors between the integer model and csim" in done.stdout
    )


@pytest.mark.parametrize("latency,code", [(4, 0), (None, 4)])
def test_a_proof_that_is_not_complete_has_an_exit_code_of_its_own(
    latency: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = ProofResult([LayerProof("d", 3, 3)], 5, 5, latency).to_json()
    monkeypatch.setattr(FakeProject, "simulate", lambda self, *_, **__: {"engines": {}, "proof": proof})
    done = simulate("--engine", "proof")
    assert done.exit_code == code and ("not proven: see above" in done.stderr) == (code == 4)
    assert "3 of 3 outputs" in done.stdout


FAILURES = {
    "a difference": (VerificationError("dense_1[3], sample 7: expected 5, got 4"), 1),
    "a model": (ConversionError(["Conv2D 'c': groups=2"]), 2),
    "a tool": (ToolError("g++ is missing"), 2),
    "anything on purpose": (HGQError("x"), 2),
    "a pipe": (OSError(32, "Broken pipe"), 2),
    "a broken graph": (IRError("node 3"), 3),
    "a missing module of ours": (ModuleNotFoundError("No module named 'hgq.lost'", name="hgq.lost"), 3),
    "a slip": (KeyError("x"), 3),
    "a stop": (KeyboardInterrupt(), 130),
}


@pytest.mark.parametrize("command", [convert, simulate])
@pytest.mark.parametrize("name", FAILURES)
def test_the_exit_code_tells_what_failed_and_only_bugs_show_a_traceback(
    fake: type[FakeProject], monkeypatch: pytest.MonkeyPatch, name: str, command: Any
) -> None:
    error, code = FAILURES[name]
    monkeypatch.setattr(fake, "fails", error)
    done = command()
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    assert ("Traceback" in done.stderr) == ("bug in hgq" in done.stderr) == (code == 3)
    if code in (1, 2):
        assert str(error).splitlines()[-1] in done.stderr


@pytest.mark.parametrize("command,place", [(convert, "out"), (simulate, "project")])
def test_a_full_disk_is_named_with_the_place_and_what_to_do(
    fake: type[FakeProject], monkeypatch: pytest.MonkeyPatch, command: Any, place: str
) -> None:
    monkeypatch.setattr(fake, "fails", OSError(28, "No space left on device"))
    done = command()
    assert done.exit_code == 2 and "Errno" not in done.stderr
    assert re.match(rf"error: {place}( or .*)?: no space is left on the disk\n  Fix: free some", done.stderr)


def test_a_value_error_is_the_users_only_where_hgq_raised_it(
    fake: type[FakeProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ours(*_: Any, **__: Any) -> None:
        from hgq.fixed import FixedType

        FixedType.parse("s16")

    def numpys(*_: Any, **__: Any) -> None:
        np.zeros(3).reshape(2)

    for convert_function, code in ((ours, 2), (numpys, 3)):
        monkeypatch.setattr(sys.modules[hgq._PUBLIC["convert"]], "convert", convert_function)
        assert convert().exit_code == code


def _pickle() -> None:
    np.save("bad.npy", np.array([{}, {}]), allow_pickle=True)


BAD_DATA = {
    "missing": (lambda: None, "bad.npy", "no such file"),
    "text": (lambda: Path("bad.npy").write_text("1,2,3"), "bad.npy", "numpy.save"),
    "empty": (lambda: Path("bad.npy").write_bytes(b""), "bad.npy", "numpy.save"),
    "cut short": (lambda: Path("bad.npy").write_bytes(Path("x.npy").read_bytes()[:-9]), "bad.npy", "numpy.save"),
    "broken zip": (lambda: Path("bad.npz").write_bytes(b"PK\x03\x04 no"), "bad.npz", "numpy.save"),
    "objects": (_pickle, "bad.npy", "Python objects"),
    "objects in npz": (lambda: np.savez("bad.npz", a=np.array([{}])), "bad.npz", "Python objects"),
    "words": (lambda: np.save("bad.npy", np.array([["a", "b"]])), "bad.npy", "not real numbers"),
    "complex": (lambda: np.save("bad.npy", np.array([[1j]])), "bad.npy", "complex128"),
    "one axis": (lambda: np.save("bad.npy", np.arange(5)), "bad.npy", "(5,)"),
    "no samples": (lambda: np.save("bad.npy", np.zeros((0, 3))), "bad.npy", "(0, 3)"),
    "one of several": (lambda: np.savez("bad.npz", a=np.eye(2), b=np.zeros((0, 3))), "bad.npz", "(0, 3)"),
    "no array": (lambda: np.savez("bad.npz"), "bad.npz", "0 arrays"),
    "wrong name": (lambda: np.savez("bad.npz", a=np.eye(2)), "bad.npz:c", "holds a"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_message_that_names_option_and_file(name: str) -> None:
    write, file, fact = BAD_DATA[name]
    write()
    for done, option in ((convert("--calibrate", file), "--calibrate"), (simulate("--data", file), "--data")):
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith(f"error: {option} bad.np") and fact in done.stderr
        assert "Traceback" not in done.stderr


USAGE = {
    "two opposites": (["--no-verify", "--verify", "x.npy"], "contradict"),
    "a clock": (["--clock-ns", "fast"], "--clock-ns"),
    "a back end": (["--backend", "Quartus"], "Quartus"),
    "an option": (["--frobnicate"], "--frobnicate"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_usage_error_exits_2_and_names_the_option(name: str) -> None:
    arguments, fact = USAGE[name]
    done = convert(*arguments)
    assert done.exit_code == 2
    assert fact in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--mutants", "40"),
        ("--seed", "0"),
        ("--engine", "csim", "--no-proof"),
        ("--self-test", "--no-proof"),
        ("--self-test", "--engine", "csim"),
        ("--trace", "3", "--engine", "all"),
        ("--engine", "proof", "--data", "x.npy"),
    ],
    ids=" ".join,
)
def test_an_option_that_would_do_nothing_is_refused(fake: type[FakeProject], options: tuple[str, ...]) -> None:
    done = simulate(*options)
    assert done.exit_code == 2 and "leave " in done.output and done.output.endswith(" out\n")


def test_seeds_without_place_and_route_are_refused() -> None:
    done = CliRunner().invoke(report_command.app, ["project", "--seeds", "3"])
    assert done.exit_code == 2 and "--seeds 3 is for place and route" in done.stderr


def test_a_trace_and_a_self_test_at_once_are_refused() -> None:
    done = simulate("--self-test", "--trace", "3")
    assert done.exit_code == 2 and "--self-test and --trace 3" in done.stderr


def test_a_missing_model_or_project_is_named() -> None:
    done = CliRunner().invoke(convert_command.app, ["gone.keras", "out"])
    assert done.exit_code == 2 and "gone.keras" in done.stderr
    done = CliRunner().invoke(simulate_command.app, ["gone"])
    assert done.exit_code == 2 and "gone" in done.stderr


def test_steps_are_shown_with_their_time_on_a_terminal_only() -> None:
    from rich.console import Console

    from hgq.cli.progress import Steps

    for terminal in (True, False):
        console = Console(record=True, force_terminal=terminal, width=80, file=SimpleNamespace(write=len, flush=int))  # type: ignore[arg-type]
        with pytest.raises(RuntimeError), Steps(console) as step:
            step("frontend [x]")
            step("emit")
            raise RuntimeError
        lines = [line.split() for line in console.export_text().splitlines() if " s  " in line]
        wanted = [["s", "frontend", "[x]"], ["s", "emit", "stopped", "here"]] if terminal else []
        assert [line[1:] for line in lines] == wanted


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
@pytest.mark.parametrize("backend", ["torch", "theano"])
def test_a_back_end_that_is_not_there_is_a_message(backend: str) -> None:
    code = "import hgq_fpga; hgq_fpga.convert()"
    env = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(Path(hgq.__file__).parents[1])}
    line = [sys.executable, "-c", code, "model.keras", "out"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert backend in done.stderr and "KERAS_BACKEND" in done.stderr and "Traceback" not in done.stderr
