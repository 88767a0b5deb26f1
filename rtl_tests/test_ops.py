"""Every op of the netlist as Verilog: all cases in one module, which Verilator runs against the evaluator."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.fixed import FixedArray, FixedType
from hgq.netlist import OPS, Builder, Design, Instance, Wire, evaluate_module
from hgq.ports import Port, bus_width, pack, unpack
from hgq.sim.toolchain import lint
from hgq.sim.verilator import RtlDesign, simulate

RANGES = {
    "s4": (-8, 7),
    "u4": (0, 15),
    "s1": (-1, 0),
    "u1": (0, 1),
    "odd": (-3, 9),
    "above": (5, 11),
    "s9": (-256, 255),
}
PARAMS = {
    "add": [(0, 0), (3, 0), (0, 2), (9, 0)],
    "sub": [(0, 0), (3, 0), (0, 2), (0, 9)],
    "concat": [(4,), (6,)],
    "neg": [()],
    "relu": [()],
    "clamp": [(-2, 1), (0, 3), (-7, 7), (2, 6), (-1, 0)],
    "max": [(0, 0), (3, 0), (0, 2)],
    "min": [(0, 0), (3, 0), (0, 2)],
    "mul": [()],
    "lookup": [()],
    "table": [()],
    "table_sum": [(1, 0, 0), (-1, 2, 0), (1, 0, 1), (-1, 0, 3)],
    "keep": [(0, 1, 3), (1, 0, 2), (2, 1, 2), (-2, 1, 13), (0, 0, 2), (4, 1, 3), (0, 1, 1), (12, 1, 2), (-3, 0, 14)],
    "extend": [(-300, 300)],
}
ELSEWHERE = {"input", "const", "register", "add3"}
"""Ports and literals are in every case here; registers in every pipeline of the other tests, and
the primitives of add3 in test_add3.py."""


def everything():
    """A module whose inputs have every range and whose outputs are every op on them."""
    b = Builder("all_ops")
    refs = dict(zip(RANGES, b.input("x", [(lo, hi, 0) for lo, hi in RANGES.values()]), strict=True))
    results, names = [], []
    for op, many in PARAMS.items():
        arity = 2 if op in ("add", "sub", "concat", "mul", "max", "min", "table", "table_sum") else 1
        for params in many:
            for names_in in itertools.product(RANGES, repeat=arity):
                if op in ("table", "table_sum") and names_in[1] not in ("s1", "u1", "odd"):
                    continue
                if op == "concat" and not all(0 <= end < 1 << params[0] for end in RANGES[names_in[1]]):
                    continue
                args = tuple(refs[n] for n in names_in)
                results.append(_node(b, op, args, params))
                names.append(f"{op} {params} of {', '.join(names_in)}")
    for value in (0, 5, -3):
        results += [b.add(refs["s4"], b.const(value), 1, 0), b.sub(b.const(value), refs["u4"], 0, 2)]
        names += [f"s4 * 2 + {value}", f"{value} - u4 * 4"]
    return b.module({"y": results}), names


def _node(b: Builder, op: str, args: tuple[int, ...], params: tuple[int, ...]) -> int:
    if op == "lookup":
        low, high = b.nodes[args[0]].lo, b.nodes[args[0]].hi
        return b.lookup(args[0], [n * n % 23 - 9 for n in range(low, high + 1)], 0)
    if op == "table_sum":
        width = b.nodes[args[1]].type.width
        table = (1, width, *(n * n % 23 - 9 for n in range(1 << width)))
        return b.table_sum(args[0], args[1:], (*params, *table))
    if op == "table":
        bits = sum(b.nodes[arg].type.width for arg in args)
        return b.table(list(args), [n * n % 23 - 9 for n in range(1 << bits)], 0)
    if op == "keep":
        return b.keep(*args, params[0], FixedType(bool(params[1]), params[2], 0))
    return getattr(b, {"max": "maximum", "min": "minimum"}.get(op, op))(*args, *params)


def test_every_op_has_a_case() -> None:
    assert set(PARAMS) | ELSEWHERE == set(OPS)


@pytest.mark.rtl
def test_every_op_in_verilog_is_what_the_evaluator_says(tmp_path: Path) -> None:
    module, labels = everything()
    rng = np.random.default_rng(0)
    corners = list(itertools.product(*RANGES.values()))
    rows = [*corners, *(tuple(int(rng.integers(lo, hi + 1)) for lo, hi in RANGES.values()) for _ in range(4000))]
    x = np.array(rows, np.int64)
    (want,) = evaluate_module(module, [x])
    inputs = [Port("x", _types([(lo, hi, 0) for lo, hi in RANGES.values()]))]
    elements = [(module.nodes[r].lo, module.nodes[r].hi, 0) for r in module.outputs[0].refs]
    outputs = [Port.output("y", _types(elements))]
    design = Design(
        name="top",
        modules={module.name: module},
        instances=(Instance(module.name, ("x",), ("y",), (0,)),),
        wires={
            "x": Wire("x", tuple((lo, hi, 0) for lo, hi in RANGES.values()), "x"),
            "y": Wire("y", tuple(elements), "y"),
        },
        inputs=("x",),
        outputs=("y",),
        output_delays=(0,),
        register_inputs=True,
        latency=1,
    )
    sources = []
    for name, text in emit_verilog(design, inputs, outputs, clock_ns=5, version="test").items():
        sources.append(tmp_path / name)
        sources[-1].write_text(text)
    lint(sources, "top")
    rtl = RtlDesign(tuple(sources), "top", bus_width(inputs), bus_width(outputs), 1)
    (got,) = unpack(outputs, simulate(rtl, pack(inputs, [x])))
    wrong = np.argwhere(got != want)
    assert not len(wrong), (
        f"{labels[wrong[0][1]]} for {rows[wrong[0][0]]}: {got[tuple(wrong[0])]}, not {want[tuple(wrong[0])]}"
    )


def _types(elements: list[tuple[int, int, int]]) -> FixedArray:
    lo, hi, frac = (np.array(column) for column in zip(*elements, strict=True))
    return FixedArray.holding(lo, hi, frac)
