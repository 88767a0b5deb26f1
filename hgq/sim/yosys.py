"""Yosys, from the wheel pyosys: maps Verilog to the cells of an FPGA family, in a process of its own.

Of its own, because an error inside Yosys ends the process. Results are kept by content in the cache folder.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hgq.disk import full_disk
from hgq.errors import ToolError
from hgq.sim.families import FAMILIES, Family, count
from hgq.sim.kept import digest, kept_folder
from hgq.sim.sources import needed

_WORKER = """\
import sys
from pyosys import libyosys as yosys
design = yosys.Design()
for line in open(sys.argv[1]):
    yosys.run_pass(line.strip(), design)
"""
_FILES = ("mapped.v", "mapped.json.gz", "counts.json", "yosys.log")
_KEPT = 200


@dataclass(frozen=True, slots=True)
class Mapped:
    """A module as cells of a family.

    counts: see `hgq.sim.families.count`. seconds: what Yosys took, also where the result comes from the cache.
    folder: holds mapped.v (the netlist), the same as mapped.json.gz, and yosys.log. It belongs to the cache.
    """

    top: str
    family: str
    counts: dict[str, Any]
    seconds: float
    folder: Path

    def netlist(self) -> dict[str, Any]:
        """The ports and cells, for `hgq.sim.mapped.simulate_mapped`."""
        with gzip.open(self.folder / "mapped.json.gz", "rt", encoding="utf-8") as file:
            return json.load(file)


def family_named(name: str) -> Family:
    """The family, or a ValueError that lists the choices."""
    if name not in FAMILIES:
        choices = ", ".join(f"{key} ({family.device})" for key, family in FAMILIES.items())
        raise ValueError(f"family {name!r} is not supported; choose one of {choices}")
    return FAMILIES[name]


def yosys_version() -> str:
    """The version of pyosys, which is that of Yosys.

    Raises:
        ToolError: it is not installed.
    """
    if importlib.util.find_spec("pyosys") is None:
        raise ToolError(
            "Yosys is not installed, and resources are counted by it", fix="pip install 'pyosys>=0.70' (a wheel, 60 MB)"
        )
    return importlib.metadata.version("pyosys")


def synthesise(sources: Sequence[Path], top: str, family: str) -> Mapped:
    """Maps module `top` and what it instantiates, flattened, to the cells of `family`.

    Args:
        sources: Verilog files, in any order; those that `top` does not need are not read.

    Raises:
        ToolError: Yosys is missing, or refuses the sources.
        ValueError: no such family.
    """
    kind = family_named(family)
    version = yosys_version()
    # A change in a module that is not below `top` does not map it again.
    texts = list(needed({path.name: path.read_text(encoding="utf-8") for path in sources}, top).values())
    script = kind.script(_names(texts), top)
    commands = [*script, "blackbox =A:whitebox", "write_verilog -noattr mapped.v", "write_json mapped.json"]
    # Not only what makes the netlist, but also what counts its cells is part of the key.
    rules = Path(sys.modules[Family.__module__].__file__ or "").read_text(encoding="utf-8")
    kept = kept_folder("mapped")
    folder = kept / digest(version, rules, top, *commands, *texts)
    if not all((folder / name).is_file() for name in _FILES):
        _map(texts, commands, top, family, folder)
        _prune(kept)
    os.utime(folder)
    saved = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    return Mapped(top, family, saved["counts"], saved["seconds"], folder)


def _map(texts: list[str], commands: list[str], top: str, family: str, folder: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix="mapping-", dir=folder.parent))
    try:
        _map_in(work, texts, commands, top, family)
    except (OSError, KeyboardInterrupt):  # a full disk; of a failure of Yosys the log stays
        shutil.rmtree(work, ignore_errors=True)
        raise
    try:
        work.replace(folder)
    except OSError:  # another process finished the same module first
        shutil.rmtree(work)


def _map_in(work: Path, texts: list[str], commands: list[str], top: str, family: str) -> None:
    start = time.monotonic()
    failed = f"Yosys cannot map module '{top}' to {family} ({FAMILIES[family].device})"
    _run(work, texts, commands, "mapped.json", failed, fix="the log names the line; report it as a bug", log_stays=True)
    module = _whole(work / "mapped.json", failed)["modules"][top]
    outputs = {
        net for p in module["ports"].values() if p["direction"] == "output" for net in p["bits"] if isinstance(net, int)
    }
    saved = {"seconds": round(time.monotonic() - start, 2), "counts": count(module["cells"], outputs, FAMILIES[family])}
    with gzip.open(work / "mapped.json.gz", "wt", encoding="utf-8", compresslevel=4) as out:
        json.dump(
            {"ports": module["ports"], "cells": {name: _plain(cell) for name, cell in module["cells"].items()}}, out
        )
    (work / "counts.json").write_text(json.dumps(saved), encoding="utf-8")
    for path in work.iterdir():
        if path.name not in _FILES:
            path.unlink()


def _plain(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell without its attributes."""
    return {key: cell[key] for key in ("type", "parameters", "port_directions", "connections")}


