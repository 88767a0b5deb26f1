"""Each pass on a module small enough to read; that nothing changes in meaning is in tests/lower."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.fixed import FixedType
from hgq.netlist import Builder, Module, evaluate_module
from hgq.netlist.cost import lut_estimate
from hgq.passes import absorb_constants, hoist_rounding, merge_constants


def ops(module: Module) -> list[str]:
    """The nodes that are logic, as text."""
    return [f"{n.op} {' '.join(map(str, n.args))}".strip() for n in module.nodes if n.op not in ("input", "const")]


def neuron(*, read_twice: bool = False) -> Module:
    """keep(relu(x + 5) + 2, drop 2)"""
    b = Builder("m")
    (x,) = b.input("x", [(-64, 63, 4)])
    rectified = b.relu(b.add(x, b.const(5, 4), frac=4))
    rounded = b.keep(b.add(rectified, b.const(2, 4), frac=4), 2, FixedType.parse("u5f2"))
    return b.module({"y": [rounded, rectified] if read_twice else [rounded]})


def constants(module: Module) -> list[int]:
    return sorted(n.lo for n in module.nodes if n.op == "const")


def test_a_rounding_moves_before_the_relu_and_joins_the_bias() -> None:
    before = neuron()
    assert [op.split()[0] for op in ops(before)] == ["add", "relu", "add", "keep"]
    hoisted = hoist_rounding(before)
    assert [op.split()[0] for op in ops(hoisted)] == ["add", "add", "relu", "keep"]
    merged = merge_constants(hoisted)
    assert [op.split()[0] for op in ops(merged)] == ["add", "relu", "keep"]
    assert constants(merged) == [7]


def test_a_relu_that_something_else_reads_stays_where_it_is() -> None:
    before = neuron(read_twice=True)
    assert hoist_rounding(before) == before


def test_constants_of_either_sign_and_order_join() -> None:
    b = Builder("m")
    (x,) = b.input("x", [(0, 7, 0)])
    plus = b.add(b.add(x, b.const(9), 1, 0), b.const(-4))
    minus = b.sub(b.sub(b.const(20), x), b.const(3))
    module = merge_constants(b.module({"y": [plus, minus]}))
    assert [op.split()[0] for op in ops(module)] == ["add", "sub"]
    assert constants(module) == [5, 17]


def test_a_sum_that_something_else_reads_keeps_its_constant() -> None:
    b = Builder("m")
    (x,) = b.input("x", [(0, 7, 0)])
    inner = b.add(x, b.const(9))
    module = b.module({"y": [b.add(inner, b.const(4)), inner]})
    assert merge_constants(module) == module


def computed(module: Module, samples: int = 200) -> list[list[int]]:
    """What the module gives for random inputs and for both ends of every range."""
    rng = np.random.default_rng(3)
    nodes = [module.nodes[ref] for port in module.inputs for ref in port.refs]
    x = np.stack([np.concatenate([[n.lo, n.hi], rng.integers(n.lo, n.hi + 1, samples)]) for n in nodes], axis=1)
    return [y.tolist() for y in evaluate_module(module, [x])]


def test_a_bias_goes_onto_low_bits_that_are_wires() -> None:
    b = Builder("m")
    x, y = b.input("x", [(-8, 7, 0), (-8, 7, 0)])
    before = b.module({"z": [b.add(b.add(x, y, 3, 0), b.const(5))]})
    after = absorb_constants(before)
    assert [op.split()[0] for op in ops(after)] == ["concat", "add"]
    assert computed(after) == computed(before) and lut_estimate(after) < lut_estimate(before)


def test_a_bias_that_is_a_minuend_turns_the_signs_inside() -> None:
    b = Builder("m")
    x, y, z = b.input("x", [(-128, 127, 0), (-128, 127, 0), (0, 3, 0)])
    total = b.add(b.sub(x, y), z, 0, 2)
    before = b.module({"z": [b.sub(b.const(300), total)]})
    after = absorb_constants(before)
    assert [op.split()[0] for op in ops(after)].count("sub") == 2 and len(ops(after)) == 3
    assert computed(after) == computed(before) and lut_estimate(after) < lut_estimate(before)
    (result,) = after.outputs[0].refs
    assert (after.nodes[result].lo, after.nodes[result].hi) == (300 - 267, 300 + 255), "ranges move with the constant"


def test_a_bias_of_a_sum_that_something_else_reads_stays() -> None:
    b = Builder("m")
    x, y = b.input("x", [(-8, 7, 0), (-8, 7, 0)])
    total = b.add(x, y, 3, 0)
    before = b.module({"z": [b.add(total, b.const(5)), total]})
    assert absorb_constants(before) == before


@pytest.mark.parametrize("seed", range(6))
def test_random_trees_with_biases_compute_the_same_in_no_more_luts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = Builder("m")
    ranges = [sorted(rng.integers(-20, 20, 2).tolist()) for _ in range(12)]
    terms = list(b.input("x", [(lo, hi + 1, 0) for lo, hi in ranges]))
    outputs = []
    for _ in range(40):
        k, j = rng.choice(len(terms), 2, replace=False)
        sa, sb = ((int(rng.integers(4)), 0), (0, int(rng.integers(4))))[rng.integers(2)]
        terms.append((b.add, b.sub)[rng.integers(2)](terms[k], terms[j], sa, sb))
        bias = b.const(int(rng.integers(-200, 200)))
        shift = int(rng.integers(3)) * int(rng.integers(2))
        outputs.append((b.add(terms[-1], bias, shift, 0), b.sub(bias, terms[-1], 0, shift))[rng.integers(2)])
    outputs += [b.neg(outputs[-1])]
    used = rng.choice(outputs, 12, replace=False)
    before = merge_constants(b.module({"y": [int(ref) for ref in used]}))
    after = absorb_constants(before)
    assert computed(after) == computed(before)
    assert lut_estimate(after) <= lut_estimate(before)
