"""Verilog to a simulator: Verilator, then g++ with cocotb's main program and bulk.cpp; finished ones are kept."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .tools import cache_folder, cores, cxx, digest, execute, verilator, verilator_root, versions, writable

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


def build(sources: Sequence[Path], top: str, *, folder: Path, progress: Progress = logger.info) -> Path:
    """The simulator of these sources, from the cache if the same one was built before.

    Raises:
        SimulationError: a tool is missing, or refuses the sources.
    """
    root, compiler = verilator_root(), cxx()
    texts = [Path(source).read_bytes() for source in sources]
    flags = (*_VERILATE, *_PIECES, *(_SHARED if any(b"no_inline_module" in text for text in texts) else ()))
    bulk_cpp = folder / "bulk.cpp"
    key = digest(*versions(compiler), top, *flags, *_COMPILE, *texts, bulk_cpp.read_bytes())
    models = writable(cache_folder() / "models")
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
    count = min(cores(), 1 + sum(sizes.values()) // _UNIT)
    units: list[list[Path]] = [[] for _ in range(count)]
    for path in sorted(sources, key=lambda path: (-sizes[path], path)):
        min(units, key=lambda unit: sum(sizes[member] for member in unit)).append(path)
    paths = [work / f"unit{number}.cpp" for number in range(count)]
    for path, unit in zip(paths, units, strict=True):
        path.write_text("".join(f'#include "{member}"\n' for member in unit))
    return paths


def _runtime(root: Path, compiler: list[str], progress: Progress) -> Path:
    """Verilator's runtime library: the same for every design, so compiled once."""
    archive = writable(cache_folder() / "runtime") / f"{digest(*versions(compiler), *_COMPILE, *_RUNTIME)}.o"
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

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(compile_one, units))


def _includes(root: Path) -> list[str]:
    macros = ("VERILATOR=1", "VM_COVERAGE=0", "VM_SC=0", "VM_TIMING=0", "VM_TRACE=0", "VM_TRACE_FST=0")
    return [f"-I{root}/include", f"-I{root}/include/vltstd", *(f"-D{macro}" for macro in macros)]


def _prune(models: Path) -> None:
    """Drops the models that were not used for longest, and builds that died; never one used in the last hour."""
    old = sorted((path.stat().st_mtime, path) for path in models.iterdir())
    for used, path in old[:-_KEPT_MODELS]:
        if time.time() - used > 3600:
            shutil.rmtree(path, ignore_errors=True)
