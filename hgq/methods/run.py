"""One method from file to file: what the command hgq-quantize does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hgq.frontend.model import read_model
from hgq.methods.listed import METHODS
from hgq.methods.policy import save_policy
from hgq.methods.result import Result
from hgq.model_file import save_whole


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
    out = Path(out)
    result = importlib.import_module(METHODS[method].module).quantize(Path(model), **options, progress=progress)
    progress("check that hardware can be made of it")
    read_model(result.model)
    progress("save")
    if "policy" in result.details:
        save_policy(result.details["policy"], policy_file(out))
    save_whole(result.model, out)
    return result


def policy_file(out: Path) -> Path:
    """Where the widths that a method found are written, beside its model: for other models, data and methods."""
    return out.with_suffix(".policy.json")
