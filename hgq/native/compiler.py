"""The compiled cores of this package and the command that compiles one.

Standard library only: hatch_build.py runs it before anything is installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Core:
    """C++ of ours that Python calls.

    what: for messages. main: the file to compile, which includes the others of its folder.
    """

    what: str
    main: str

    @property
    def folder(self) -> Path:
        return _PACKAGE / Path(self.main).parent

    @property
    def built(self) -> str:
        """What a wheel calls the compiled core, below the folder of the package."""
        return str(Path(self.main).parent.parent / f"{Path(self.main).stem}_core.so")

    def sources(self) -> list[Path]:
        return sorted(self.folder.glob("*.?pp"))


CORES = {
    "cmvm": Core("the adder-graph optimiser", "lower/cmvm/core/cmvm.cpp"),
    "refine": Core("the evaluator of refinement", "refinement/core/refine.cpp"),
}

# No -march: a wheel runs on every machine of its kind. No contraction: the same scores, so the same graphs, everywhere.
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-static-libstdc++", "-static-libgcc")


def compiler() -> list[str] | None:
    """The C++ compiler: CXX or g++; None if it is not there."""
    command = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    return command if shutil.which(command[0]) else None


def command(core: Core, cxx: list[str], target: str) -> list[str]:
    return [*cxx, *FLAGS, "-o", target, str(_PACKAGE / core.main)]
