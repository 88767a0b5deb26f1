"""Constants that cancel: the result is 0, which stands on no grid, while what it is made of stands on a fine one.

Found by fuzzing: a table with one entry, or a value saturated to one, before a bias of the opposite sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Builder
from hgq.lower import lower
from hgq.netlist.evaluate import evaluate_design

THREE = FixedArray.full((2, 1), FixedType(True, 4, 3))
ONE = FixedArray.full((1,), FixedType(True, 4, 3))


def weights(*values: int, shape: tuple[int, ...]) -> tuple[np.ndarray, FixedArray]:
    return np.array(values).reshape(shape), FixedArray.full(shape, FixedType(True, 6, 0))


def constants(builder: Builder) -> str:
    """Two elements that are always 3/8."""
    builder.add("x", "input", types=THREE, rounding=Rounding.RND, overflow=Overflow.SAT)
    table = np.full(16, 3)
    start = np.zeros((2, 1), np.int64)
    return builder.add("c", "lookup", "x", table=table, start=start, reads=THREE, types=THREE)


def linear(op: str, kernel_shape: tuple[int, ...]) -> Any:
    kernel, kernel_types = weights(1, shape=kernel_shape)
    attrs: dict[str, Any] = {"kernel": kernel, "kernel_types": kernel_types, "bias": np.array([-3]), "bias_types": ONE}
    if op == "conv":
        attrs |= {"strides": (1,), "padding": (0, 0), "dilation": (1,), "stretch": (1,), "groups": (1,)}
    return lambda builder: builder.add("y", op, "c", **attrs)


def affine(builder: Builder) -> str:
    scale, scale_types = weights(1, shape=(1,))
    return builder.add(
        "y", "affine", "c", scale=scale, scale_types=scale_types, offset=np.array([-3]), offset_types=ONE
    )


def pool(op: str, **attrs: Any) -> Any:
    """One element of a window is 0 or of the other sign."""

    def add(builder: Builder) -> str:
        scale = np.array([[-1], [1 if op == "sum_pool" else 0]])
        types = FixedArray.full((2, 1), FixedType(True, 2, 0))
        zero = np.zeros((2, 1), np.int64)
        builder.add(
            "s", "affine", "c", scale=scale, scale_types=types, offset=zero, offset_types=FixedArray(zero, zero, zero)
        )
        return builder.add("y", op, "s", size=(2,), strides=(2,), padding=(0, 0), **attrs)

    return add


CASES = {
    "dense": linear("dense", (1, 1)),
    "conv": linear("conv", (1, 1, 1)),
    "affine": affine,
    "sub": lambda builder: builder.add("y", "sub", "c", "c"),
    "max_pool": pool("max_pool"),
    "sum_pool": pool("sum_pool", halvings=(0,)),
}


@pytest.mark.parametrize("case", CASES)
def test_constants_that_cancel_are_nothing(case: str) -> None:
    builder = Builder()
    constants(builder)
    graph = builder.graph(CASES[case](builder))
    x = np.arange(-8, 8).reshape(-1, 1, 1).repeat(2, axis=1)
    golden = evaluate(graph, {"x": x})["y"]
    assert (golden == 0).all() and graph["y"].range.zero.all()
    design = lower(graph, "net")
    (made,) = evaluate_design(design, {design.inputs[0]: x.reshape(16, 2)}).values()
    assert (made == 0).all()
