"""Which time steps of a recurrent layer can share a module."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from hgq.fixed import FixedArray
from hgq.ir.graph import Graph, Node
from hgq.lower.wiring import Wiring
from hgq.names import layer_of_step
from hgq.netlist.design import Wire


def signature(
    graph: Graph,
    source: dict[str, Wiring],
    nodes: list[Node],
    wires: dict[str, Wire],
    reads: dict[str, tuple[int, ...] | None],
    outputs: list[str],
) -> Hashable:
    """Equal for modules that would compute the same from ports of the same types; None for what is no time step.

    Args:
        nodes: those of the module. wires, reads: what it reads, and which elements. outputs: what leaves it.
    """
    if not nodes or any(layer_of_step(node.origin) != layer_of_step(nodes[0].origin) for node in nodes):
        return None
    if layer_of_step(nodes[0].origin) is None:
        return None
    number = {name: n for n, name in enumerate((*wires, *(node.name for node in nodes)))}
    places = {name: _places(reads[name], len(wire.elements)) for name, wire in wires.items()}
    ports = tuple(
        tuple(wire.elements[i] for i in (reads[name] or range(len(wire.elements)))) for name, wire in wires.items()
    )
    body = tuple(
        (
            node.op,
            tuple((key, _frozen(value)) for key, value in sorted(node.attrs.items())),
            tuple(_elements(source[arg], number, places) for arg in node.args),
            tuple(_frozen(graph[arg].range.frac) for arg in node.args),
        )
        for node in nodes
    )
    return ports, body, tuple(number[out] for out in outputs)


def _places(part: tuple[int, ...] | None, size: int) -> np.ndarray:
    """For each element of a wire, its place at the port; -1 for what the module does not read."""
    places = np.full(size, -1)
    read = range(size) if part is None else part
    places[list(read)] = np.arange(len(read))
    return places


def _elements(wiring: Wiring, number: dict[str, int], places: dict[str, np.ndarray]) -> Hashable:
    """Where each element of an argument comes from: tensor of the module and place in it."""
    pool = [
        (number[base], int(place))
        for base, size in zip(wiring.bases, wiring.sizes, strict=True)
        for place in places.get(base, np.arange(size))
    ]
    return tuple(pool) if wiring.index is None else tuple(pool[i] if i >= 0 else None for i in wiring.index.tolist())


def _frozen(value: Any) -> Hashable:
    if isinstance(value, FixedArray):
        return tuple(_frozen(part) for part in (value.signed, value.width, value.frac))
    if isinstance(value, np.ndarray):
        return value.shape, tuple(value.ravel().tolist()) if value.dtype == object else value.astype(np.int64).tobytes()
    return value
