"""Where the elements of each tensor come from: ops that only move elements are wires, not logic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.ir.graph import Graph, Node

WIRING = {"reshape", "scale", "take"}
"""IR ops that rename, rearrange or shift elements: no logic."""

HEADS = {"conv", "max_pool", "sum_pool"}
"""IR ops that start a module of their own, which may stand once for many positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """A tensor as elements of others.

    bases: the nodes whose wires carry the elements.
    sizes: how many elements each base has.
    index: for each element, in C order, its place among all elements of the bases, one base after the other; -1 is
        the constant 0. None: the one base as it is.
    """

    bases: tuple[str, ...]
    sizes: tuple[int, ...]
    index: np.ndarray | None = None

    def parts(self) -> dict[str, tuple[int, ...] | None]:
        """Which elements of each base are there; None for all."""
        if self.index is None:
            return {self.bases[0]: None}
        places, start, found = np.unique(self.index), 0, {}
        for base, size in zip(self.bases, self.sizes, strict=True):
            own = places[(places >= start) & (places < start + size)] - start
            found[base] = None if len(own) == size else tuple(own.tolist())
            start += size
        return found


def wirings(graph: Graph) -> dict[str, Wiring]:
    """For each node, where its elements come from: from itself, unless it only moves those of others.

    An arrangement gets a module of its own where a wire must carry it: as an output of the design, and before a layer
    whose positions share modules, which read slices of one wire.
    """
    result: dict[str, Wiring] = {}
    made = set()
    for name in (*graph.outputs, *(node.args[0] for node in graph if _shares(node))):
        while name not in made:
            made.add(name)
            if graph[name].op in ("reshape", "scale"):  # the same wire
                name = graph[name].args[0]
    for node in graph:
        if node.op in ("reshape", "scale"):
            result[node.name] = result[node.args[0]]
        elif node.op == "take" and node.name not in made:
            result[node.name] = _taken(graph, node, result)
        else:
            result[node.name] = Wiring((node.name,), (node.range.lo.size,))
    return result


def _shares(node: Node) -> bool:
    return node.op in HEADS or (node.op == "dense" and len(node.shape) > 1)


def _taken(graph: Graph, node: Node, known: dict[str, Wiring]) -> Wiring:
    """The arrangement of an arrangement: bases that no element needs are left out."""
    sizes = {base: graph[base].range.lo.size for arg in node.args for base in known[arg].bases}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    places = []
    for arg in node.args:
        wiring = known[arg]
        own = np.concatenate([starts[base] + np.arange(sizes[base]) for base in wiring.bases])
        places.append(own if wiring.index is None else np.where(wiring.index < 0, -1, own[wiring.index]))
    index = np.ravel(node.attrs["index"])
    index = np.where(index < 0, -1, np.concatenate(places)[index])
    used = [base for base in sizes if ((index >= starts[base]) & (index < starts[base] + sizes[base])).any()]
    moved = np.full(sum(sizes.values()), -1)
    end = 0
    for base in used:
        moved[starts[base] : starts[base] + sizes[base]] = np.arange(end, end + sizes[base])
        end += sizes[base]
    return Wiring(tuple(used), tuple(sizes[base] for base in used), np.where(index < 0, -1, moved[index]))
