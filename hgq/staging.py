"""The folder of a project while it is made: under another name, until it is complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hgq.errors import ConversionError


def free_target(out: Path) -> Path:
    """The folder to make, if it may be made."""
    out = out.absolute()
    if out.is_file():
        raise ConversionError([f"  - {out}: this is a file, not a folder\n      Fix: name another folder"])
    if out.is_dir() and any(out.iterdir()) and not (out / "model.ir").is_file():
        raise ConversionError(
            [
                f"  - {out}: the folder exists and holds no hgq project, so it is not replaced\n"
                "      Fix: name another folder, or remove this one"
            ]
        )
    parent = next(folder for folder in out.parents if folder.exists())
    if not os.access(parent, os.W_OK) or not parent.is_dir():
        raise ConversionError([f"  - {parent}: no permission to write there\n      Fix: name another folder"])
    return out


def replace(made: Path, target: Path) -> None:
    """Gives the finished folder its name; an older one of that name goes only once the new one is there."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)
