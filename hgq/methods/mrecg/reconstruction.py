"""Post-training quantisation by reconstruction: unit after unit, weights are rounded so that its output stays.

AdaRound's rounding, BRECQ's and QDrop's blocks, and MRECG's choice of which blocks to take together. Constants are
those of the authors' code where it is public; what is reconstructed says so (`capacity`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from hgq.methods.mrecg.capacity import differences, groups, pairs_to_join, parameter_capacity
from hgq.methods.mrecg.fit import BASES, Fit, Settings, learning
from hgq.methods.mrecg.layer import Rounded
from hgq.methods.mrecg.losses import LossLog, run, unit_losses
from hgq.methods.mrecg.start import Start, Widths, starts
from hgq.methods.mrecg.units import joined, partition

Progress = Callable[[str], None]


class Twin:
    """A float network and its double, whose weights are being rounded; what is compiled for a unit is kept.

    model: the double; layers: its `Rounded` layers by name.
    units, twins: the units of the float network, and of the double.
    """

    def __init__(self, folded: keras.Model, begun: dict[str, Start], settings: Settings):
        self.layers: dict[str, Rounded] = {}
        self._fits: dict[tuple[int, ...], Fit] = {}
        self.folded = folded

        def stands_for(layer: keras.layers.Layer) -> keras.layers.Layer:
            if layer.name not in begun:
                return layer
            start = begun[layer.name]
            made = Rounded(layer, start.weights, start.given, learning(settings, start.learned))
            self.layers[layer.name] = made
            return made

        self.model = keras.models.clone_model(folded, clone_function=stands_for)
        self.units, self.twins = partition(folded, set(begun)), partition(self.model, set(begun))

    def begin(self, begun: dict[str, Start], settings: Settings) -> None:
        """Every weight rounded to the nearest again, on these grids."""
        for number, (name, layer) in enumerate(self.layers.items()):
            layer.begin(begun[name].weights, begun[name].given, BASES[settings.base], settings.seed + number)

    def reconstruct(self, plan: list[list[int]], data: np.ndarray, settings: Settings, progress: Progress) -> None:
        """Fits the groups of units of the plan, in order; each gets what the quantised groups before it give."""
        exact = given = data
        for number, group in enumerate(plan, 1):
            unit, twin = joined([self.units[n] for n in group]), joined([self.twins[n] for n in group])
            progress(f"reconstruct {unit.name} ({number} of {len(plan)})")
            wanted, part = run(unit.model(), exact), twin.model()
            if tuple(group) not in self._fits:
                self._fits[tuple(group)] = Fit(part, settings)
            for layer in unit.layers:
                self.layers[layer.name].stretch(len(group))
            self._fits[tuple(group)](given, exact, wanted, settings, settings.seed + number, len(group))
            if not all(np.isfinite(v).all() for v in map(ops.convert_to_numpy, part.trainable_variables)):
                raise ValueError(
                    f"unit '{unit.name}': fitting it ends in NaN; its outputs reach {np.abs(wanted).max():.3g}, whose "
                    "squares float32 cannot sum. Fix: scale data or weights to values of ordinary size"
                )
            exact, given = wanted, run(part, given)

    def losses(self, data: np.ndarray) -> np.ndarray:
        """The loss of each unit on `data`."""
        return unit_losses(self.folded, self.model, (self.units, self.twins), data)


@dataclass(frozen=True)
class Reconstruction:
    """What was found.

    twin: the network with rounded weights and quantised inputs; `twin.model` computes in float what hardware will, but
        for the rounding of biases.
    starts: what each layer started with.
    groups, capacities: the units that were taken together, by number, and what decided that.
    losses: the log of the units.
    """

    twin: Twin
    starts: dict[str, Start]
    groups: list[list[int]]
    capacities: np.ndarray
    losses: LossLog

    @property
    def model(self) -> keras.Model:
        return self.twin.model


def reconstruct(
    folded: keras.Model,
    data: np.ndarray,
    widths: Widths,
    settings: Settings,
    progress: Progress = lambda step: None,
    twin: Twin | None = None,
) -> Reconstruction:
    """Rounds the weights of a folded network for the samples `data`.

    Args:
        folded: what `fold` gives.
        data: calibration samples, some hundreds, without labels.
        widths: for each layer with weights its bits, whose types are then found here and the scales of inputs learned;
            or its types, which stay as they are.
        progress: is told each step as it begins.
        twin: of an earlier call for this network with the same steps, rate and kind of scales: saves compiling it. What
            that call returned is then no more.

    Raises:
        ValueError: as `starts`; no samples, or fewer than a batch.
        ConversionError: as `partition`.
    """
    if len(data) < settings.batch:
        raise ValueError(f"data: {len(data)} samples are less than one batch of {settings.batch}")
    progress("find scales")
    begun = starts(folded, data, widths, settings.scales == "float")
    twin = twin or Twin(folded, begun, settings)
    units = twin.units
    count = (len(units) - 1) // 3 if settings.joined is None else settings.joined
    capacities = np.array([parameter_capacity(unit, {n: s.capacity_bits for n, s in begun.items()}) for unit in units])
    if settings.capacity == "losses" and count:
        twin.begin(begun, settings)
        twin.reconstruct([[n] for n in range(len(units))], data, settings, lambda step: progress(f"alone: {step}"))
        capacities = twin.losses(data)
    plan = groups(pairs_to_join(differences(capacities), count, settings.longest))

    twin.begin(begun, settings)
    before = twin.losses(data)
    twin.reconstruct(plan, data, settings, progress)
    log = LossLog(tuple(unit.name for unit in units), before, twin.losses(data))
    return Reconstruction(twin, begun, plan, capacities, log)
