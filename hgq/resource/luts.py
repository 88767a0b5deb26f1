"""LUTs of a network from exact integers, column by column: what `hgq.refinement` minimises.

LUTs of a sum of terms c_i * x_i, whose operands have w_i bits:

    digit * (sum_i digits(c_i) * (w_i + margin) - max_i (w_i + margin)) + bias * [b != 0]

with the digits of the canonical signed-digit form: each is an adder of about the operand's width, the first one a wire.
Of a quantizer of w bits: ``rectifier * w`` where a ReLU stands before it, ``saturation * w`` where it saturates.

`hgq/refinement/core/change.hpp` computes the same, element by element.
"""

from __future__ import annotations

import numpy as np

PRICES = {"digit": 1.0, "margin": 1.0, "bias": 4.0, "rectifier": 1.0, "saturation": 1.5}
"""LUTs a bit (`bias`: each), fitted to the netlist's estimate; see benchmarks/RESULTS.md."""


def signed_digits(m: np.ndarray) -> np.ndarray:
    """Digits that are not 0 in the canonical signed-digit form of the integers `m`, below 2^61 in magnitude.

    >>> signed_digits(np.array([0, 1, -2, 3, 5, 7, 11, 23])).tolist()
    [0, 1, 1, 2, 2, 2, 3, 3]
    """
    m = np.abs(np.asarray(m, np.int64)).astype(np.uint64)
    return np.bitwise_count(m ^ (m * np.uint64(3))).astype(np.int64)


def sum_luts(coefficients: np.ndarray, widths: np.ndarray, biased: bool) -> float:
    """LUTs of one sum, by the formula of this module.

    Args:
        coefficients: integers; their LSB does not matter.
        widths: bits of each operand; 0 for one that is always 0.
        biased: whether a constant other than 0 is added.
    """
    terms = (np.asarray(widths) + PRICES["margin"]) * (np.asarray(widths) > 0) * PRICES["digit"]
    used = signed_digits(coefficients) * terms
    most = float((terms * (used > 0)).max(initial=0))
    return float(used.sum()) - most + (PRICES["bias"] if biased and most > 0 else 0.0)
