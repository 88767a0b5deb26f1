"""MRECG (Ma et al., CVPR 2023): calibration samples decide, unit by unit, which way each weight is rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from hgq.methods.mrecg.fit import Settings
from hgq.methods.mrecg.grid import types_of
from hgq.methods.mrecg.losses import LossLog, largest, oscillation
from hgq.methods.mrecg.plot import plot_losses
from hgq.methods.mrecg.reconstruction import Reconstruction, reconstruct
from hgq.methods.network import LayerTypes, averages_of_inputs, build, fold, weighted, with_normalisations
from hgq.methods.policy import Bits, Policy, load_policy
from hgq.methods.ranges import measured
from hgq.methods.result import Result
from hgq.methods.samples import samples_of
from hgq.methods.scale import covering

__all__ = [
    "LossLog",
    "Reconstruction",
    "Settings",
    "largest",
    "oscillation",
    "plot_losses",
    "quantize",
    "reconstruct",
    "uniform",
]

ENDS = 8
"""Bits of the weights and inputs of the first and the last layer, unless stated; of inputs that are averaged first."""


def quantize(
    model: keras.Model | str | Path,
    data: np.ndarray,
    *,
    bits: int | None = None,
    activation_bits: int | None = None,
    ends: int | None = ENDS,
    policy: Policy | str | Path | None = None,
    types: dict[str, LayerTypes] | None = None,
    settings: Settings = Settings(),  # noqa: B008  frozen
    seed: int | None = None,
    drop_softmax: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Result:
    """A model of our layers whose weights are rounded so that each part of the network gives what it gave in float.

    Args:
        model: a plain Keras model, or a file that holds one; one input, one output.
        data: calibration samples, some hundreds, no labels.
        bits, activation_bits: of the weights (4 unless stated) and of the inputs of layers (8), with the sign where
            there is one.
        ends: both for the first and the last layer; None for no exception.
        policy: bits for each layer in place of these, or a JSON file that holds them; as GMPQ writes it.
        types: the types of each layer, as REx chose them (`Result.chosen`): only roundings are then chosen.
        settings: how the reconstruction goes; powers of two for scales only, see `reconstruct` for others.
        seed: of what is drawn at random, in place of that of `settings`.
        drop_softmax: leave a softmax at the end out.
        progress: is told each step as it begins.

    Returns:
        details: "losses" (`LossLog`), "groups" (the names of the units that were taken together).

    Raises:
        ConversionError: the model has layers that are not supported, or that MRECG cannot take.
        ValueError: samples that do not fit the model, or too few, or widths that cannot be.
    """
    if settings.scales != "power":
        raise ValueError(f"scales={settings.scales!r} end in no hardware. Fix: use hgq.methods.mrecg.reconstruct")
    if sum(given is not None for given in (bits, policy, types)) > 1:
        raise ValueError("bits, policy and types all say how wide the weights are. Fix: give one of them")
    if activation_bits is not None and (policy is not None or types is not None):
        raise ValueError(
            f"activation_bits={activation_bits}: the policy or the types say how wide inputs are. Fix: leave it out"
        )
    if seed is not None:
        settings = replace(settings, seed=seed)
    folded = fold(model, drop_softmax)
    names = [layer.name for layer in weighted(folded)]
    if isinstance(policy, str | Path):
        policy = load_policy(policy)
    if policy is not None:
        policy = with_normalisations(folded, policy)
    stated = types if types is not None else policy
    if stated is None:
        stated = uniform(folded, 4 if bits is None else bits, 8 if activation_bits is None else activation_bits, ends)
    data = samples_of(folded, data, "mrecg")
    found = reconstruct(folded, data, stated, settings, progress)
    chosen = _of_averages(folded, data) | (types or {}) | {name: _chosen(found, name) for name in names}
    log = found.losses
    together = [[found.twin.units[n].name for n in group] for group in found.groups]
    alike = ends is None or policy is not None or types is not None
    exception = [] if alike else [("first and last layer", f"{ends} bits for weights and inputs, not as the others")]
    facts = [
        *exception,
        ("base", settings.base),
        ("calibration samples", str(len(data))),
        ("units", f"{len(found.twin.units)}, reconstructed in {len(together)} groups"),
        *(("together", " + ".join(group)) for group in together if len(group) > 1),
        ("largest loss of a unit", f"{largest(log.before):.4g} rounded to nearest, {largest(log.after):.4g} now"),
        ("oscillation", f"{oscillation(log.before):.4g} rounded to nearest, {oscillation(log.after):.4g} now"),
    ]
    details = {"losses": log, "groups": together}
    return Result(build(folded, chosen), "mrecg", facts, folded=folded, chosen=chosen, details=details)


def uniform(folded: keras.Model, bits: int, activation_bits: int, ends: int | None = ENDS) -> Policy:
    """The same bits for all layers, but the first and the last (`ends`; None: these too)."""
    names = [layer.name for layer in weighted(folded)]
    policy = dict.fromkeys(names, Bits(bits, activation_bits))
    return policy if ends is None else policy | {names[0]: Bits(ends, ends), names[-1]: Bits(ends, ends)}


def _of_averages(folded: keras.Model, data: np.ndarray) -> dict[str, LayerTypes]:
    """Types of the averages that nothing rounds the inputs of the model before; others read exact sums."""
    bare = averages_of_inputs(folded)
    ranges = measured(folded, data) if bare else {}
    return {name: LayerTypes(covering(*ranges[name], ENDS)) for name in bare}


def _chosen(found: Reconstruction, name: str) -> LayerTypes:
    layer, start = found.twin.layers[name], found.starts[name]
    if start.types is None:
        raise ValueError(f"layer '{name}': float scales have no fixed-point types")
    given = types_of(layer.given(), start.types.input) if start.learned else start.types.input
    return replace(start.types, input=given, kernel_values=layer.kernel())
