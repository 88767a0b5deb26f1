"""LUTs of a network from exact integers, sum by sum: what `hgq.refinement` minimises.

LUTs of a sum of terms c_i * x_i, whose operands have w_i bits, with d_i digits of c_i in canonical signed-digit form::

    N = sum d_i      S = sum d_i * w_i      S * (1 - 1/N) + constant, if N > 0

since N terms take N - 1 adders, each about as wide as what it adds. `constant`: a bias or half an LSB for rounding. Of
a quantizer of w bits: ``rectifier * w`` where a ReLU stands before it, ``saturation * w`` where it saturates. What
nothing reads costs nothing.

`hgq/layers/luts.py` trains by the same, `hgq/refinement/core/change.hpp` computes it element by element.
"""

from __future__ import annotations

import numpy as np

CONSTANT = 4.5
"""LUTs of what is added to an output besides products: a bias, and half an LSB for rounding."""
PRICES = {"constant": CONSTANT, "rectifier": 1.0, "saturation": 1.0}
"""LUTs, of each bit but for `constant`; fitted to our compiler at effort 1 (benchmarks/RESULTS.md)."""


def signed_digits(m: np.ndarray) -> np.ndarray:
    """Digits that are not 0 in the canonical signed-digit form of the integers `m`, below 2^61 in magnitude.

    >>> signed_digits(np.array([0, 1, -2, 3, 5, 7, 11, 23])).tolist()
    [0, 1, 1, 2, 2, 2, 3, 3]
    """
    m = np.abs(np.asarray(m, np.int64)).astype(np.uint64)
    return np.bitwise_count(m ^ (m * np.uint64(3))).astype(np.int64)


def sum_luts(coefficients: np.ndarray, widths: np.ndarray) -> float:
    """LUTs of one sum, by the formula of this module.

    Args:
        coefficients: integers; their LSB does not matter.
        widths: bits of each operand; 0 for one that is always 0.
    """
    widths = np.asarray(widths, np.float64)
    digits = np.where(widths > 0, signed_digits(coefficients), 0)
    terms = int(digits.sum())
    return float((digits * widths).sum()) * (1 - 1 / terms) + PRICES["constant"] if terms else 0.0
