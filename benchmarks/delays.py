"""The delay model of hgq/netlist/delays.py against place and route: python benchmarks/delays.py [FOLDER ...]

Small designs, each of one op at one width between registers, some with several ops in a row, are mapped with Yosys and
routed with nextpnr for ECP5 (both from PyPI), several seeds each, and the constants of the model are fitted to what
they reach. Then whole networks (FOLDER: what hgq-convert wrote), where wires are longer: predicted beside routed.
Results are kept in the cache, so that a run that was broken off goes on. No other family is measured here.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hgq.emit.verilog import emit_verilog
from hgq.fixed import FixedArray, FixedType
from hgq.netlist import Builder, Design, Instance, Module, Wire
from hgq.netlist.delays import ECP5, DelayModel
from hgq.netlist.timing import critical_path
from hgq.ports import Port
from hgq.project import Project
from hgq.sim.route import route
from hgq.sim.yosys import synthesise

COPIES = 12
"""Chains side by side in one design."""
TARGET_MHZ = 400
"""More than any of them reaches, so that nextpnr does what it can for each."""

Step = Callable[[Builder, int, int, random.Random], int]


def _narrow(b: Builder, ref: int, width: int) -> int:
    return b.keep(ref, 0, FixedType(True, width, 0))


def _add(width: int) -> Step:
    return lambda b, v, x, _: _narrow(b, b.add(v, x), width)


def _rectified(width: int) -> Step:
    return lambda b, v, x, _: _narrow(b, b.relu(b.add(v, x)), width)


def _clamped(width: int) -> Step:
    return lambda b, v, x, _: b.clamp(b.add(v, x), -(1 << width - 1), (1 << width - 1) - 1)


def _max(width: int) -> Step:
    return lambda b, v, x, _: b.maximum(v, x)


def _mul(width: int) -> Step:
    return lambda b, v, x, _: b.keep(b.mul(v, x), width - 2, FixedType(True, width, 0))


def _table(width: int) -> Step:
    def step(b: Builder, v: int, _: int, rng: random.Random) -> int:
        entries = list(range(-(1 << width - 1), 1 << width - 1))
        rng.shuffle(entries)
        return b.lookup(v, entries, 0)

    return step


CASES: dict[str, tuple[Step, int, int]] = {
    "wire": (lambda b, v, x, _: v, 8, 1),
    **{
        f"add {w} x {n}": (_add(w), w, n)
        for n in (1, 3)
        for w in (2, 4, 8, 12, 16, 24, 32)
        if n == 1 or w in (4, 8, 16)
    },
    **{f"add, relu {w} x {n}": (_rectified(w), w, n) for w, n in ((8, 1), (8, 2), (16, 1))},
    **{f"add, clamp {w} x {n}": (_clamped(w), w, n) for w, n in ((8, 1), (8, 2), (16, 1))},
    **{f"max {w} x {n}": (_max(w), w, n) for w, n in ((4, 1), (8, 1), (16, 1), (8, 2))},
    **{f"mul {w} x {n}": (_mul(w), w, n) for w, n in ((4, 1), (6, 1), (8, 1))},
    **{f"table {w} x {n}": (_table(w), w, n) for w, n in ((4, 1), (5, 1), (6, 1), (8, 1), (4, 3))},
}
"""Name -> the op, its width, how many in a row."""


def module(name: str, seed: int = 1) -> Module:
    """Registers, the chains of a case on operands drawn from common registers, registers."""
    step, width, levels = CASES[name]
    rng = random.Random(seed)
    b = Builder("m")
    inputs = b.input("x", [(-(1 << width - 1), (1 << width - 1) - 1, 0)] * (COPIES + 4))
    x = [b.register(ref) for ref in inputs]
    made = []
    for value in x[:COPIES]:
        for _ in range(levels):
            value = step(b, value, rng.choice(x), rng)
        made.append(b.register(value))
    return b.module({"y": made})


def design(one: Module) -> Design:
    """A top level around one module."""
    wires = {
        p.name: Wire(p.name, tuple((one.nodes[r].lo, one.nodes[r].hi, 0) for r in p.refs), p.name)
        for p in (*one.inputs, *one.outputs)
    }
    return Design(
        "top", {"m": one}, (Instance("m", ("x",), ("y",), (0,)),), wires, ("x",), ("y",), (0,), latency=one.latency()
    )


def _port(wire: Wire) -> Port:
    types = [FixedType.holding(*element) for element in wire.elements]
    return Port(wire.name, FixedArray(*np.array([(t.signed, t.width, t.frac) for t in types]).T))


def routed(name: str, seeds: range) -> list[float]:
    """Clock periods in ns that a case reached, one for each seed."""
    made = design(module(name))
    with tempfile.TemporaryDirectory() as folder:
        files = []
        ports = [_port(made.wires["x"])], [_port(made.wires["y"])]
        for file, text in emit_verilog(made, *ports, clock_ns=5, version="calibration").items():
            files.append(Path(folder) / file)
            files[-1].write_text(text)
        found = route(synthesise(files, "top", "ecp5"), target_mhz=TARGET_MHZ, seeds=seeds)
    return [1000 / mhz for mhz in found["fmax"].values()]


def fitted(measured: dict[str, list[float]]) -> tuple[DelayModel, dict[str, float]]:
    """The constants of the model that come closest to the medians, in relative terms; and what it says to each case."""
    names = ("register", "lut", "add", "carry")
    rows = []
    for name in measured:
        made = design(module(name))
        # The model is linear in its constants: each by itself, the others 0.
        rows.append([critical_path(made, replace(ECP5, **dict.fromkeys(names, 0.0) | {n: 1.0})).ns for n in names])
    matrix, wanted = np.array(rows), np.array([statistics.median(ns) for ns in measured.values()])
    fit, *_ = np.linalg.lstsq(matrix / wanted[:, None], np.ones(len(wanted)), rcond=None)
    return replace(ECP5, **dict(zip(names, fit.tolist(), strict=True))), dict(zip(measured, matrix @ fit, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the delay model with place and route.")
    parser.add_argument("projects", type=Path, nargs="*", help="folders that hgq-convert wrote, to route as a whole")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    measured = {}
    for name in CASES:
        measured[name] = routed(name, range(1, options.seeds + 1))
        print(f"{name}: {[round(ns, 2) for ns in measured[name]]}", file=sys.stderr, flush=True)
    # From register to register there is a wire alone, which no critical path is.
    model, said = fitted({name: ns for name, ns in measured.items() if name != "wire"})
    constants = {name: round(getattr(model, name), 3) for name in ("register", "lut", "add", "carry")}
    print(f"fitted: {constants}; in use: { {name: getattr(ECP5, name) for name in constants} }")
    print("| design | routed ns: median (least to greatest) | fitted ns | error | in use ns | error |")
    print("|---|---|---|---|---|---|")
    errors: dict[str, list[float]] = {"fitted": [], "in use": []}
    for name, ns in measured.items():
        median, used = statistics.median(ns), critical_path(design(module(name)), ECP5).ns
        row = f"| {name} | {median:.2f} ({min(ns):.2f} to {max(ns):.2f}) |"
        for which, value in (("fitted", said.get(name)), ("in use", used)):
            if value is None or name == "wire":
                row += " | |"
                continue
            errors[which].append(value / median - 1)
            row += f" {value:.2f} | {errors[which][-1]:+.0%} |"
        print(row)
    for which, found in errors.items():
        rms = np.sqrt(np.mean(np.square(found)))
        print(f"{which}: errors {min(found):+.0%} to {max(found):+.0%}, root mean square {rms:.0%}")
    for folder in options.projects:
        project = Project.load(folder)
        found, predicted = project.route(seeds=options.seeds), project.report["timing"]["ecp5"]["mhz"]
        print(
            f"{folder}: predicted {predicted} MHz, routed {found['fmax_median']} ({found['fmax_min']} to "
            f"{found['fmax_max']}), routed / predicted {found['fmax_median'] / predicted:.2f}"
        )


if __name__ == "__main__":
    main()
