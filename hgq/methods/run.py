"""One method from file to file: what the command hgq-quantize does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from hgq.disk import whole
from hgq.errors import ConversionError
from hgq.frontend.model import read_model
from hgq.methods.listed import METHODS
from hgq.methods.mrecg.plot import check_plot, plot_losses
from hgq.methods.network import (
    ANY_TYPE,
    LayerTypes,
    averages,
    build,
    fold,
    kernel_value,
    largest_of_rows,
    row_axes,
    weighted,
)
from hgq.methods.policy import save_policy
from hgq.methods.result import Result
from hgq.methods.scale import covering, symmetric


def run(
    method: str, model: str | Path, out: str | Path, options: dict[str, Any], progress: Callable[[str], None]
) -> Result:
    """Quantises the model in a file and saves the result, which is there whole or not at all.

    Args:
        options: keyword arguments of the method's `quantize`; seed is 0 where it takes one and none is stated. And
            losses: of mrecg, where a picture of the losses of units goes.

    Raises:
        ConversionError: the model, or what became of it, cannot be converted to hardware.
        ValueError: options of no use, or that contradict each other.
    """
    out = Path(out)
    losses = options.pop("losses", None)
    if losses is not None:
        check_plot(losses)
    if "seed" in METHODS[method].options:
        options = {"seed": 0} | options  # the same command gives the same model
    if "data" in METHODS[method].options:  # minutes, which would be lost
        progress("see whether hardware can be made of such a model")
        _to_convert(_of_eight_bits(fold(Path(model), options.get("drop_softmax", False))))
    result = importlib.import_module(METHODS[method].module).quantize(Path(model), **options, progress=progress)
    progress("check that hardware can be made of it")
    result.facts.extend(_to_convert(result.model))
    progress("save")
    with whole(out) as made:  # neither file without the other
        result.model.save(made)
        if "policy" in result.details:
            save_policy(result.details["policy"], policy_file(out))
    if losses is not None:
        plot_losses(losses, {method: result.details["losses"]})
    return result


def _of_eight_bits(folded: keras.Model) -> keras.Model:
    """The model with 8 bits everywhere: what no method's types can make convertible is refused of it, too."""
    given = covering(-1, 1, 8)
    chosen = {layer.name: LayerTypes(given) for layer in averages(folded)}
    for layer in weighted(folded):
        chosen[layer.name] = LayerTypes(given, symmetric(largest_of_rows(kernel_value(layer), row_axes(layer)), 8))
    return build(folded, chosen)


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
