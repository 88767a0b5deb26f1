"""The command that compiles the core. Standard library only: hatch_build.py runs it before anything is installed."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

CORE = Path(__file__).parent / "core"
BUILT = "cmvm_core.so"
"""What a wheel calls the compiled core, beside this file."""

# No -march: a wheel runs on every machine of its kind. No contraction: the same scores, so the same graphs, everywhere.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-static-libstdc++", "-static-libgcc")


def compiler() -> list[str] | None:
    """The C++ compiler: CXX or g++; None if it is not there."""
    command = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    return command if shutil.which(command[0]) else None


def command(cxx: list[str], target: str) -> list[str]:
    return [*cxx, *FLAGS, "-o", target, str(CORE / "cmvm.cpp")]


def sources() -> list[Path]:
    return sorted(CORE.glob("*.?pp"))
