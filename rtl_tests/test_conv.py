"""Convolutions and poolings as Verilog, with modules that several positions share, against the golden model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.ir import evaluate
from hgq.lower import lower
from hgq.passes import insert_registers, optimise
from hgq.ports import Port, bus_width, pack, unpack
from hgq.sim.toolchain import lint
from hgq.sim.verilator import RtlDesign, simulate
from tests.emit.conv_graphs import conv_graph
from tests.emit.random_graphs import random_inputs


@pytest.mark.rtl
def test_every_kind_of_convolution_and_pooling_in_verilog_is_what_the_golden_model_says(tmp_path: Path) -> None:
    graph = conv_graph(0)
    design = insert_registers(optimise(lower(graph, "top")), 4.0)
    inputs = [Port(n, graph[n].types, graph[n].attrs["rounding"], graph[n].attrs["overflow"]) for n in graph.inputs]
    outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
    sources = []
    for name, text in emit_verilog(design, inputs, outputs, clock_ns=4, version="test").items():
        sources.append(tmp_path / name)
        sources[-1].write_text(text)
    lint(sources, "top")
    x = random_inputs(np.random.default_rng(3), graph, 2000)
    rtl = RtlDesign(tuple(sources), "top", bus_width(inputs), bus_width(outputs), design.latency)
    got = unpack(outputs, simulate(rtl, pack(inputs, [x[name] for name in graph.inputs])))
    want = evaluate(graph, x)
    assert [name for name, y in zip(graph.outputs, got, strict=True) if not (y == want[name]).all()] == []
