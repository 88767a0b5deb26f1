"""Post-training quantisation by reconstruction: unit after unit, weights are rounded so that its output stays.

AdaRound's rounding, BRECQ's and QDrop's blocks, and MRECG's choice of which blocks to take together. Constants are
those of the authors' code where it is public; what is reconstructed says so (`capacity`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np

from hgq.methods.mrecg.capacity import differences, groups, pairs_to_join, parameter_capacity
from hgq.methods.mrecg.fit import Settings, fit, learning
from hgq.methods.mrecg.layer import Rounded
from hgq.methods.mrecg.losses import LossLog, run, unit_losses
from hgq.methods.mrecg.start import Start, Widths, starts
from hgq.methods.mrecg.units import Unit, joined, partition

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Reconstruction:
    """What was found.

    model: the network with rounded weights and quantised inputs; it computes in float what hardware will, but for the
        rounding of biases.
    layers: its `Rounded` layers by name, and what they started with.
    units, groups, capacities: the units, which were taken together, and what decided that.
    losses: the log of the units.
    """

    model: keras.Model
    layers: dict[str, Rounded]
    starts: dict[str, Start]
    units: list[Unit]
    groups: list[list[int]]
    capacities: np.ndarray
    losses: LossLog


def reconstruct(
    folded: keras.Model, data: np.ndarray, widths: Widths, settings: Settings, progress: Progress = lambda step: None
) -> Reconstruction:
    """Rounds the weights of a folded network for the samples `data`.

    Args:
        folded: what `fold` gives.
        data: calibration samples, some hundreds, without labels.
        widths: for each layer with weights its bits, whose types are then found here and the scales of inputs learned;
            or its types, which stay as they are.
        progress: is told each step as it begins.

    Raises:
        ValueError: as `starts`; no samples, or fewer than a batch.
        ConversionError: as `partition`.
    """
    if len(data) < settings.batch:
        raise ValueError(f"data: {len(data)} samples are less than one batch of {settings.batch}")
    progress("find scales")
    begun = starts(folded, data, widths, settings.scales == "float")
    units = partition(folded, set(begun))
    capacities = np.array([parameter_capacity(unit, {n: s.capacity_bits for n, s in begun.items()}) for unit in units])
    count = (len(units) - 1) // 3 if settings.joined is None else settings.joined
    if settings.capacity == "losses" and count:
        alone = replace(settings, joined=0, capacity="parameters")
        base = reconstruct(folded, data, widths, alone, lambda step: progress(f"{settings.base} alone: {step}"))
        capacities = base.losses.after
    plan = groups(pairs_to_join(differences(capacities), count, settings.longest))

    layers: dict[str, Rounded] = {}
    model = keras.models.clone_model(folded, clone_function=lambda layer: _twin(layer, begun, settings, layers))
    twins = partition(model, set(begun))
    before = unit_losses(folded, model, (units, twins), data)
    wanted = given = data
    for number, group in enumerate(plan, 1):
        unit, twin = joined([units[n] for n in group]), joined([twins[n] for n in group])
        progress(f"reconstruct {unit.name} ({number} of {len(plan)})")
        target, part = run(unit.model(), wanted), twin.model()
        fit(part, given, wanted, target, settings, seed=settings.seed + number)
        wanted, given = target, run(part, given)
    log = LossLog(tuple(unit.name for unit in units), before, unit_losses(folded, model, (units, twins), data))
    return Reconstruction(model, layers, begun, units, plan, capacities, log)


def _twin(
    layer: keras.layers.Layer, begun: dict[str, Start], settings: Settings, made: dict[str, Rounded]
) -> keras.layers.Layer:
    """What stands for a layer: `Rounded` where it has weights, itself otherwise."""
    if layer.name not in begun:
        return layer
    start = begun[layer.name]
    seed = settings.seed + len(made)
    made[layer.name] = Rounded(layer, start.weights, start.given, learning(settings, start.learned), seed)
    return made[layer.name]
