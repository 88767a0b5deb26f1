"""Each pass on a module small enough to read; that nothing changes in meaning is in tests/lower."""

from __future__ import annotations

from hgq.fixed import FixedType
from hgq.netlist import Builder, Module
from hgq.passes import hoist_rounding, merge_constants


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
