"""The estimate of LUTs: by hand on single nodes, and against Yosys on modules as the emitter writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hgq.emit.verilog import emit_verilog
from hgq.fixed import FixedType
from hgq.lower.product import product
from hgq.netlist import Builder, Design, Instance, Module, Wire
from hgq.netlist.cost import lut_estimate
from hgq.sim.yosys import synthesise

S3, S8, U8, U1 = (-4, 3, 0), (-128, 127, 0), (0, 255, 0), (0, 1, 0)

WEIGHED = [sum(w for k, w in enumerate((3, 5, -7, 9, -11)) if n >> k & 1) + 18 for n in range(32)]

CASES: dict[str, tuple[list[tuple[int, int, int]], Callable[[Builder, tuple[int, ...]], int], int]] = {
    "signed sum": ([S8, S8], lambda b, x: b.add(*x), 9),
    "unsigned sum: the carry out needs no LUT": ([U8, U8], lambda b, x: b.add(*x), 8),
    "low bits of a shifted sum are wires": ([S8, S8], lambda b, x: b.add(*x, 0, 3), 9),
    "a shifted minuend leaves the low bits to negate": ([S8, S8], lambda b, x: b.sub(*x, 3, 0), 12),
    "operands side by side are wires": ([U8, U8], lambda b, x: b.add(*x, 0, 8), 0),
    "a constant below which all are wires": ([S8], lambda b, x: b.add(x[0], b.const(48)), 5),
    "negation": ([S8], lambda b, x: b.neg(x[0]), 9),
    "rectifier": ([S8], lambda b, x: b.relu(x[0]), 7),
    "rectifier whose low bits are dropped": ([S8], lambda b, x: b.keep(b.relu(x[0]), 3, FixedType(False, 4, 0)), 4),
    "rectifier in front of a register": ([S8], lambda b, x: b.register(b.relu(x[0])), 7),
    "rectified larger of two": ([S8, S8], lambda b, x: b.relu(b.maximum(*x)), 7 + 6),
    "sum of which only low bits are read": ([S8, S8], lambda b, x: b.keep(b.add(*x), 0, FixedType(True, 5, 0)), 5),
    "product by a table": ([S3, S3], lambda b, x: product(b, x[0], x[1], "x"), 6),
    "product of signed numbers": ([S8, S3], lambda b, x: product(b, x[0], x[1], "x"), 8 + 9 + 9),
    "sum of even numbers": ([S8, S8, S8], lambda b, x: b.add(b.add(x[0], x[1], 2, 1), x[2], 0, 1), 10 + 9),
    "table of six inputs": (
        [U1] * 6,
        lambda b, x: b.table(list(x), [n * n * 5 % 61 for n in range(64)], 0),
        6,
    ),
    "table of five inputs in the LUTs of the difference": (
        [S8, *[U1] * 5],
        lambda b, x: b.sub(x[0], b.table(list(x[1:]), WEIGHED, 0)),
        9,
    ),
    "the same two bits below the minuend": (
        [S8, *[U1] * 5],
        lambda b, x: b.sub(x[0], b.table(list(x[1:]), WEIGHED, 0), 2, 0),
        11,
    ),
    "table of five inputs, wider than what it is added to": (
        [(0, 31, 0), *[U1] * 5],
        lambda b, x: b.add(x[0], b.table(list(x[1:]), WEIGHED, 0)),
        6,
    ),
    "operands joined": ([S8, U8], lambda b, x: b.concat(*x, 8), 0),
}


def module(elements: list[tuple[int, int, int]], make: Callable[[Builder, tuple[int, ...]], int]) -> Module:
    builder = Builder("m")
    x = builder.input("x", elements)
    return builder.module({"y": [make(builder, x)]})


@pytest.mark.parametrize("name", CASES)
def test_estimate_by_hand(name: str) -> None:
    elements, make, luts = CASES[name]
    assert lut_estimate(module(elements, make)) == luts


def test_yosys_counts_as_many(tmp_path: Path) -> None:
    """All cases at once, each on inputs of its own."""
    builder = Builder("cases")
    x = builder.input("x", [element for elements, *_ in CASES.values() for element in elements])
    refs, used = [], 0
    for elements, make, _ in CASES.values():
        refs.append(make(builder, x[used : used + len(elements)]))
        used += len(elements)
    # All in the same clock, since a module has one latency.
    late = [ref if builder.nodes[ref].op == "register" else builder.register(ref) for ref in refs]
    made = builder.module({"y": late})
    elements = tuple((made.nodes[r].lo, made.nodes[r].hi, 0) for r in made.outputs[0].refs)
    wires = {"x": Wire("x", tuple(e for es, *_ in CASES.values() for e in es), "x"), "y": Wire("y", elements, "y")}
    design = Design("top", {"cases": made}, (Instance("cases", ("x",), ("y",), (0,)),), wires, ("x",), ("y",), (0,))
    (tmp_path / "cases.v").write_text(emit_verilog(design, *_ports(wires), clock_ns=5, version="test")["cases.v"])
    counts = synthesise([tmp_path / "cases.v"], "cases", "xcup").counts
    assert lut_estimate(made) == counts["luts"] == sum(luts for *_, luts in CASES.values())


def _ports(wires: dict[str, Wire]):
    import numpy as np

    from hgq.fixed import FixedArray
    from hgq.ports import Port

    found = []
    for wire in wires.values():
        types = [FixedType.holding(*e) for e in wire.elements]
        rows = np.array([(t.signed, t.width, t.frac) for t in types])
        found.append([Port(wire.name, FixedArray(*rows.T))])
    return found
