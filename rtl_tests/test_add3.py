"""The adder of three operands: its primitives against the evaluator, for all signs and many shifts and widths."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.errors import IRError
from hgq.fixed import FixedArray, FixedType
from hgq.netlist import Builder, Design, Instance, Module, Wire, evaluate_module
from hgq.netlist.cost import lut_estimate
from hgq.netlist.targets import GENERIC, TARGETS, Target
from hgq.ports import Port, bus_width, pack, unpack
from hgq.sim.mapped import simulate_mapped
from hgq.sim.toolchain import lint
from hgq.sim.verilator import RtlDesign, simulate
from hgq.sim.yosys import synthesise

SMALL = {"s2": (-2, 1), "u2": (0, 3), "s3": (-4, 3), "odd": (-1, 2)}
LARGE = {"s17": (-(1 << 16), (1 << 16) - 1), "u9": (0, 511), "s24": (-(1 << 23), (1 << 23) - 1)}
SIGNS = [signs for signs in itertools.product((1, -1), repeat=3) if 1 in signs]
SHIFTS = [(0, 0, 0), (0, 1, 2), (2, 0, 1), (3, 1, 0), (0, 4, 2)]


def module(kinds: dict[str, tuple[int, int]]) -> tuple[Module, list[str]]:
    """Sums of the inputs, of an input with itself and of a constant; some of which only middle bits are read."""
    b = Builder("sums")
    refs = b.input("x", [(lo, hi, 0) for lo, hi in kinds.values()])
    triples = list(itertools.combinations(refs, 3))
    triples += [(refs[0], refs[0], refs[1]), (refs[0], refs[1], b.const(-5)), (b.const(44), refs[1], refs[2])]
    results, names = [], []
    for n, (signs, shifts) in enumerate(itertools.product(SIGNS, SHIFTS)):
        args = triples[n % len(triples)]
        made = b.add3(args, shifts, signs)
        results.append(made)
        names.append(f"{signs} {args} << {shifts}")
        if shifts == (0, 1, 2):
            results.append(b.keep(b.add3(args, (1, 1, 3), signs), 2, FixedType(True, 4, 0)))
            names.append(f"bits 2 to 5 of {names[-1]}")
    return b.module({"y": results}), names


def write(made: Module, target: Target, folder: Path) -> tuple[RtlDesign, list[Port], list[Port]]:
    """A design of one module with registered inputs."""
    wires = {}
    for port in (*made.inputs, *made.outputs):
        wires[port.name] = Wire(port.name, tuple((made.nodes[r].lo, made.nodes[r].hi, 0) for r in port.refs), port.name)
    design = Design(
        name="top",
        modules={made.name: made},
        instances=(Instance(made.name, ("x",), ("y",), (0,)),),
        wires=wires,
        inputs=("x",),
        outputs=("y",),
        output_delays=(0,),
        register_inputs=True,
        latency=1,
        target=target,
    )
    types = {name: FixedArray.holding(*map(np.array, zip(*wire.elements, strict=True))) for name, wire in wires.items()}
    inputs, outputs = [Port("x", types["x"])], [Port.output("y", types["y"])]
    sources = []
    for name, text in emit_verilog(design, inputs, outputs, clock_ns=5, version="test").items():
        sources.append(folder / name)
        sources[-1].parent.mkdir(exist_ok=True)
        sources[-1].write_text(text)
    return RtlDesign(tuple(sources), "top", bus_width(inputs), bus_width(outputs), 1), inputs, outputs


@pytest.mark.rtl
@pytest.mark.parametrize(
    "kinds,name",
    [(SMALL, "ultrascale"), (SMALL, "7series"), (LARGE, "ultrascale")],
    ids=["small, exhaustive", "7 series", "large, random"],
)
def test_the_primitives_compute_what_the_evaluator_says(kinds: dict, name: str, tmp_path: Path) -> None:
    made, names = module(kinds)
    target = TARGETS[name]
    rng = np.random.default_rng(0)
    if kinds is SMALL:
        x = np.array(list(itertools.product(*(range(lo, hi + 1) for lo, hi in kinds.values()))))
    else:
        x = np.stack([rng.integers(lo, hi + 1, 4000) for lo, hi in kinds.values()], axis=1)
        x[: 1 << len(kinds)] = list(itertools.product(*kinds.values()))
    (want,) = evaluate_module(made, [x])
    rtl, inputs, outputs = write(made, target, tmp_path)
    lint(rtl.sources, "top")
    (got,) = unpack(outputs, simulate(rtl, pack(inputs, [x])))
    wrong = np.argwhere(got != want)
    assert not len(wrong), f"{names[wrong[0][1]]} for {x[wrong[0][0]]}: {got[tuple(wrong[0])]}"
    if kinds is SMALL:
        # Yosys keeps the cells; our model of its netlist says the same, and the estimate counts the same.
        mapped = synthesise([s for s in rtl.sources if s.parent.name != "sim"], "top", target.family)
        (netlist,) = unpack(outputs, simulate_mapped(mapped.netlist(), pack(inputs, [x]), rtl.out_width, 1))
        assert np.array_equal(netlist, want)
        cells = mapped.counts["cells"]
        assert cells["LUT6_2"] == lut_estimate(made) and f"CARRY{target.carry}" in cells
        assert cells["LUT6_2"] <= mapped.counts["luts"] <= 1.01 * cells["LUT6_2"] + 1


def test_generic_verilog_has_no_adder_of_three_operands(tmp_path: Path) -> None:
    with pytest.raises(IRError, match="generic"):
        write(module(SMALL)[0], GENERIC, tmp_path)
