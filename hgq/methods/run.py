"""One method from file to file: what the command hgq-quantize does."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hgq.frontend.model import read_model
from hgq.methods.listed import METHODS
from hgq.methods.policy import save_policy
from hgq.methods.result import Result


def run(
    method: str, model: str | Path, out: str | Path, options: dict[str, Any], progress: Callable[[str], None]
) -> Result:
    """Quantises the model in a file and saves the result, which is there whole or not at all.

    Args:
        options: keyword arguments of the method's `quantize`.

    Raises:
        ConversionError: the model, or what became of it, cannot be converted to hardware.
        ValueError: options of no use, or that contradict each other.
    """
    out = check_target(Path(out), Path(model))
    result = importlib.import_module(METHODS[method].module).quantize(Path(model), **options, progress=progress)
    progress("check that hardware can be made of it")
    read_model(result.model)
    progress("save")
    if "policy" in result.details:
        save_policy(result.details["policy"], policy_file(out))
    made = out.with_name(f".{out.stem}.{os.getpid()}.keras")
    try:
        result.model.save(made)
        made.replace(out)
    finally:
        made.unlink(missing_ok=True)
    return result


def policy_file(out: Path) -> Path:
    """Where the widths that a method found are written, beside its model: for other models, data and methods."""
    return out.with_suffix(".policy.json")


def check_target(out: Path, model: Path) -> Path:
    """The file to write, refused before hours of work where it could not be written."""
    if out.suffix != ".keras":
        raise ValueError(f"{out}: models are saved as .keras files; name it {out.with_suffix('.keras').name}")
    if out.is_dir():
        raise ValueError(f"{out}: this is a folder; name a file")
    if out.exists() and out.samefile(model):
        raise ValueError(f"{out}: this is the model to quantise; give the result another name")
    if not out.absolute().parent.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        raise ValueError(f"{out}: nothing can be written to {out.absolute().parent}; name another folder")
    return out
