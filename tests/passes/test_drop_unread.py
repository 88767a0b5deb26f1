"""What nothing reads is not in the hardware, and whoever looks at the hardware knows it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.errors import VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph, evaluate
from hgq.ir.evaluate import evaluate_nodes
from hgq.ir.graph import Builder
from hgq.lower import lower
from hgq.netlist import Design, evaluate_design
from hgq.passes import drop_unread, insert_registers, optimise
from hgq.ports import Port
from hgq.verify import localise
from hgq.verify.proof import Layout, prove
from tests.emit.random_graphs import random_inputs

HOW = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}


def full(shape: tuple[int, ...], text: str) -> FixedArray:
    return FixedArray.full(shape, FixedType.parse(text))


def pooled() -> Graph:
    """A convolution at 3 x 4 positions, of which a pooling reads 2 x 4."""
    b, rng = Builder(), np.random.default_rng(1)
    b.add("x", "input", types=full((4, 5, 1), "s4f0"), origin="x", **HOW)
    kernel = {"kernel": rng.integers(-3, 4, (2, 2, 1, 2)), "kernel_types": full((2, 2, 1, 2), "s3f0")}
    windows = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "stretch": (1, 1), "groups": (1,)}
    b.add("y", "conv", "x", origin="conv", **kernel, **windows)
    b.add("p", "max_pool", "y", origin="pool", size=(2, 2), strides=(2, 2), padding=(0, 0, 0, 0))
    return b.graph("p")


def dense(weight: int) -> Graph:
    """x (4) -> h (3) -> y (2). Nothing reads x[2]; h[1] is read `weight` times by y[1]."""
    b = Builder()
    b.add("x", "input", types=full((4,), "s4f0"), origin="x", **HOW)
    first = np.array([[1, 3, -2], [5, 1, 7], [0, 0, 0], [3, -3, 1]])
    b.add("h", "dense", "x", origin="hidden", kernel=first, kernel_types=full((4, 3), "s4f0"))
    second = np.array([[3, 1], [0, weight], [-1, 3]])
    b.add("y", "dense", "h", origin="head", kernel=second, kernel_types=full((3, 2), "s4f0"))
    return b.graph("y")


def computes(design: Design, graph: Graph) -> None:
    inputs = random_inputs(np.random.default_rng(3), graph, 200)
    flat = {wire: inputs[name].reshape(200, -1) for wire, name in zip(design.inputs, graph.inputs, strict=True)}
    (wire,), (name,) = design.outputs, graph.outputs
    assert evaluate_design(design, flat)[wire].tolist() == evaluate(graph, inputs)[name].reshape(200, -1).tolist()


def test_rows_that_a_pooling_leaves_over_are_not_made() -> None:
    graph = pooled()
    before = lower(graph, "top")
    design = drop_unread(before)
    assert Counter(one.module for one in before.instances)["top_conv"] == 12
    assert Counter(one.module for one in design.instances)["top_conv"] == 8
    assert design.wires["y"].unread == set(range(16, 24)) and design.wires["y"].width == before.wires["y"].width * 2 / 3
    assert drop_unread(design) is design
    computes(design, graph)
    computes(insert_registers(optimise(before), 3.0), graph)


@pytest.mark.parametrize("weight", [0, 2])
def test_a_neuron_without_weights_further_on_is_not_made(weight: int) -> None:
    graph = dense(weight)
    design = optimise(lower(graph, "top"))
    assert design.wires["h"].unread == (set() if weight else {1})
    first = design.instances[0]
    assert first.reads == ((0, 1, 3),), "of the port, which stays whole, module and top level read three"
    computes(design, graph)


def test_the_neuron_of_an_output_stays() -> None:
    graph = dense(0)
    both = Graph(graph.nodes, graph.inputs, ("y", "h"))
    assert not optimise(lower(both, "top")).wires["h"].unread


def emitted(graph: Graph) -> tuple[Design, list[Port], list[Port], dict[str, str]]:
    design = insert_registers(optimise(lower(graph, "top")), 3.0)
    inputs = [Port(n, graph[n].types, Rounding.RND, Overflow.WRAP) for n in graph.inputs]
    outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
    return design, inputs, outputs, emit_verilog(design, inputs, outputs, clock_ns=3.0, version="test")


def test_the_proof_is_complete_without_what_nothing_reads_and_not_where_something_does() -> None:
    design, inputs, outputs, texts = emitted(dense(0))
    layout = Layout.of(design, inputs, outputs)
    as_saved = {name: replace(bus, unread=frozenset()) for name, bus in layout.wires.items()}
    assert layout.wires_json()["h"]["unread"] == [1] and "unread" not in layout.wires_json()["y"]
    assert prove(dense(0), texts, layout).complete
    assert not prove(dense(2), texts, layout).complete, "the model reads what the layout says nobody does"
    with pytest.raises(VerificationError, match=r"layer 'hidden', output 1: it is absent"):
        prove(dense(0), texts, replace(layout, wires=as_saved))


def test_where_the_verilog_has_nothing_a_trace_shows_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pooled()
    combinational = optimise(lower(graph, "top"))
    _, inputs, _, _ = emitted(graph)
    one = random_inputs(np.random.default_rng(5), graph, 1)
    golden = evaluate_nodes(graph, one)["y"]
    monkeypatch.setattr(
        localise, "simulate", lambda design, words: np.zeros((1, -(-design.out_width // 32)), np.uint32)
    )
    probed = localise.probe_rtl(graph, lambda d: insert_registers(d, 3.0), combinational, tmp_path, inputs, one)
    got = probed["y"][1]
    assert got[:, 2].tolist() == golden[:, 2].tolist() and golden[:, 2].any()
    assert not got[:, :2].any()
