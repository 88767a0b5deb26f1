"""What logic costs in LUTs, as formulas on tensors of widths: differentiable, and meant to equal what Yosys counts.

Each layer prices its own arithmetic by these in `luts()`; what stands between two layers is in `hgq/layers/arrival.py`.
Constants are fitted to our compiler at effort 1 with generic Verilog (`benchmarks/RESULTS.md` has the errors).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import ops

from hgq.quantizers.exact import Tensor, straight_through
from hgq.resource.luts import CONSTANT
from hgq.resource.luts import signed_digits as digits_of

COMPARED = 1.5
"""LUTs for each bit of the larger of two numbers: half of one compares, one selects."""
LAST_DIGIT = 0.3
"""Part of its price that the only digit of a column is pressed by: it is a wire, but the first of many."""
SPARE_BIT = 1.0 / 3.0
"""Part of its price that a width is pressed by for each bit of a weight beyond the first: a digit that it may hold."""
BIAS_PRESSURE = 3.0
"""LUTs by which each bit of a bias is pressed: it widens all that follows."""


def sums(widths: Tensor, digits: Tensor, spare: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """LUTs of ``multiply(x, kernel)`` for a constant kernel, fully unrolled, summed over all outputs.

    For each output, over its inputs i::

        N = sum digits_i          S = sum digits_i * w_i
        price = S * (1 - 1/N) + CONSTANT if N > 0, else 0

    since N terms take N - 1 adders, each about as wide as what it adds: the bits beyond that width, and what adders
    share with other outputs, are about the same number. Backward, straight through::

        d price/d digits_i = m * w_i          m = 1 if N >= 2, else LAST_DIGIT
        d price/d w_i      = m * (digits_i + SPARE_BIT * spare_i)

    and `Quantizer.digits` passes the first on to each bit of a live width. A weight that has bits to spare will hold
    more digits in some other step of training: widths pressed by the digits of the moment stay wider than they should.

    Args:
        widths: bits of one sample of x, sign included, with a batch axis of 1.
        digits: signed digits of the kernel's elements.
        spare: bits of the kernel's elements beyond the first, as `Quantizer.spare_bits`.
        multiply: the product, linear in both.
    """
    live = ops.cast(ops.stop_gradient(widths) > 0.0, widths.dtype)
    count = multiply(live, ops.stop_gradient(digits))
    terms = multiply(widths, digits)
    value = terms * (1.0 - 1.0 / ops.maximum(count, 1.0)) + CONSTANT * ops.cast(count > 0.5, terms.dtype)
    pressed = terms + multiply(widths, SPARE_BIT * ops.stop_gradient(spare))
    slope = pressed * ops.where(count > 1.5, 1.0, LAST_DIGIT)
    return ops.sum(straight_through(value, slope))


def biases(bits: Tensor) -> Tensor:
    """LUTs of biases of these widths: 0, for `sums` counts them with rounding; backward BIAS_PRESSURE for each bit."""
    return ops.sum(straight_through(ops.zeros_like(bits), BIAS_PRESSURE * bits))


def products(left: Tensor, right: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """LUTs of ``multiply(left, right)`` of two variables: each product is the product of both widths, and N of them are
    added up by N - 1 adders, each as wide as a product."""
    count = multiply(ops.ones_like(left), ops.ones_like(right))
    partial = multiply(left, ops.ones_like(right)) + multiply(ops.ones_like(left), right)  # widths of the products
    return ops.sum(multiply(left, right) + partial * (1.0 - 1.0 / ops.maximum(count, 1.0)))


def table(inputs: Tensor, outputs: Tensor) -> Tensor:
    """LUTs of tables: for each output bit one up to six input bits, and twice as many with each bit more.

    Args:
        inputs, outputs: widths of argument and result of each table.
    """
    return ops.sum(outputs * 2.0 ** ops.relu(inputs - 6.0))


def scales(widths: Tensor, constants: np.ndarray) -> Tensor:
    """LUTs of each number times a constant integer: one adder less than the constant has signed digits."""
    adders = np.maximum(digits_of(constants) - 1, 0)
    return ops.sum(widths * ops.convert_to_tensor(adders, dtype=widths.dtype))
