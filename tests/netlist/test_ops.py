"""Ranges against brute force over small operands, the builder's simplifications, and 64-bit limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hgq.errors import IRError
from hgq.fixed import FixedType
from hgq.netlist import OPS, Builder, Module, Node, Port, evaluate_module

OPERANDS = {"signed": (-5, 3), "unsigned": (0, 6), "above": (2, 5), "negative": (-4, -2)}
PARAMS = {
    "add": [(0, 0), (2, 0), (0, 3)],
    "sub": [(0, 0), (2, 0), (0, 3)],
    "concat": [(3,), (5,)],
    "add3": [(0, 0, 0, 1, 1, 1), (0, 2, 1, 1, -1, 1), (3, 0, 1, -1, -1, 1)],
    "neg": [()],
    "relu": [()],
    "clamp": [(-2, 1), (0, 3), (-1, 0)],
    "max": [(0, 0), (2, 0), (0, 3)],
    "min": [(0, 0), (2, 0), (0, 3)],
    "mul": [()],
    "lookup": [(-8, *(n * n % 23 - 9 for n in range(24)))],
    "table_sum": [(sign, 1, 2, 1, 4, *(n * n % 23 - 9 for n in range(16))) for sign in (1, -1)],
    "table": [(2, 4, 3, *(n * n % 23 - 9 for n in range(128)))],
    "keep": [(0, 1, 3), (1, 0, 2), (2, 1, 2), (-2, 1, 9), (0, 0, 2), (4, 1, 3)],
    "extend": [(-20, 20)],
    "register": [()],
}
MEANING = {
    "add": lambda p, a, b: (a << p[0]) + (b << p[1]),
    "sub": lambda p, a, b: a * 2 ** p[0] - b * 2 ** p[1],
    "concat": lambda p, a, b: a * 2 ** p[0] + b,
    "add3": lambda p, a, b, c: p[3] * a * 2 ** p[0] + p[4] * b * 2 ** p[1] + p[5] * c * 2 ** p[2],
    "neg": lambda p, a: 0 - a,
    "relu": lambda p, a: a if a > 0 else 0,
    "clamp": lambda p, a: sorted((p[0], a, p[1]))[1],
    "max": lambda p, a, b: a * 2 ** p[0] if a * 2 ** p[0] > b * 2 ** p[1] else b * 2 ** p[1],
    "min": lambda p, a, b: a * 2 ** p[0] if a * 2 ** p[0] < b * 2 ** p[1] else b * 2 ** p[1],
    "mul": lambda p, a, b: sum([a] * b) if b > 0 else -sum([a] * -b),
    "lookup": lambda p, a: p[1 + a + 8],
    "table_sum": lambda p, a, b: 2 * a + p[0] * 4 * p[5 + b % 16],
    "table": lambda p, a, b: p[3 + a % 16 + 16 * (b % 8)],
    "keep": lambda p, a: wrap(int(a // 2 ** p[0]), bool(p[1]), p[2]),
    "extend": lambda p, a: a,
    "register": lambda p, a: a,
}


def wrap(m: int, signed: bool, width: int) -> int:
    low = m % 2**width
    return low - 2**width if signed and low >= 2 ** (width - 1) else low


def test_every_op_is_covered() -> None:
    assert set(PARAMS) | {"input", "const"} == set(OPS)


CASES = [(op, params) for op, many in PARAMS.items() for params in many]


@pytest.mark.parametrize("op,params", CASES, ids=lambda v: str(v))
def test_meaning_and_range_by_brute_force(op: str, params: tuple[int, ...]) -> None:
    two = ("add", "sub", "concat", "mul", "max", "min", "table", "table_sum")
    arity = {"add3": 3}.get(op, 2 if op in two else 1)
    for ranges in itertools.product(OPERANDS.values(), repeat=arity):
        if op == "concat" and not all(0 <= end < 1 << params[0] for end in ranges[1]):
            with pytest.raises(IRError, match="low part of a concatenation"):
                OPS[op].infer(params, *ranges)
            continue
        rows = list(itertools.product(*(range(lo, hi + 1) for lo, hi in ranges)))
        want = [MEANING[op](params, *row) for row in rows]
        got = OPS[op].evaluate(params, *(np.array(column) for column in zip(*rows, strict=True)))
        assert got.tolist() == want
        lo, hi = OPS[op].infer(params, *ranges)
        assert lo <= min(want) and max(want) <= hi
        if op not in ("keep", "lookup", "table", "table_sum", "extend"):
            assert (lo, hi) == (min(want), max(want)), "the range is not tight"


def two_inputs() -> tuple[Builder, int, int]:
    b = Builder("m")
    x, y = b.input("x", [(-8, 7, 2), (0, 15, 2)])
    return b, x, y


def test_equal_nodes_are_made_once_whichever_way_round_they_are_added() -> None:
    b, x, y = two_inputs()
    assert b.add(x, y, 1, 0) == b.add(y, x, 0, 1) == b.add(x, y, 1, 0)
    assert b.sub(x, y) != b.sub(y, x)


def test_ops_that_do_nothing_are_left_out() -> None:
    b, x, y = two_inputs()
    zero = b.const(0)
    assert b.add(x, zero) == b.sub(x, zero) == x
    assert b.relu(y) == y and b.clamp(x, -8, 7) == x and b.keep(x, 0, FixedType.parse("s4f2")) == x
    assert b.nodes[b.relu(b.neg(y))].op == "const"
    assert b.register(zero) == zero
    assert b.maximum(y, zero) == y and b.minimum(y, zero) == zero and b.maximum(x, b.const(9)) != x
    assert b.nodes[b.maximum(x, b.const(7))].op == "const"


def test_constants_are_folded() -> None:
    b = Builder("m")
    total = b.sub(b.const(5), b.const(3), 2, 1)
    assert b.nodes[total].op == "const" and b.nodes[total].lo == 14


def test_a_table_reads_the_bits_of_its_arguments_the_first_lowest() -> None:
    b = Builder("m")
    x, y = b.input("x", [(-2, 1, 0), (0, 1, 0)])
    module = b.module({"z": [b.table([x, y], [10, 11, 12, 13, 20, 21, 22, 23], 0)]})
    (z,) = evaluate_module(module, [np.array([[0, 0], [1, 0], [-2, 1], [-1, 1]])])
    assert z.ravel().tolist() == [10, 11, 22, 23]
    with pytest.raises(IRError, match="7 entries for arguments of 3 bits"):
        b.table([x, y], [0] * 7, 0)


def test_nodes_that_no_output_needs_go_and_unread_inputs_stay() -> None:
    b, x, y = two_inputs()
    b.add(x, y)
    module = b.module({"z": [b.neg(x)]})
    assert [node.op for node in module.nodes] == ["input", "input", "neg"]
    assert len(module.inputs[0].refs) == 2


def test_a_constant_input_element_is_a_constant_inside() -> None:
    b = Builder("m")
    refs = b.input("x", [(0, 0, 0), (3, 3, 1), (0, 1, 0)])
    assert [b.nodes[r].op for r in refs] == ["const", "const", "input"]


def test_operands_that_arrive_in_different_cycles_are_found() -> None:
    nodes = (
        Node("input", (), (0, 3), 0, 3),
        Node("register", (0,), (), 0, 3),
        Node("add", (0, 1), (0, 0), 0, 6),
    )
    module = Module("m", nodes, (Port("x", (0,)),), (Port("y", (2,)),))
    with pytest.raises(IRError, match="cycles late"):
        module.latency()


def test_values_beyond_64_bits_are_exact() -> None:
    b = Builder("m")
    (x,) = b.input("x", [(-(1 << 60), 1 << 60, 0)])
    wide = b.add(x, b.const(1 << 70), 20, 0)
    low = b.keep(wide, 10, FixedType.parse("s60f0"))
    module = b.module({"wide": [wide], "low": [low]})
    values = [-(1 << 60), 12345, (1 << 60) - 7]
    first, second = evaluate_module(module, [np.array(values)[:, None]])
    assert first.ravel().tolist() == [(v << 20) + (1 << 70) for v in values]
    assert second.ravel().tolist() == [wrap(((v << 20) + (1 << 70)) >> 10, True, 60) for v in values]
