"""The graph: pure dataflow between named tensors, in topological order, immutable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.fixed import FixedArray
from hgq.ir.ops import OPS
from hgq.ir.range import Range


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One tensor: `op` applied to earlier tensors, which are named by `args`.

    attrs: constants and options, exactly those that OPS lists for the op.
    origin: name of the Keras layer it comes from; for messages and module names, without meaning.
    range: which integers each element can take, by the op's rule.
    """

    name: str
    op: str
    args: tuple[str, ...]
    attrs: Mapping[str, Any]
    origin: str
    range: Range = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.range.shape

    @property
    def types(self) -> FixedArray:
        """Types of the elements: the learned ones where the op states them, else the narrowest for the range."""
        return self.attrs["types"] if "types" in self.attrs else self.range.types


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes in topological order; the names of those that enter and leave."""

    nodes: Mapping[str, Node]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def learned_types(self, name: str) -> FixedArray:
        """Types of the tensor `name` as trained: those of the quantizer or port it comes from, wherever it is moved."""
        node = self.nodes[name]
        if node.op == "reshape":
            return self.learned_types(node.args[0]).reshape(node.shape)
        if node.op == "take":
            sources = [self.learned_types(arg) for arg in node.args]
            index = node.attrs["index"]
            columns = (
                np.concatenate([part.ravel() for part in parts]) for parts in zip(*map(_parts, sources), strict=True)
            )
            return FixedArray(*(np.where(index < 0, 0, column[index]) for column in columns))
        return node.types

    def users(self) -> dict[str, list[str]]:
        """For each node, the names of those that read it."""
        users: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self:
            for arg in node.args:
                users[arg].append(node.name)
        return users

    def __str__(self) -> str:
        from hgq.ir.text import to_text

        return to_text(self)


def _parts(types: FixedArray) -> tuple[np.ndarray, ...]:
    return types.signed, types.width, types.frac


class Builder:
    """Adds nodes one by one; each result's range follows from the op's rule."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._inputs: list[str] = []

    def add(self, name: str, op: str, *args: str, origin: str = "", **attrs: Any) -> str:
        """Adds ``name = op(*args)`` and returns `name`."""
        if op not in OPS:
            raise IRError(f"{name}: there is no op {op!r}; the IR has {', '.join(OPS)}")
        if name in self._nodes:
            raise IRError(f"two nodes are called {name!r}")
        if not OPS[op].attrs_fit(attrs):
            raise IRError(f"{name}: {op} takes the attributes {sorted(OPS[op].attrs)}, got {sorted(attrs)}")
        missing = [arg for arg in args if arg not in self._nodes]
        if missing:
            raise IRError(f"{name}: reads {missing[0]!r}, which no earlier node defines")
        ranges = [self._nodes[arg].range for arg in args]
        self._nodes[name] = Node(name, op, args, attrs, origin, OPS[op].infer(attrs, *ranges))
        if op == "input":
            self._inputs.append(name)
        return name

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def graph(self, *outputs: str) -> Graph:
        """The finished graph; nodes that no output needs are left out, inputs stay."""
        live = set(outputs) | set(self._inputs)
        for name in reversed(self._nodes):
            if name in live:
                live.update(self._nodes[name].args)
        nodes = {name: node for name, node in self._nodes.items() if name in live}
        return Graph(nodes, tuple(self._inputs), outputs)
