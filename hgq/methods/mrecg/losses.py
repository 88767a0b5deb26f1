"""How far the output of each unit is from the float network's, and how unevenly that grows with depth."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from hgq.methods.mrecg.units import Unit

BATCH = 256


@dataclass(frozen=True)
class LossLog:
    """The reconstruction loss of each unit, all units before it quantised too.

    before: every weight rounded to the nearest, scales as they were found; after: the result.
    """

    names: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray

    def text(self) -> str:
        """A line for each unit, then the two measures."""
        lines = [f"{'unit':<44}{'nearest':>12}{'result':>12}"]
        rows = zip(self.names, self.before, self.after, strict=True)
        lines += [f"{name:<44}{before:>12.5g}{after:>12.5g}" for name, before, after in rows]
        for name, measure in (("largest", largest), ("sum of |differences|", oscillation)):
            lines.append(f"{name:<44}{measure(self.before):>12.5g}{measure(self.after):>12.5g}")
        return "\n".join(lines)


def largest(losses: np.ndarray) -> float:
    """max L_i: what the accuracy follows, as the paper found."""
    return float(np.max(losses))


def oscillation(losses: np.ndarray) -> float:
    """sum |L_i - L_{i+1}|."""
    return float(np.abs(np.diff(losses)).sum())


def unit_losses(
    wanted: keras.Model, given: keras.Model, units: tuple[list[Unit], list[Unit]], data: np.ndarray
) -> np.ndarray:
    """L_i of each unit: the squared error summed over channels, mean over samples and positions.

    Args:
        wanted, given: the float network, and the same one quantised; units: theirs.
        data: what they take.
    """
    first, second = (
        keras.Model(model.inputs[0], [unit.last for unit in its])
        for model, its in zip((wanted, given), units, strict=True)
    )
    total = np.zeros(len(units[0]))
    for start in range(0, len(data), BATCH):
        batch = data[start : start + BATCH]
        pairs = zip(_flat(first(batch, training=False)), _flat(second(batch, training=False)), strict=True)
        total += len(batch) * np.array([float(ops.convert_to_numpy(reconstruction_loss(y, q))) for y, q in pairs])
    return total / len(data)


def reconstruction_loss(wanted: keras.KerasTensor, given: keras.KerasTensor) -> keras.KerasTensor:
    """The squared error summed over the last axis, mean over all others."""
    return ops.mean(ops.sum(ops.square(wanted - given), axis=-1))


def run(model: keras.Model, data: np.ndarray) -> np.ndarray:
    """What a model gives at inference, batch by batch (without the compilation of `predict`)."""
    parts = [model(data[start : start + BATCH], training=False) for start in range(0, len(data), BATCH)]
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def _flat(outputs: object) -> list:
    return outputs if isinstance(outputs, list) else [outputs]
