"""IR and netlist compute the same, after every pass and at every clock period."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from hgq.errors import ConversionError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.frontend import read_model
from hgq.ir import Graph, evaluate
from hgq.ir.graph import Builder
from hgq.layers import QConv2D, QSeparableConv2D
from hgq.lower import lower
from hgq.netlist import Design, evaluate_design
from hgq.netlist.targets import TARGETS
from hgq.passes import PIPELINE, insert_registers, optimise
from hgq.training import calibrate
from tests.emit.conv_graphs import conv_graph
from tests.emit.merge_graphs import merge_graph
from tests.emit.random_graphs import random_graph, random_inputs
from tests.ir.test_ops import wide_graph

GRAPHS = {
    "0": random_graph(0),
    "1": random_graph(1),
    "2": random_graph(2),
    "wide": wide_graph(),
    "conv": conv_graph(0),
    "conv 1": conv_graph(1),
    **{f"merge {n}": merge_graph(n) for n in range(3)},
}
SAMPLES = 300


def outputs(design: Design, graph: Graph, inputs: dict[str, np.ndarray]) -> list[list]:
    """What the design gives, as integers of the graph's outputs."""
    flat = {wire: inputs[name].reshape(SAMPLES, -1) for wire, name in zip(design.inputs, graph.inputs, strict=True)}
    results = evaluate_design(design, flat)
    return [results[wire].tolist() for wire in design.outputs]


def same(graph: Graph, design: Design) -> None:
    inputs = random_inputs(np.random.default_rng(7), graph, SAMPLES)
    golden = evaluate(graph, inputs)
    assert outputs(design, graph, inputs) == [golden[name].reshape(SAMPLES, -1).tolist() for name in graph.outputs]


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_lowering_and_every_pass_leave_what_is_computed(graph: Graph) -> None:
    inputs = random_inputs(np.random.default_rng(7), graph, SAMPLES)
    golden = evaluate(graph, inputs)
    want = [golden[name].reshape(SAMPLES, -1).tolist() for name in graph.outputs]
    design = lower(graph, "top")
    assert outputs(design, graph, inputs) == want
    for one in PIPELINE:
        design = replace(design, modules={name: one(module) for name, module in design.modules.items()})
        assert outputs(design, graph, inputs) == want, one.__name__
    for target in TARGETS.values():
        for_it = optimise(lower(graph, "top"), target, 3.0)
        assert outputs(for_it, graph, inputs) == want, target.name
        assert bool(for_it.count("add3")) == (target.carry > 0 and for_it.count("add", "sub") > 0)
    for clock in (3.0, 5.0, 200.0):
        pipeline = insert_registers(for_it, clock)
        assert outputs(pipeline, graph, inputs) == want, f"{clock} ns"
        for module in pipeline.modules.values():
            module.latency()  # raises where operands arrive in different cycles


def test_the_same_graph_gives_the_same_design() -> None:
    assert lower(random_graph(1), "top").modules == lower(random_graph(1), "top").modules


def test_a_shorter_clock_makes_a_longer_pipeline() -> None:
    design = lower(GRAPHS["0"], "top")
    latencies = [insert_registers(design, ns).latency for ns in (200.0, 10.0, 5.0, 3.0)]
    assert latencies == sorted(latencies) and latencies[0] == 2 < latencies[-1]
    assert insert_registers(design, 200.0, register_inputs=False, register_outputs=False).latency == 0


def test_a_clock_that_no_adder_meets_is_refused_with_the_period_that_would_do() -> None:
    with pytest.raises(ConversionError, match=r"does not fit a clock of 0.9 ns(.|\n)*at least \d"):
        insert_registers(lower(GRAPHS["0"], "top"), 0.9)


def two_layers(**second: FixedArray) -> Graph:
    """x -> dense a -> quantizer of b -> dense b, the quantizer named after the layer it belongs to."""
    b = Builder()
    types = FixedArray.full((3,), FixedType.parse("s4f2"))
    kernel = FixedArray.full((3, 3), FixedType.parse("s3f1"))
    attrs = {"kernel": np.array([[1, 2, 3], [3, -4, 1], [0, 1, -3]]), "kernel_types": kernel}
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP)
    b.add("a", "dense", "x", origin="a", **attrs)
    b.add("q", "quantize", "a", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="b")
    b.add("b", "dense", "q", origin="b", **attrs)
    return b.graph("b")


def test_a_quantizer_stands_in_the_module_that_makes_its_input() -> None:
    design = lower(two_layers(), "net")
    assert list(design.modules) == ["net_a", "net_b"]
    assert design.wires["q"].width == 12, "what leaves module a is the narrow, quantised tensor"


def test_a_tensor_that_two_layers_read_stays_whole() -> None:
    b = Builder()
    types = FixedArray.full((2,), FixedType.parse("s4f2"))
    kernel = {"kernel": np.array([[1, 3], [-3, 1]]), "kernel_types": FixedArray.full((2, 2), FixedType.parse("s3f0"))}
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP)
    b.add("a", "dense", "x", origin="a", **kernel)
    narrow = FixedArray.full((2,), FixedType.parse("s2f0"))
    b.add("q", "quantize", "a", types=narrow, rounding=Rounding.TRN, overflow=Overflow.WRAP, origin="b")
    b.add("r", "relu", "a", origin="c")
    assert list(lower(b.graph("q", "r"), "net").modules) == ["net_a", "net_b", "net_c"]


def test_a_layer_whose_middle_stands_elsewhere_has_modules_of_its_own() -> None:
    b = Builder()
    types = FixedArray.full((2,), FixedType.parse("s4f2"))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP)
    b.add("r", "relu", "x", origin="a")
    b.add("s", "relu", "r", origin="b")
    b.add("t", "relu", "s", origin="a")
    graph = b.graph("t")
    design = lower(graph, "net")
    assert {instance.module for instance in design.instances} == {"net_a", "net_b", "net_t"}
    same(graph, design)


def test_a_separable_convolution_beside_a_residual_is_lowered() -> None:
    """Its input quantizer stays in a module of its own, which its depthwise half reads and its other half follows."""
    x = keras.Input((5, 5, 3))
    h = QConv2D(3, 1, activation="relu")(x)
    y = keras.layers.Add()([QSeparableConv2D(3, 3, padding="same")(h), h])
    model = keras.Model(x, QConv2D(2, 1)(y))
    calibrate(model, np.random.default_rng(0).normal(size=(32, 5, 5, 3)).astype("float32"))
    graph = read_model(model)
    same(graph, lower(graph, "net"))
