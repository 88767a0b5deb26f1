"""Input expansion: activations as a sum of orders too, and the products of orders that are worth computing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hgq.methods.rex.expand import Expansion, Operator, expand, power_of_two


def product_pairs(orders: int) -> Iterator[tuple[int, int]]:
    """The products R(k) I(l) that are kept, ``k + l <= K + 1``: those of the size of the last order or larger.

    >>> list(product_pairs(2))
    [(1, 1), (1, 2), (2, 1)]
    """
    return ((k, l) for k in range(1, orders + 1) for l in range(1, orders + 2 - k))


def expand_input(x: np.ndarray, bits: int, orders: int, operator: Operator = power_of_two) -> Expansion:
    """I(1) = Q(x), I(l) = Q(x - I(1) - ... - I(l-1)), with one scale for all of `x`."""
    flat = np.asarray(x, np.float64).reshape(-1, 1)
    return expand(flat, bits, orders, operator=operator)


def expanded_product(x: np.ndarray, kernel: Expansion, bits: int, operator: Operator = power_of_two) -> np.ndarray:
    """``x @ W`` of a dense layer from the K (K + 1) / 2 products of orders that are kept; float64.

    Args:
        x: samples, (n, inputs).
        kernel: expansion of the kernel, (inputs, outputs).
        bits: width of the integers of each order of the input.
    """
    orders = len(kernel.orders)
    given = [order.value.reshape(x.shape) for order in expand_input(x, bits, orders, operator).orders]
    return np.sum([given[l - 1] @ kernel.orders[k - 1].value for k, l in product_pairs(orders)], axis=0)
