"""An integer graph as single elements for the compiled evaluator: every integer at a grid that no change leaves.

A sum's grid is fine enough for each weight with one fractional bit more than the finest of its kernel, a quantizer's
for one fractional bit more than it has. What moves elements makes none; a ReLU before quantizers belongs to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from hgq.ir.graph import Graph
from hgq.refinement import rules, sums
from hgq.refinement.elements import Elements, View
from hgq.refinement.owners import Owners

RULES = rules.RULES | sums.RULES
"""Of every operation of the IR."""


@dataclass
class Network:
    """The arrays of `hgq.refinement.native.Evaluator`, and where the graph's tensors are.

    weight_frac: for each parameter, the fractional bits that its value may have at most.
    group_frac: the same for each group. fixed_groups: groups whose types must not change.
    """

    owners: Owners
    views: dict[str, View]
    arrays: dict[str, np.ndarray]
    weight_frac: np.ndarray
    group_frac: np.ndarray
    fixed_groups: np.ndarray

    def integers(self, values: np.ndarray, name: str) -> np.ndarray:
        """The integers of a node as `hgq.ir.evaluate` has them, from the values of the elements."""
        view, node = self.views[name], self.owners.graph[name]
        surplus = np.where(node.range.zero, 0, view.frac - node.range.frac)
        found = values[:, view.element]
        return np.where(surplus >= 0, found >> np.maximum(surplus, 0), found << np.maximum(-surplus, 0))


def build_network(owners: Owners, x: Mapping[str, np.ndarray]) -> Network:
    """The network of a model for the samples `x` (real numbers, by input name).

    Raises:
        HGQError: it is too large, or an integer would not fit.
    """
    e, views = Elements(owners, x), dict[str, View]()
    for node in owners.graph:
        views[node.name] = RULES[node.op](e, node, *(views[arg] for arg in node.args))
    return Network(owners, views, e.arrays(), e.weight_frac, e.group_frac, e.fixed)


def rows_of(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Elements of an output as rows of classes, and the LSB of each."""
    shape = view.element.shape
    last = shape[-1] if shape else 1
    return view.element.reshape(-1, last), np.ldexp(1.0, -view.frac.reshape(-1, last))


def size_of(graph: Graph) -> int:
    """How many elements the graph has, about: what bounds the samples that fit into memory."""
    return sum(prod(node.shape) for node in graph)
