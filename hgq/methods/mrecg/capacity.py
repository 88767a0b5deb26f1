"""How much a unit can hold (ModCap), and which neighbours are therefore reconstructed together.

Ma et al., "Solving Oscillation Problem in Post-Training Quantization Through a Theoretical Perspective", CVPR 2023.
Reconstructed: neither the two capacities nor the choice of the largest differences are in the authors' public code,
and the factor 1.6 is known from secondary sources only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hgq.methods.mrecg.units import Unit
from hgq.methods.network import kernel_value

STRIDED = 1.6
"""What a weight of a layer with strides counts, beside one of a layer without."""


def parameter_capacity(unit: Unit, bits: dict[str, float]) -> float:
    """The data-free ModCap: sum over the layers of weights x bits x (1, or `STRIDED` with strides above 1).

    Args:
        bits: width of the weights of each layer, by name.
    """
    return float(sum(kernel_value(layer).size * bits[layer.name] * _strided(layer) for layer in unit.layers))


def _strided(layer: object) -> float:
    return STRIDED if max(getattr(layer, "strides", (1,))) > 1 else 1.0


def differences(capacities: Sequence[float]) -> np.ndarray:
    """(ModCap_i - ModCap_{i+1})^2 of each pair of neighbours."""
    return np.diff(np.asarray(capacities, np.float64)) ** 2


def pairs_to_join(differences: np.ndarray, count: int, longest: int) -> np.ndarray:
    """Which pairs of neighbours to reconstruct together: the `count` largest differences, as booleans.

    This maximises sum(m_i D_i) - lambda (sum(m_i) - count)^2 over m in {0, 1}. A pair of equal capacity is never
    joined, and neither is one that would make more than `longest` units one; the next largest takes its place.
    """
    mask = np.zeros(len(differences), bool)
    for pair in np.argsort(-differences, kind="stable"):
        if mask.sum() == count or differences[pair] == 0:
            break
        mask[pair] = True
        if max(len(group) for group in groups(mask)) > longest:
            mask[pair] = False
    return mask


def groups(mask: np.ndarray) -> list[list[int]]:
    """The units, by number, that are reconstructed together: all of them, once, in order."""
    found = [[0]]
    for number, together in enumerate(mask, 1):
        if together:
            found[-1].append(number)
        else:
            found.append([number])
    return found
