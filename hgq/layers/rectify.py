"""Activations that fixed-point numbers compute exactly, without a table."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from hgq.quantizers.exact import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": ops.relu,
    "relu6": lambda x: ops.clip(x, 0.0, 6.0),
    "hard_tanh": lambda x: ops.clip(x, -1.0, 1.0),
}
"""Those that multiply by nothing: every quantised layer may end with one. Names and meaning as in Keras."""


def nearest(value: float, bits: int) -> tuple[int, int]:
    """The integer m of `bits` bits, and frac, with ``m / 2**frac`` nearest to 0 < `value` <= 1; m is made odd.

    >>> nearest(1 / 6, 8), nearest(0.25, 8)
    ((171, 10), (1, 2))
    """
    frac = bits
    while round(value * 2**frac) < 1 << bits - 1:
        frac += 1
    while round(value * 2**frac) >= 1 << bits:
        frac -= 1
    m = round(value * 2**frac)
    while m % 2 == 0:
        m, frac = m // 2, frac - 1
    return m, frac
