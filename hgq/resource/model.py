"""Cost of a whole model: the sum over its layers, each as often as it is called."""

from __future__ import annotations

from typing import Any

COSTS = ("ebops", "luts")
"""What training may press on: EBOPs-bar, the published baseline, or the LUTs to expect."""


def model_luts(model: Any) -> int:
    """LUTs to expect of a built model, generic Verilog at effort 1; each call of a shared layer counts."""
    return round(sum(float(layer.luts() + layer.product_luts()) * calls for layer, calls in priced_layers(model)))


def set_cost(model: Any, cost: str) -> None:
    """Makes `cost`, "ebops" or "luts", what all quantised layers of a model add to its loss.

    A training step that is already compiled is dropped: it would go on with the other cost.
    """
    if cost not in COSTS:
        raise ValueError(f"cost={cost!r}; choose one of {', '.join(COSTS)}")
    layers = [layer for layer, _ in priced_layers(model)]
    changed = any(layer.cost != cost for layer in layers)
    for layer in layers:
        layer.cost = cost
    if changed and getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)


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
