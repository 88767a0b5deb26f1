"""Cost of a whole model: the sum over its layers, each as often as it is called."""

from __future__ import annotations

from typing import Any


def model_ebops(model: Any) -> int:
    """Exact EBOPs of a built model; each call of a shared layer counts."""
    return round(sum((layer.exact_ebops() + layer.product_ebops()) * calls for layer, calls in priced_layers(model)))


def priced_layers(model: Any) -> list[tuple[Any, int]]:
    """The quantised layers of a model and how often each is called, in the order of their first call.

    Layers inside models inside the model are found too. In a subclassed model, whose graph nobody knows, each layer
    counts once.
    """
    found: dict[int, tuple[Any, int]] = {}
    _collect(model, 1, found)
    return list(found.values())


def _collect(part: Any, calls: int, found: dict[int, tuple[Any, int]]) -> None:
    if hasattr(part, "exact_ebops"):
        for inner in part.parts():
            _collect(inner, calls, found)
        if part.parts():
            return
        before = found.get(id(part), (part, 0))[1]
        found[id(part)] = part, before + calls
        return
    graph = getattr(part, "_functional", None) or part  # a Sequential model holds its graph there
    nodes = getattr(graph, "_nodes_by_depth", None)
    if nodes is not None:
        for depth in sorted(nodes, reverse=True):  # the greatest depth is the input
            for node in nodes[depth]:
                _collect(node.operation, calls, found)
    elif hasattr(part, "_flatten_layers"):
        for layer in part._flatten_layers(include_self=False, recursive=False):
            _collect(layer, calls, found)
