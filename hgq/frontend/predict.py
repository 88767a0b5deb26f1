"""Keras as an engine: integers of the ports in, integers of the outputs out, through the model's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from hgq.fixed import decode
from hgq.frontend.model import calls_of, functional_of
from hgq.ir.evaluate import batch_size, evaluate
from hgq.ir.graph import Graph, Node
from hgq.layers import QLayer
from hgq.layers.precision import double_precision
from hgq.training.copy import copy_model


def keras_engine(
    model: keras.Model, graph: Graph, *, raw: Mapping[str, np.ndarray] | None = None, float64: bool = False
) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """What `model` computes, as an engine of `hgq.verify`.

    Args:
        graph: the IR read from `model`.
        raw: real numbers to feed in place of the first rows, so that the layers' own input rounding takes part.
        float64: run a float64 copy, for models whose arithmetic does not fit float32.
    """

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with double_precision(float64):
            net = copy_model(model, "float64") if float64 else model
            source = functional_of(net)
            x = [_floats(graph[name], inputs[name], (raw or {}).get(name)) for name in graph.inputs]
            predicted = _predict(keras.Model(source.inputs, source.outputs), x, batch_size(graph))
        results = (_integers(graph[name], y) for name, y in zip(graph.outputs, predicted, strict=True))
        return dict(zip(graph.outputs, results, strict=True))

    return run


def float32_error(model: keras.Model, graph: Graph, inputs: Mapping[str, np.ndarray]) -> float:
    """The largest difference between an output of the float32 model and the golden model, on these inputs.

    A real number. For models whose arithmetic does not fit float32; where it does, this is 0.
    """
    golden, single = evaluate(graph, inputs), keras_engine(model, graph)(inputs)
    off = 0.0
    for name in graph.outputs:
        steps = np.abs(single[name].astype(np.float64) - golden[name].astype(np.float64))
        off = max(off, float(np.ldexp(steps, -graph[name].range.frac).max(initial=0)))
    return off


def layer_values(
    model: keras.Model, graph: Graph, inputs: Mapping[str, np.ndarray], *, float64: bool = False
) -> dict[str, np.ndarray]:
    """Outputs of every quantised layer, by the IR node that stands for it, in the order of the graph.

    Args:
        float64: ask a float64 copy, for models whose arithmetic does not fit float32.
    """
    with double_precision(float64):
        return _layer_values(copy_model(model, "float64") if float64 else model, graph, inputs)


def _layer_values(model: keras.Model, graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    source = functional_of(model)
    last = {node.origin: node.name for node in graph}  # the last node of a layer is what the layer gives
    calls = calls_of(source)
    often = {id(layer) for layer, _, before in calls if before}  # their nodes are named otherwise
    tensors = {
        last[layer.name]: node.output_tensors[0]
        for layer, node, _ in calls
        if isinstance(layer, QLayer) and layer.name in last and id(layer) not in often
    }
    x = [_floats(graph[name], inputs[name], None) for name in graph.inputs]
    values = _predict(keras.Model(source.inputs, list(tensors.values())), x, batch_size(graph))
    return {name: _integers(graph[name], y) for name, y in zip(tensors, values, strict=True)}


def _predict(model: keras.Model, x: list[np.ndarray], batch: int) -> list[np.ndarray]:
    parts = []
    for start in range(0, max(len(x[0]), 1), batch):
        y = model([one[start : start + batch] for one in x], training=False)
        parts.append([np.asarray(keras.ops.convert_to_numpy(t)) for t in keras.tree.flatten(y)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _floats(node: Node, integers: np.ndarray, raw: np.ndarray | None) -> np.ndarray:
    x = decode(integers, node.range.frac)
    if raw is not None:
        x[: len(raw)] = raw
    return x


def _integers(node: Node, y: np.ndarray) -> np.ndarray:
    """Values in LSBs: integers if they all are, else floats, which then differ from the golden model."""
    scaled = np.ldexp(y.astype(np.float64), node.range.frac)
    whole = np.isfinite(scaled).all() and (scaled == np.floor(scaled)).all()
    return scaled.astype(np.int64) if whole and np.abs(scaled).max(initial=0) < 2.0**62 else scaled
