"""Layers that do the same at many positions: one module for all positions whose types agree.

A tile is one position of such a layer together with what follows element by element (ReLU, quantizers). Where enough
tiles are alike, each kind becomes a module and each position an instance, so that the Verilog grows with the kernel
and not with the image; otherwise, as with types for each element, the layer is one module as any other.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import FixedArray
from hgq.ir.graph import Graph, Node
from hgq.ir.range import Range
from hgq.lower.activation import quantize, relu
from hgq.lower.conv import ConvTiles
from hgq.lower.dense import affine
from hgq.lower.pool import PoolTiles
from hgq.lower.rule import Refs, Rule
from hgq.netlist.module import Builder

ELEMENTWISE: dict[str, Rule] = {"quantize": quantize, "relu": relu, "affine": affine}
"""Ops that may follow in a tile: each element of the result depends on that element of the one argument."""

SHARED = 2
"""How many positions a module must serve on average to be worth its name."""


def tiles_of(node: Node, source: Range) -> ConvTiles | PoolTiles | None:
    """How `node` splits into positions, if it does."""
    if node.op == "conv" or (node.op == "dense" and len(node.shape) > 1):
        return ConvTiles(node, source)
    if node.op in ("max_pool", "sum_pool"):
        return PoolTiles(node, source)
    return None


@dataclass(frozen=True, slots=True)
class Plan:
    """The kinds of tiles of one layer. nodes: the tiled op, then the ops that follow element by element.

    kinds: for each position, the number of its module; first: a position of each kind.
    """

    tiles: ConvTiles | PoolTiles
    nodes: tuple[Node, ...]
    kinds: tuple[int, ...]
    first: tuple[int, ...]

    @property
    def worth(self) -> bool:
        """Whether enough positions share a module."""
        return len(self.kinds) >= SHARED * len(self.first) and len(self.kinds) > 1

    def elements(self, position: int) -> tuple[int, ...]:
        """The elements of every result that stand at `position`."""
        channels = self.tiles.channels
        return tuple(range(position * channels, (position + 1) * channels))

    def make(self, builder: Builder, position: int, refs: Refs) -> dict[str, Refs]:
        """The results at `position`, by node, from what the window there reads."""
        made = {self.nodes[0].name: tuple(self.tiles.make(builder, position, refs, self.nodes[0].origin))}
        last = self.nodes[0]
        for node in self.nodes[1:]:
            here = _node_at(node, position, self.tiles.positions)
            given = _range_at(last.range, position, self.tiles.positions)
            made[node.name] = ELEMENTWISE[node.op](builder, here, (given,), (made[last.name],))
            last = node
        return made


def plan_tiles(graph: Graph, nodes: list[Node], elements: tuple[tuple, ...] | None = None) -> Plan | None:
    """The kinds of tiles of a chain of nodes, or None where it is no such chain.

    Args:
        elements: what the wire that the first node reads holds, where that is known better than by the graph.
    """
    head = nodes[0]
    source = graph[head.args[0]].range if head.args else None
    tiles = tiles_of(head, source) if source is not None else None
    if tiles is None:
        return None
    chain = {head.name}
    for node in nodes[1:]:
        if node.op not in ELEMENTWISE or len(node.args) != 1 or _through_reshapes(graph, node.args[0]) not in chain:
            return None
        chain = {node.name}
    columns = [_rows(tiles, node) for node in nodes[1:]]
    seen: dict[Hashable, int] = {}
    kinds = []
    for position in range(tiles.positions):
        key: tuple = (tiles.key(position), *(column[position] for column in columns))
        if elements is not None:
            key += (tuple(elements[i] for i in tiles.reads(position)),)
        kinds.append(seen.setdefault(key, len(seen)))
    _, first = np.unique(kinds, return_index=True)
    return Plan(tiles, tuple(nodes), tuple(kinds), tuple(first.tolist()))


def _through_reshapes(graph: Graph, name: str) -> str:
    node = graph[name]
    return _through_reshapes(graph, node.args[0]) if node.op == "reshape" else name


def _rows(tiles: ConvTiles | PoolTiles, node: Node) -> list[Hashable]:
    """What tells the positions of an elementwise node apart: its attributes there."""
    columns: list[list] = []
    for value in _per_element(node).values():
        columns += [a.reshape(tiles.positions, -1).tolist() for a in _arrays(value)]
    return [tuple(map(tuple, row)) for row in zip(*columns, strict=True)] or [()] * tiles.positions


def _per_element(node: Node) -> dict[str, Any]:
    """The attributes of an elementwise node that hold something for each element, at the node's full shape."""
    if node.op == "quantize":
        return {"types": node.attrs["types"]}
    if node.op == "affine":
        names = [name for name in node.attrs if not name.endswith("_types")]
        whole: dict[str, Any] = {name: np.broadcast_to(node.attrs[name], node.shape) for name in names}
        return whole | {f"{name}_types": node.attrs[f"{name}_types"].broadcast_to(node.shape) for name in names}
    return {}


def _node_at(node: Node, position: int, positions: int) -> Node:
    """`node` as if it had the elements of one position only."""
    attrs = dict(node.attrs)
    for name, value in _per_element(node).items():
        parts = [a.reshape(positions, -1)[position] for a in _arrays(value)]
        attrs[name] = FixedArray(*parts) if isinstance(value, FixedArray) else parts[0]
    return Node(node.name, node.op, node.args, attrs, node.origin, _range_at(node.range, position, positions))


def _range_at(whole: Range, position: int, positions: int) -> Range:
    return Range(*(a.reshape(positions, -1)[position] for a in (whole.lo, whole.hi, whole.frac)))


def _arrays(value: FixedArray | np.ndarray) -> tuple[np.ndarray, ...]:
    return (value.signed, value.width, value.frac) if isinstance(value, FixedArray) else (np.asarray(value),)
