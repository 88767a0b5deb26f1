"""max_pool(relu(x))  ->  relu(max_pool(x)): one rectifier for a window in place of one for each of its elements."""

from __future__ import annotations

from dataclasses import replace

from hgq.ir.graph import Graph, Node
from hgq.ir.ops import OPS


def pool_first(graph: Graph) -> Graph:
    """The graph with a ReLU that a max pooling alone reads moved behind it; every tensor that stays is what it was.

    Both are monotone, so they commute. Not where windows overlap: there are as many results as elements then.
    """
    users = graph.users()
    nodes: dict[str, Node] = {}
    for node in graph:
        before = graph[node.args[0]] if node.op == "max_pool" else None
        if before is not None and before.op == "relu" and _alone(graph, users, before, node):
            (source,) = before.args
            found = OPS["max_pool"].infer(node.attrs, graph[source].range)
            behind = OPS["relu"].infer({}, found)
            # An element that is never above 0 stands on no grid behind its ReLU, but may need a fine one before it.
            if behind == node.range:
                pooled = f"{node.name}.signed"
                while pooled in graph.nodes:
                    pooled += "_"
                nodes[pooled] = replace(node, name=pooled, args=(source,), range=found)
                nodes[node.name] = replace(node, op="relu", args=(pooled,), attrs={})
                del nodes[before.name]
                continue
        nodes[node.name] = node
    return Graph(nodes, graph.inputs, graph.outputs)


def _alone(graph: Graph, users: dict[str, list[str]], relu: Node, pool: Node) -> bool:
    """Whether nothing else reads `relu`, and no element of it is in two windows of `pool`."""
    if users[relu.name] != [pool.name] or relu.name in graph.outputs:
        return False
    return all(step >= size for step, size in zip(pool.attrs["strides"], pool.attrs["size"], strict=True))
