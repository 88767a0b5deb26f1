"""The golden model: what the graph computes, on integers, over a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hgq.ir.graph import Graph
from hgq.ir.ops import OPS

BATCH = 8192
"""Samples evaluated at once at most ..."""
INTEGERS = 1 << 25
"""... and integers held at once, over all nodes: images have many. Bounds the memory to some hundred MB."""


def batch_size(graph: Graph) -> int:
    """How many samples to evaluate at once."""
    each = sum(node.range.lo.size for node in graph)
    return max(1, min(BATCH, INTEGERS // max(each, 1)))


def evaluate_nodes(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The integers of every node, by name; arrays of shape ``(samples, *node.shape)`` at each node's own grid.

    Args:
        inputs: for each input node, integers of its types, int64 or Python integers in an object array.

    Raises:
        ValueError: an input is missing, has the wrong shape, or holds an integer that its type cannot.
    """
    values: dict[str, np.ndarray] = {}
    for node in graph:
        if node.op == "input":
            values[node.name] = _accept(node.name, inputs, node.range.lo, node.range.hi)
        else:
            arguments = [values[arg] for arg in node.args]
            ranges = tuple(graph[arg].range for arg in node.args)
            values[node.name] = OPS[node.op].evaluate(node.attrs, node.range, ranges, *arguments)
    return values


def evaluate(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The integers of the outputs, by name; see `evaluate_nodes`. Works through the samples in batches."""
    parts = [evaluate_nodes(graph, batch) for batch in _batches(inputs, batch_size(graph))]
    return {name: np.concatenate([part[name] for part in parts]) for name in graph.outputs}


def _batches(inputs: Mapping[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    samples = min((len(x) for x in inputs.values()), default=0)
    for start in range(0, max(samples, 1), size):
        yield {name: x[start : start + size] for name, x in inputs.items()}


def _accept(name: str, inputs: Mapping[str, np.ndarray], lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    if name not in inputs:
        raise ValueError(f"no data for input '{name}'; got data for {sorted(inputs)}")
    x = np.asarray(inputs[name])
    if x.shape[1:] != lo.shape:
        raise ValueError(f"input '{name}' takes integers of shape (samples, *{lo.shape}), got {x.shape}")
    if x.dtype != object:
        if not np.issubdtype(x.dtype, np.integer):
            raise ValueError(f"input '{name}' takes integers in LSBs, got {x.dtype}; use project.encode")
        x = x.astype(np.int64)
    if len(x) and ((x.min(axis=0) < lo) | (x.max(axis=0) > hi)).any():
        raise ValueError(f"input '{name}' holds an integer outside its port's type; use project.encode")
    return x
