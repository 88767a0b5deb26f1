"""The rules of the IR. A graph that breaks one is a bug of ours, in a frontend or a pass."""

from __future__ import annotations

from hgq.errors import IRError
from hgq.ir.graph import Graph
from hgq.ir.ops import OPS


def check(graph: Graph) -> None:
    """Raises IRError unless names, order, attributes and ranges of `graph` are as the ops demand."""
    seen: set[str] = set()
    for name, node in graph.nodes.items():
        if node.name != name:
            raise IRError(f"node {node.name!r} is filed under {name!r}")
        if node.op not in OPS:
            raise IRError(f"{name}: there is no op {node.op!r}")
        for arg in node.args:
            if arg not in seen:
                raise IRError(f"{name}: reads {arg!r}, which no earlier node defines")
        if not OPS[node.op].attrs_fit(node.attrs):
            raise IRError(f"{name}: {node.op} takes {sorted(OPS[node.op].attrs)}, has {sorted(node.attrs)}")
        if OPS[node.op].infer(node.attrs, *(graph[arg].range for arg in node.args)) != node.range:
            raise IRError(f"{name}: its range is not what {node.op} gives")
        seen.add(name)
    for name in (*graph.inputs, *graph.outputs):
        if name not in seen:
            raise IRError(f"port {name!r} is no node")
    inputs = tuple(node.name for node in graph if node.op == "input")
    if inputs != graph.inputs:
        raise IRError(f"inputs are {graph.inputs}, but the input nodes are {inputs}")
