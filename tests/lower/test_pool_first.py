"""max_pool(relu(x)) is made as relu(max_pool(x)) where that leaves fewer rectifiers."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph, evaluate
from hgq.ir.graph import Builder
from hgq.lower import lower
from hgq.lower.pool_first import pool_first
from hgq.netlist import evaluate_design


def graph(strides: int = 2, *, shown: bool = False, dead: bool = False) -> Graph:
    """x (4, 4, 2) -> affine -> relu -> max_pool; `dead`: one element is below 0 always, on a finer grid than others."""
    b = Builder()
    types = FixedArray.full((4, 4, 2), FixedType.parse("s4f0"))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="x")
    scale, offset, grid = np.full((4, 4, 2), [3, -5]), np.full((4, 4, 2), [1, 0]), np.zeros((4, 4, 2), int)
    if dead:
        offset[1, 1, 0], grid[1, 1, 0] = -101, 2
    held = FixedArray(np.full((4, 4, 2), True), np.full((4, 4, 2), 8), grid)
    b.add("y", "affine", "x", origin="norm", scale=scale, scale_types=held, offset=offset, offset_types=held)
    b.add("r", "relu", "y", origin="norm")
    b.add("p", "max_pool", "r", origin="pool", size=(2, 2), strides=(strides, strides), padding=(0, 0, 0, 0))
    return b.graph("p", "r") if shown else b.graph("p")


@pytest.mark.parametrize("found", [graph(), graph(1), graph(shown=True), graph(dead=True)])
def test_the_design_computes_the_same(found: Graph) -> None:
    x = np.random.default_rng(0).integers(-8, 8, (300, 4, 4, 2))
    design = lower(found, "top")
    got = evaluate_design(design, {"x": x.reshape(300, -1)})
    golden = evaluate(found, {"x": x})
    for wire, name in zip(design.outputs, found.outputs, strict=True):
        assert got[wire].tolist() == golden[name].reshape(300, -1).tolist()


def test_a_window_has_one_rectifier() -> None:
    assert lower(graph(), "top").count("relu") == 4 * 2, "a window and channel"
    assert [node.op for node in pool_first(graph())] == ["input", "affine", "max_pool", "relu"]


def test_overlapping_windows_and_a_relu_that_others_read_stay_as_they_are() -> None:
    for found in (graph(1), graph(shown=True)):
        assert pool_first(found).nodes == found.nodes


def test_an_element_that_is_never_positive_does_not_make_the_grid_finer() -> None:
    found = graph(dead=True)
    assert found["y"].range.frac[1, 1, 0] == 2 and not found["p"].range.frac.any(), "relu(-101/4 - x/2) is on any grid"
    assert pool_first(found).nodes == found.nodes
