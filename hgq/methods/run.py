"""One method from file to file: what the command hgq-quantize does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from hgq.disk import whole
from hgq.errors import ConversionError
from hgq.fixed import FixedType
from hgq.frontend.model import read_model
from hgq.methods.listed import METHODS
from hgq.methods.policy import save_policy
from hgq.methods.result import Result

ANY_TYPE = FixedType.parse("s16f8")
"""Of an input, to see whether a model can be converted once its user states one."""


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
    result.facts.extend(_to_convert(result.model))
    progress("save")
    with whole(out) as made:  # neither file without the other
        result.model.save(made)
        if "policy" in result.details:
            save_policy(result.details["policy"], policy_file(out))
    return result


def _to_convert(model: keras.Model) -> list[tuple[str, str]]:
    """What hgq-convert has to be told, as a fact of the summary.

    Raises:
        ConversionError: the model cannot be converted, whatever it is told.
    """
    try:
        read_model(model)
    except ConversionError as refused:
        try:
            read_model(model, ANY_TYPE)
        except ConversionError:
            raise refused from None
        return [("input", "read before any layer rounds it: hgq-convert needs its type, as in --input-type u8f8")]
    return []


def policy_file(out: Path) -> Path:
    """Where the widths that a method found are written, beside its model: for other models, data and methods."""
    return out.with_suffix(".policy.json")
