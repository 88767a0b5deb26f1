"""Runs cocotb tests on a design, in the simulator of `model.build`: all vectors at full speed, or the protocol."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .model import Progress, build, logger
from .tools import SimulationError, tail

PROTOCOL = ("idle", "back_to_back", "gaps", "reset", "power_up")
"""The per-clock cocotb tests of bench.py."""


@dataclass(frozen=True, slots=True)
class RtlDesign:
    """A pipelined design with the ports clk, rst, in_valid, in_data, out_valid, out_data and no stall.

    sources:   Verilog files, in any order.
    top:       name of the top module.
    in_width:  bits of in_data.
    out_width: bits of out_data.
    latency:   clocks from the edge that samples in_valid to the edge at which out_valid is sampled; 0: combinational.
    """

    sources: tuple[Path, ...]
    top: str
    in_width: int
    out_width: int
    latency: int


class MismatchError(Exception):
    """The design broke its promise. Numbers are words read as one unsigned integer; None: does not apply.

    check: which check found it.
    kind:  what is wrong, in words.
    index: the vector.
    cycle: clock of the check, counted from 0 at its start, at which it showed.
    """

    def __init__(
        self,
        top: str,
        check: str,
        kind: str,
        cycle: int,
        index: int | None = None,
        stimulus: int | None = None,
        expected: int | None = None,
        got: int | None = None,
    ) -> None:
        self.top, self.check, self.kind, self.cycle = top, check, kind, cycle
        self.index, self.stimulus, self.expected, self.got = index, stimulus, expected, got
        lines = [f"RTL '{top}' fails the check {check}: {kind}", f"  clock: {cycle}"]
        if index is not None:
            lines.append(f"  vector: {index}")
        for name, value in (("stimulus", stimulus), ("expected", expected), ("got", got)):
            if value is not None:
                lines.append(f"  {name}: {value:#x}")
        super().__init__("\n".join(lines))


def words(width: int) -> int:
    """32-bit words that hold `width` bits."""
    return -(-width // 32)


def bulk(
    design: RtlDesign,
    inputs: np.ndarray,
    gaps: np.ndarray | None = None,
    *,
    folder: Path | None = None,
    progress: Progress = logger.info,
    threads: int | None = None,
) -> np.ndarray:
    """The outputs of the design for all `inputs`, at full speed; one output per input, each after `latency` clocks.

    Args:
        inputs: uint32 words of shape (n, words(in_width)), lowest word first, unused bits zero.
        gaps: idle clocks before each vector, shape (n,); none by default.
        folder: where bench.py and bulk.cpp lie; beside this package by default.
        threads: copies of the design that share the vectors between them; by default as many as pay.

    Raises:
        MismatchError: out_valid came early, late, not at all or unasked for.
        SimulationError: a tool is missing or failed.
    """
    _check_words("inputs", inputs, design.in_width)
    if gaps is not None and (gaps.shape != inputs.shape[:1] or gaps.min(initial=0) < 0):
        raise ValueError(f"gaps needs one count >= 0 per vector, shape ({len(inputs)},); got shape {gaps.shape}")
    if len(inputs) == 0:
        return np.zeros((0, words(design.out_width)), np.uint32)
    arrays = {"inputs": inputs} | ({} if gaps is None else {"gaps": gaps.astype(np.uint32)})
    result = run(design, ["bulk"], arrays, folder=folder, progress=progress, options={"threads": threads})
    assert result is not None
    return result


def protocol(
    design: RtlDesign,
    inputs: np.ndarray,
    expected: np.ndarray,
    *,
    folder: Path | None = None,
    progress: Progress = logger.info,
    checks: Sequence[str] = PROTOCOL,
    seed: int = 1,
) -> None:
    """Drives the ports clock by clock from cocotb and checks values, latency, gaps, reset and power-up.

    Args:
        inputs, expected: words as in `bulk`; about 1e5 vectors per second.
        checks: which of `PROTOCOL` to run.
        seed: of gaps, idle data and initial register values.
    """
    _check_words("inputs", inputs, design.in_width)
    _check_words("expected", expected, design.out_width)
    if len(inputs) != len(expected) or len(inputs) == 0:
        raise ValueError(f"needs as many expected outputs as inputs, at least 1; got {len(expected)}, {len(inputs)}")
    arrays = {"inputs": inputs, "expected": expected}
    run(design, checks, arrays, folder=folder, progress=progress, options={"seed": seed})


def run(
    design: RtlDesign,
    checks: Sequence[str],
    arrays: dict[str, np.ndarray],
    *,
    folder: Path | None = None,
    progress: Progress = logger.info,
    options: dict | None = None,
    module: str = "bench",
) -> np.ndarray | None:
    """Runs cocotb tests in the simulator, building it if needed. Returns what they saved as outputs.npy, if anything.

    Args:
        checks: names of tests in `module`.
        arrays: saved for the tests as {name}.npy.
        folder: holds bulk.cpp, and bench.py, on top of sys.path in the simulator.
        options: added to the tests' config.json.

    Files pass through a temporary folder, which stays if something fails so that its log can be read (an interrupt is
    no failure).
    """
    folder = folder or Path(__file__).resolve().parents[1]
    executable = build(design.sources, design.top, folder=folder, progress=progress)
    work = Path(tempfile.mkdtemp(prefix="rtl-"))
    try:
        for name, array in arrays.items():
            np.save(work / f"{name}.npy", np.ascontiguousarray(array))
        config = asdict(design) | {"sources": [], "seed": 1, "threads": None} | (options or {})
        (work / "config.json").write_text(json.dumps(config))
        start = time.monotonic()
        _run_cocotb(executable, module, checks, work, folder, int(config["seed"]))
        progress(f"simulated {design.top}: {', '.join(checks)} ({time.monotonic() - start:.1f} s)")
        outputs = work / "outputs.npy"
        result = np.load(outputs) if outputs.exists() else None
    except BaseException as error:
        if not isinstance(error, Exception):
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return result


def _run_cocotb(executable: Path, module: str, checks: Sequence[str], work: Path, folder: Path, seed: int) -> None:
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    runner = get_runner("verilator")
    runner.log = logging.getLogger(f"{__name__}.cocotb")
    log, results, failure = work / "simulation.log", work / "results.xml", work / "failure.json"
    sys.path.insert(0, str(folder))  # the runner hands sys.path to the Python inside the simulator
    problem = ""
    try:
        runner.test(
            test_module=module,
            test_filter=rf"^{module}\.({'|'.join(checks)})$",
            hdl_toplevel=executable.name,
            hdl_toplevel_lang="verilog",
            build_dir=executable.parent,
            test_dir=work,
            results_xml=str(results),
            log_file=log,
            seed=seed,
            # Rewriting assertions would import pytest into the simulator: most of its time to start.
            extra_env={"BENCH_WORK": str(work), "COCOTB_REWRITE_ASSERTION_FILES": ""},
            test_args=["+verilator+rand+reset+2", f"+verilator+seed+{seed}"],
        )
    except ValueError as error:  # cocotb: "Unable to find libpython"
        fix = f"install the shared Python library (Debian: apt install libpython3.{sys.version_info.minor})"
        raise SimulationError(f"cocotb cannot start: {error}", fix=fix) from error
    except (RuntimeError, SystemExit) as error:
        problem = str(error)
    finally:
        sys.path.remove(str(folder))
    if failure.exists():
        raise MismatchError(**json.loads(failure.read_text()))
    try:
        count, failed = get_results(results)
    except (RuntimeError, SyntaxError) as error:  # no file, or XML that was cut off
        count, failed, problem = 0, 0, problem or str(error)
    if problem or failed or count != len(checks):
        what = f"cocotb ran {count} of {len(checks)} tests, {failed} failed; {problem}".rstrip("; ")
        raise SimulationError(what, command=[str(executable)], tail=tail(log), log=log)


def _check_words(name: str, array: np.ndarray, width: int) -> None:
    if array.dtype != np.uint32 or array.ndim != 2 or array.shape[1] != words(width):
        raise ValueError(
            f"{name}: {width} bits need uint32 words of shape (n, {words(width)}), got {array.dtype} {array.shape}"
        )
    if width % 32 and (array[:, -1] >> np.uint32(width % 32)).any():
        raise ValueError(f"{name}: bits above the port's {width} are set; they must be zero")
