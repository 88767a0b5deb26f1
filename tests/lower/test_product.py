"""Products in steps: every operand that two ranges have, and the range of the result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hgq.lower.product import CHAIN, TABLE_BITS, product
from hgq.netlist import Builder, Design, Instance, Module, Wire, evaluate_module
from hgq.passes import insert_registers

RANGES = [(0, 1), (-1, 0), (-1, 1), (-3, 5), (2, 6), (-8, 7), (0, 15), (-20, -3), (0, 100), (-128, 127)]


def multiplier(*ranges: tuple[int, int]) -> Module:
    builder = Builder("m")
    x = builder.input("x", [(lo, hi, 0) for lo, hi in ranges])
    return builder.module({"y": [product(builder, x[0], x[-1], "product")]})


@pytest.mark.parametrize("a,b", [*itertools.product(RANGES, repeat=2)], ids=str)
def test_every_product_of_two_ranges(a: tuple[int, int], b: tuple[int, int]) -> None:
    module = multiplier(a, b)
    pairs = np.array(list(itertools.product(range(a[0], a[1] + 1), range(b[0], b[1] + 1))))
    (got,) = evaluate_module(module, [pairs])
    assert (got[:, 0] == pairs.prod(axis=1)).all()
    made = module.nodes[module.outputs[0].refs[0]]
    assert (made.lo, made.hi) == (got.min(), got.max()), "the range is exact"
    assert all(1 in [module.nodes[arg].hi for arg in n.args] for n in module.nodes if n.op == "mul"), "rows of ANDs"


@pytest.mark.parametrize("a", RANGES, ids=str)
def test_every_square(a: tuple[int, int]) -> None:
    values = np.arange(a[0], a[1] + 1)[:, None]
    (got,) = evaluate_module(multiplier(a), [values])
    assert (got == values**2).all()


def test_registers_stand_between_the_steps() -> None:
    assert TABLE_BITS < 16 and CHAIN < 16
    module = multiplier((-(1 << 15), (1 << 15) - 1), (-(1 << 15), (1 << 15) - 1))
    elements = tuple((module.nodes[r].lo, module.nodes[r].hi, 0) for r in module.outputs[0].refs)
    wires = {
        "x": Wire("x", tuple((module.nodes[r].lo, module.nodes[r].hi, 0) for r in module.inputs[0].refs), "x"),
        "y": Wire("y", elements, "y"),
    }
    one = Instance("m", ("x",), ("y",), (0,))
    design = Design("top", {"m": module}, (one,), wires, ("x",), ("y",), (0,))
    latencies = [insert_registers(design, ns).latency for ns in (50.0, 5.0, 2.0)]
    assert latencies == sorted(latencies) and latencies[0] == 2 and latencies[2] > 6
