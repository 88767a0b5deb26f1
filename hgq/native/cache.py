"""Finds the compiled form of a core: beside its sources, as a wheel has it, or built once into the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from hgq.errors import ToolError
from hgq.native import compiler
from hgq.native.compiler import CORES, Core


def library(name: str) -> ctypes.CDLL:
    """The core `name` of `CORES`, loaded.

    Raises:
        ToolError: it is not built and there is no compiler, or compiling failed.
    """
    shipped = Path(compiler.__file__).parents[1] / CORES[name].built
    return ctypes.CDLL(str(shipped if shipped.exists() else cached(name)))


def cached(name: str) -> Path:
    """The core in the user's cache, named by what it is made from, so that an edited core is never an old one."""
    core = CORES[name]
    key = hashlib.sha256(" ".join((*compiler.FLAGS, platform.machine(), *platform.libc_ver())).encode())
    for path in core.sources():
        key.update(path.read_bytes())
    folder = Path(os.environ.get("HGQ_CACHE") or platformdirs.user_cache_dir("hgq-fpga"))
    target = folder / name / f"{key.hexdigest()[:24]}.so"
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise ToolError(
                f"{core.what} must be compiled, and the cache folder {target.parent} cannot be written: "
                f"{failure.strerror}",
                fix="make it writable, or name another folder in HGQ_CACHE",
            ) from failure
        build(core, target)
    return target


def build(core: Core, target: Path) -> None:
    """Compiles a core to `target`, whole or not at all.

    Raises:
        ToolError: no compiler, or it failed.
    """
    cxx = compiler.compiler()
    if cxx is None:
        raise ToolError(
            f"{core.what} is C++ that this installation from source has not compiled yet, and there is no C++ "
            f"compiler: '{os.environ.get('CXX') or 'g++'}' is not on the PATH",
            fix="install g++ (sudo apt-get install g++), or name another compiler in CXX, or install a wheel of "
            "hgq-fpga for this platform, which holds the compiled code",
        )
    handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    command = compiler.command(core, cxx, name)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        Path(name).unlink()
        raise ToolError(
            f"compiling {core.what} failed",
            command=command,
            code=done.returncode,
            tail="\n".join(done.stderr.splitlines()[-20:]),
            fix="use a C++17 compiler (g++ 9 or newer), named in CXX",
        )
    Path(name).chmod(0o755)
    Path(name).replace(target)
