"""The sign of a tensor, of operations that have an exact meaning: a floor that saturates to -1..0 is -1 below 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.importers.passing import quantized
from hgq.importers.types import Types


def below(x: Any, bound: float, name: str) -> Any:
    """-1 where x < bound, else 0."""
    one = np.ones((1,), np.int64)
    types = Types(one, 0 * one, 0 * one, Rounding.TRN, Overflow.SAT)
    return quantized(types, name)(named(x - bound, f"{name}_moved") if bound else x)


def affine(x: Any, factor: float, offset: float, name: str) -> Any:
    """``factor * x + offset``, two operations with names of their own."""
    return named(named(x * factor, f"{name}_scaled") + offset, f"{name}_shifted")


def named(t: Any, name: str) -> Any:
    """The same tensor; the operation that made it gets the name."""
    t._keras_history.operation.name = name
    return t
