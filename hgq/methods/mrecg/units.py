"""The units that are reconstructed: stretches of a network between two tensors that all data pass through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from hgq.errors import ConversionError, problem

Layer = Any
Tensor = Any


@dataclass(frozen=True)
class Unit:
    """One residual block, or one layer with weights; and what follows it without weights (ReLU, pooling).

    layers: those with weights, in data flow order.
    """

    layers: tuple[Layer, ...]
    first: Tensor
    last: Tensor

    @property
    def name(self) -> str:
        ends = self.layers[0].name, self.layers[-1].name
        return ends[0] if len(self.layers) == 1 else " to ".join(ends)

    def model(self) -> keras.Model:
        """The unit by itself; shares the layers."""
        return keras.Model(self.first, self.last)


def partition(model: keras.Model, weighted: set[str]) -> list[Unit]:
    """The units of a functional model, in data flow order: together all its layers, each once.

    Args:
        weighted: the names of the layers with weights.

    Raises:
        ConversionError: several inputs or outputs, or a layer with weights that is called more than once.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        _refuse(
            "model",
            model.name,
            f"it has {len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "MRECG reconstructs networks with one of each; hgq.methods.rex takes others",
        )
    depths = model._nodes_by_depth  # the greatest depth is the input
    nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
    calls = [node.operation for node in nodes if node.operation.name in weighted]
    for layer in calls:
        if calls.count(layer) > 1:
            what = f"it is called {calls.count(layer)} times, and weights are rounded for one place only"
            _refuse("layer", layer.name, what, "use hgq.methods.rex")
    if not calls:
        _refuse("model", model.name, "it has no layer with weights", "give a network of Dense or Conv layers")

    readers: dict[int, int] = {id(model.outputs[0]): 1}
    for node in nodes:
        for tensor in node.input_tensors:
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    live: dict[int, Tensor] = {}
    units: list[Unit] = []
    start, waiting = model.inputs[0], []
    for node in nodes:
        for tensor in node.input_tensors:
            readers[id(tensor)] -= 1
            if not readers[id(tensor)]:
                live.pop(id(tensor), None)
        live.update({id(tensor): tensor for tensor in node.output_tensors if readers.get(id(tensor))})
        if node.operation.name in weighted:
            waiting.append(node.operation)
        if len(live) > 1:
            continue
        end = next(iter(live.values()))
        if waiting:
            units.append(Unit(tuple(waiting), start, end))
        elif units:
            units[-1] = Unit(units[-1].layers, units[-1].first, end)
        if units:  # what stands before the first layer with weights belongs to its unit
            start, waiting = end, []
    return units


def joined(units: list[Unit]) -> Unit:
    """Neighbours as one unit."""
    return Unit(tuple(layer for unit in units for layer in unit.layers), units[0].first, units[-1].last)


def _refuse(kind: str, name: str, what: str, fix: str) -> None:
    raise ConversionError([problem(kind, name, what, fix)])