def _tail(log: Path) -> str:
    """The lines of Yosys' log that matter: warnings and what follows the first error, or else the last lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    first = next((i for i, line in enumerate(lines) if "ERROR" in line or "Traceback" in line), max(len(lines) - 8, 0))
    warnings = [line for line in lines[:first] if line.startswith("Warning")]
    return "\n".join([*warnings[-5:], *lines[first : first + 10]])


def _prune(kept: Path) -> None:
    """Drops the netlists that were not used for longest; never one used in the last hour."""
    old = sorted((path.stat().st_mtime, path) for path in kept.iterdir())
    for used, path in old[:-_KEPT]:
        if time.time() - used > 3600:
            shutil.rmtree(path, ignore_errors=True)


def read_back(texts: Mapping[str, str], top: str) -> dict[str, Any]:
    """The modules of some Verilog as Yosys reads it, word-level cells and hierarchy kept: what ``write_json`` writes.

    Args:
        texts: file name -> text; cells of an FPGA (``sim/``) are left out, so that they stay as what they are.

    Raises:
        ToolError: Yosys is missing, or refuses the text.
    """
    yosys_version()
    names = _names(texts)
    commands = [f"read_verilog {' '.join(names)}", f"hierarchy -top {top}", "proc", "write_json read.json"]
    failed, fix = f"Yosys cannot read the Verilog of '{top}'", "if the text is as hgq wrote it, report it as a bug"
    with tempfile.TemporaryDirectory(prefix="reading-") as folder:
        _run(Path(folder), list(texts.values()), commands, "read.json", failed, fix=fix)
        return _whole(Path(folder) / "read.json", failed)


def _whole(file: Path, failed: str) -> dict[str, Any]:
    """What Yosys wrote, which ends in silence where the disk is full.

    Raises:
        ToolError: the file is cut off.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as why:
        space = f"free some space on the disk of {file.parent.parent}"
        raise ToolError(f"{failed}: what it wrote is cut off ({why})", fix=space) from why


def _names(texts: Sized) -> list[str]:
    """What Yosys' commands call the sources: paths may hold what its scripts cannot quote."""
    return [f"source{n}.v" for n in range(len(texts))]


def _run(
    work: Path, texts: list[str], commands: list[str], made: str, failed: str, *, fix: str, log_stays: bool = False
) -> None:
    """Runs Yosys' `commands` on `texts` in the folder `work`, where they write the file `made`.

    Raises:
        ToolError: they do not; `failed` says what that means.
    """
    for name, text in zip(_names(texts), texts, strict=True):
        (work / name).write_text(text, encoding="utf-8")
    (work / "script.ys").write_text("\n".join(commands) + "\n", encoding="utf-8")
    log = work / "yosys.log"
    with log.open("w", encoding="utf-8") as out:
        command = [sys.executable, "-P", "-c", _WORKER, "script.ys"]
        env = os.environ | {"TMPDIR": str(work)}  # where ABC leaves its files if it fails
        code = subprocess.run(command, cwd=work, env=env, stdout=out, stderr=out, check=False).returncode
    if code or not (work / made).is_file():
        fix = f"free some space on the disk of {work.parent}" if full_disk(work) else fix
        raise ToolError(failed, code=code, tail=_tail(log), log=log if log_stays else None, fix=fix)
