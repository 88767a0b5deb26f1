"""Rank-preserving imitation: the quantised net's attribution is drawn to the float net's, sharpened by a power p.

t -> t^p keeps the order of all places for every p > 0 and concentrates the map as p grows, which is easier to imitate
for a net of small capacity::

    L_G = mean over places and samples of (n(M_float^p) - n(M_quantised))^2        n: divided by its L2 norm

(GMPQ, form of the public code. How the paper words its L_p is reconstructed.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from hgq.quantizers.exact import Tensor

FIXED_P = 3.0
PRODUCT = 24.0
"""Of the adaptive p: 4 x 4 bits give 1.5, 2 x 2 bits give 6."""
_TINY = 1e-12


def normalised(maps: Tensor) -> Tensor:
    """Each sample flattened and divided by its L2 norm; a map of zeros stays zero."""
    flat = ops.reshape(maps, (maps.shape[0] or -1, int(np.prod(maps.shape[1:]))))
    return flat * ops.rsqrt(ops.sum(ops.square(flat), axis=-1, keepdims=True) + _TINY)


def sharpened(maps: Tensor, p: Tensor | float) -> Tensor:
    """``maps ** p`` of maps >= 0, scaled by each one's largest value first, so that no power overflows."""
    axes = list(range(1, len(maps.shape)))
    top = ops.maximum(ops.max(maps, axis=axes, keepdims=True), _TINY)
    return ops.where(maps > 0, ops.power(ops.maximum(maps / top, _TINY), p), ops.zeros_like(maps))


def imitation_loss(teacher: Tensor, student: Tensor, p: Tensor | float) -> Tensor:
    """L_G of a batch of maps ``(batch, ...)``; no gradient to the teacher."""
    wanted = ops.stop_gradient(normalised(sharpened(teacher, p)))
    return ops.mean(ops.square(wanted - normalised(student)))


def adaptive_p(widths: Sequence[tuple[Tensor, Tensor]], product: float = PRODUCT) -> Tensor:
    """p by capacity: ``product * mean over layers of 1 / (E[weight bits] E[activation bits])``."""
    return product * sum(1.0 / (w * a) for w, a in widths) / float(len(widths))


def rank_distance(teacher: np.ndarray, student: np.ndarray) -> float:
    """ARD: mean over samples and places of the distance of the two ranks, in parts of the number of places.

    0 for the same order everywhere; 1/3 for two random orders of many places. Equal values share their mean rank.
    """
    first, second = _ranks(teacher), _ranks(student)
    return float(np.abs(first - second).mean() / first.shape[1])


def rank_correlation(teacher: np.ndarray, student: np.ndarray) -> float:
    """Spearman's rho, the mean over samples whose two maps are not constant; NaN where there is none."""
    first, second = (r - r.mean(axis=1, keepdims=True) for r in (_ranks(teacher), _ranks(student)))
    norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    rho = (first * second).sum(axis=1)[norms > 0] / norms[norms > 0]
    return float(rho.mean()) if len(rho) else float("nan")


def _ranks(maps: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(np.asarray(maps).reshape(len(maps), -1), axis=1)
