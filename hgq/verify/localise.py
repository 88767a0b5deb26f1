"""Which layer of the Verilog goes wrong first: the same modules under a top level that shows every wire."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hgq.emit.verilog import emit_verilog
from hgq.errors import HGQError
from hgq.fixed import FixedArray
from hgq.ir.evaluate import evaluate_nodes
from hgq.ir.graph import Graph
from hgq.netlist.design import Design
from hgq.ports import Port, bus_width, pack, unpack
from hgq.sim.verilator import RtlDesign, simulate
from hgq.verify.compare import Difference, first_difference
from hgq.verify.run import Tensors


def probe_rtl(
    graph: Graph,
    pipeline: Callable[[Design], Design],
    combinational: Design,
    rtl: Path,
    inputs: list[Port],
    one: Tensors,
) -> dict[str, tuple[FixedArray, np.ndarray]]:
    """What leaves the modules in folder `rtl`: types and integers of the IR nodes that a wire of the top level holds.

    Elements that nothing reads are not in the Verilog: for these, what the golden model computes.

    Args:
        pipeline: the pass that made the design's registers out of `combinational`.
        one: integers of the input ports, one sample.

    Raises:
        HGQError: the ports or the timing of a module are not what they were made with.
    """
    made = [name for layer in combinational.layers() for name in layer[0].outputs if combinational.wires[name].width]
    # The pipeline of the design itself, since where registers stand may depend on what is an output.
    whole = pipeline(combinational)
    cycles = whole.cycles()
    last = max((cycles[name] for name in made), default=0)
    waits = tuple(last - cycles[name] for name in made)
    latency = last + whole.register_outputs
    probe = replace(whole, name="hgq_probe", outputs=tuple(made), output_delays=waits, latency=latency)
    outputs = [Port.output(name, _types(probe, name)) for name in made]
    top = emit_verilog(probe, inputs, outputs, clock_ns=0, version="probe")["hgq_probe.v"]
    files = {rtl / f"{i.module}.v" for i in probe.instances} | {rtl / "hgq_add3.v"} | set((rtl / "sim").glob("*.v"))
    modules = sorted(path for path in files if path.exists())
    with tempfile.TemporaryDirectory(prefix="probe-") as work:
        file = Path(work) / "hgq_probe.v"
        file.write_text(top)
        rtl_design = RtlDesign((file, *modules), "hgq_probe", bus_width(inputs), bus_width(outputs), probe.latency)
        words = simulate(rtl_design, pack(inputs, [one[name] for name in graph.inputs]))
    golden = evaluate_nodes(graph, one)
    found = {}
    for name, got in zip(made, unpack(outputs, words), strict=True):
        node = graph[probe.wires[name].tensor]
        types = FixedArray(*(a.reshape(node.shape) for a in _arrays(probe, name)))
        got = got.reshape(1, -1)
        if probe.wires[name].unread:
            places = sorted(probe.wires[name].unread)
            got[:, places] = golden[node.name].reshape(1, -1)[:, places]
        found[node.name] = types, got.reshape(1, *node.shape)
    return found


def localise_rtl(
    graph: Graph, pipeline: Callable[[Design], Design], combinational: Design, rtl: Path, inputs: list[Port]
) -> Callable[[Tensors, Difference], Difference]:
    """A function that finds the first layer at which the modules in folder `rtl` differ from the golden model."""

    def find(one: Tensors, at_output: Difference) -> Difference:
        try:
            probed = probe_rtl(graph, pipeline, combinational, rtl, inputs, one)
        except HGQError:
            return at_output  # ports or timing of a module are wrong: the output is all that can be named
        golden = evaluate_nodes(graph, one)
        for name, (types, got) in probed.items():
            sample = np.array([at_output.sample])
            found = first_difference(at_output.engine, graph[name].origin, types, golden[name], got, sample)
            if found is not None:
                return found
        return at_output

    return find


def _types(design: Design, wire: str) -> FixedArray:
    return FixedArray(*_arrays(design, wire))


def _arrays(design: Design, wire: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lo, hi, frac = (np.array(column, object) for column in zip(*design.wires[wire].elements, strict=True))
    types = FixedArray.holding(lo, hi, frac.astype(np.int64))
    zero = types.width == 0
    return types.signed, np.where(zero, 1, types.width), types.frac
