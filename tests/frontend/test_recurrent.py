"""Recurrent layers: Keras, the graph, the netlist agree; time steps share a module; options are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from hgq import layers as q
from hgq.frontend import read_model
from hgq.frontend.predict import keras_engine
from hgq.ir import Graph, evaluate, parse
from hgq.lower import lower
from hgq.netlist.delays import DEFAULT
from hgq.netlist.design import Design
from hgq.netlist.evaluate import evaluate_design
from hgq.netlist.timing import critical_path
from hgq.passes import insert_registers, optimise
from hgq.report.layers import ebops, layer_rows
from hgq.resource import model_ebops
from hgq.verify import corner_vectors, float32_certificate, verify_engines
from tests.frontend.recurrent_models import FEATURES, MODELS, of
from tests.frontend.test_model import refused

CLOCK_NS = 4.0


def netlist(graph: Graph, design: Design) -> Callable:
    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        wires = {w: inputs[design.wires[w].tensor].reshape(len(inputs[graph.inputs[0]]), -1) for w in design.inputs}
        made = evaluate_design(design, wires)
        return {
            name: made[wire].reshape(-1, *graph[name].shape)
            for name, wire in zip(graph.outputs, design.outputs, strict=True)
        }

    return run


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_what_its_graph_and_its_netlist_compute(name: str) -> None:
    model = MODELS[name]()
    graph = read_model(model)
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 1000)
    golden = np.concatenate([y.reshape(1000, -1) for y in evaluate(graph, inputs).values()], axis=1)
    assert len(np.unique(golden, axis=0)) > 3, "the model hardly depends on its input"
    design = insert_registers(optimise(lower(graph, "top")), CLOCK_NS)
    float64 = not float32_certificate(graph).exact32
    engines = {"Keras": keras_engine(model, graph, float64=float64), "netlist": netlist(graph, design)}
    verify_engines(graph, inputs, engines)
    assert critical_path(design, DEFAULT).ns <= CLOCK_NS + 1e-6
    assert str(parse(str(graph))) == str(graph)
    if name != "product of both":  # Keras' own products have no price in training
        assert sum(ebops(graph, node) for node in graph) == model_ebops(model)


def straight(cell: Any) -> Graph:
    return read_model(of(lambda x: cell(3, name="cell")(x), front=lambda x: x)())


@pytest.mark.parametrize("cell", [q.QSimpleRNN, q.QGRU, q.QLSTM])
def test_all_time_steps_but_the_first_share_one_module(cell: Any) -> None:
    graph = straight(cell)
    design = insert_registers(optimise(lower(graph, "top")), CLOCK_NS)
    assert set(design.modules) == {"top_cell_step0", "top_cell_step1"}
    assert [one.module for one in design.instances] == ["top_cell_step0"] + ["top_cell_step1"] * 2
    (row,) = layer_rows(graph, design)
    assert row["layer"] == "cell" and row["modules"] == {"top_cell_step0": 1, "top_cell_step1": 2}
    assert row["latency"] <= design.latency - 2, "ports are registered, and states may wait for the next clock"
    assert row["ebops"] == sum(ebops(graph, node) for node in graph)


def test_what_differs_at_one_time_step_gets_a_module_of_its_own() -> None:
    graph = read_model(MODELS["types for each step"]())
    assert len(lower(graph, "top").modules) > 2


REFUSED = {
    "a state that is returned": (
        of(lambda x: keras.layers.Bidirectional(q.QGRU(2, return_state=True), name="both")(x)),
        ["Bidirectional 'both'", "return_state=True", "leave it out"],
    ),
    "another layer inside": (
        of(lambda x: keras.layers.Bidirectional(keras.layers.GRU(2), name="both")(x)),
        ["Bidirectional 'both'", "holds a GRU", "QGRU"],
    ),
    "keras.layers.LSTM": (of(lambda x: keras.layers.LSTM(2, name="l")(x)), ["LSTM 'l'", "hgq.layers.QLSTM"]),
    "time distributed": (
        of(lambda x: keras.layers.TimeDistributed(q.QDense(2), name="t")(x)),
        ["TimeDistributed 't'", "leave it out", "QDense works along the last axis"],
    ),
}


@pytest.mark.parametrize("make,facts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_named_with_its_fix(make: Callable[[], keras.Model], facts: list[str]) -> None:
    problems = "\n".join(refused(make()))
    assert all(fact in problems for fact in facts), problems
    assert "Fix:" in problems


def test_a_layer_that_never_saw_data_is_named() -> None:
    model = keras.Sequential([keras.Input((3, FEATURES)), q.QGRU(2, name="g")])
    assert "QGRU 'g': the range of its input_quantizer is not known" in refused(model)[0]
