"""The engines that need a compiler, many models at a time: one Verilator build, one g++ build."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hgq.emit.hls4ml import emit_hls4ml
from hgq.errors import HGQError
from hgq.fixed import FixedArray, FixedType
from hgq.ports import Port, bus_width, pack, unpack
from hgq.sim.csim import run_csim
from hgq.sim.hls4ml_types import check_types
from hgq.sim.toolchain import lint
from hgq.sim.verilator import RtlDesign, simulate
from hgq.verify import first_difference
from hgq.verify.proof import ProofResult, prove
from tests.fuzz.levels import Rtl

BIT = FixedArray.full((1,), FixedType(False, 1, 0))
Failures = dict[int, tuple[str, str]]
"""Place in the list -> what failed, and the message."""


def check_verilog(designs: Sequence[Rtl], folder: Path) -> Failures:
    """Lints and simulates all designs side by side under one top level; each must keep its own latency."""
    if not designs:
        return {}
    longest = max(one.layout.latency for one in designs)
    files = {name: text for one in designs for name, text in one.files.items()}
    files["batch.v"] = _batch(designs, longest)
    paths = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    inputs = [port for one in designs for port in one.inputs]
    outputs = [port for k, one in enumerate(designs) for port in (*one.outputs, Port(f"valid{k}", BIT))]
    x = [one.x[name] for one in designs for name in one.graph.inputs]
    try:
        lint(paths, "batch")
        words = simulate(
            RtlDesign(tuple(paths), "batch", bus_width(inputs), bus_width(outputs), longest), pack(inputs, x)
        )
    except HGQError as error:  # which of them it was shows one by one
        if len(designs) == 1:
            return {0: (f"Verilog: {type(error).__name__}", str(error))}
        half = len(designs) // 2
        found = check_verilog(designs[:half], folder / "a")
        return found | {half + k: v for k, v in check_verilog(designs[half:], folder / "b").items()}
    results = iter(unpack(outputs, words))
    failures: Failures = {}
    for k, one in enumerate(designs):
        for name in one.graph.outputs:
            node = one.graph[name]
            found = first_difference("Verilog", node.origin, node.types, one.golden[name], next(results))
            if found is not None:
                failures.setdefault(k, ("difference: Verilog", str(found)))
        if not (next(results) == 1).all():
            failures[k] = "difference: latency", f"out_valid does not come after {one.layout.latency} cycles"
    return failures


def check_proof(one: Rtl) -> ProofResult | tuple[str, str]:
    """What is proven of a design from its text; or what failed."""
    try:
        return prove(one.graph, one.files, one.layout)
    except Exception as error:  # noqa: BLE001
        return f"proof: {type(error).__name__}", str(error)


def check_csim(one: Rtl) -> tuple[str, str] | None:
    """The hls4ml project of a model, as compiled C++, on its vectors."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        try:
            names = emit_hls4ml(one.graph, Path(work), project_name=one.top)
            check_types(Path(work), one.graph, names)
            got = run_csim(Path(work), one.graph, one.x)
        except Exception as error:  # noqa: BLE001
            return f"crash: {type(error).__name__} in C simulation", str(error)
    for name in one.graph.outputs:
        node = one.graph[name]
        found = first_difference("C simulation", node.origin, node.types, one.golden[name], got[name])
        if found is not None:
            return "difference: C simulation", str(found)
    return None


def _batch(designs: Sequence[Rtl], longest: int) -> str:
    """A top level around all designs, whose outputs wait for those of the one with most cycles."""
    lines, clocked, parts, low = [], [], [], 0
    whole = sum(port.width for one in designs for port in one.inputs)
    for k, one in enumerate(designs):
        width, out = sum(port.width for port in one.inputs), bus_width(one.outputs)
        data = "1'b0" if not width else "in_data" if width == max(whole, 1) else f"in_data[{low}+:{width}]"
        low += width
        lines.append(f"  wire [{out}:0] y{k};")
        lines.append(
            f"  {one.top} u{k} (.clk(clk), .rst(rst), .in_valid(in_valid), .in_data({data}), "
            f".out_valid(y{k}[{out}]), .out_data(y{k}[{out - 1}:0]));"
        )
        last = f"y{k}"
        for n in range(longest - one.layout.latency):
            lines.append(f"  reg [{out}:0] y{k}_{n};")
            clocked.append(f"    y{k}_{n} <= {last};")
            last = f"y{k}_{n}"
        parts.append(last)
    width = bus_width([p for one in designs for p in one.outputs]) + len(designs)
    valid = [f"    valid[{n}] <= {f'valid[{n - 1}]' if n else 'in_valid'} & ~rst;" for n in range(longest)]
    data = ["  wire unused = in_data;"] if not whole else []
    return "\n".join(
        [
            "module batch (",
            "  input wire clk,\n  input wire rst,\n  input wire in_valid,",
            f"  input wire [{max(whole, 1) - 1}:0] in_data,",
            f"  output wire out_valid,\n  output wire [{width - 1}:0] out_data\n);",
            *lines,
            *data,
            *([f"  reg [{longest - 1}:0] valid;"] if longest else []),
            *(["  always @(posedge clk) begin", *clocked, *valid, "  end"] if longest else []),
            f"  assign out_valid = {f'valid[{longest - 1}]' if longest else 'in_valid & ~rst'};",
            f"  assign out_data = {{{', '.join(parts[::-1])}}};",
            "endmodule\n",
        ]
    )


def vectors(one: Rtl) -> int:
    return len(np.asarray(next(iter(one.x.values()))))
