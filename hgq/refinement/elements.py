"""Elements of a network as rules make them, column by column, and where the graph's tensors are among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hgq.errors import HGQError
from hgq.ir.graph import Node
from hgq.ir.ops.pool import pool_windows
from hgq.ir.ops.record import reduce_constant
from hgq.refinement.native import KINDS, RULE, TYPE
from hgq.refinement.owners import Owners

SPARE = 1
"""Fractional bits that weights and activations may gain before the network has to be made anew."""
MOST_TERMS = 40_000_000
"""Products of all sums at most; each takes 50 bytes."""
MOST_BITS = 62
"""Bits of an integer at its grid."""


@dataclass(frozen=True)
class View:
    """A tensor of the graph: for each element which element of the network it is, and its fractional bits there."""

    element: np.ndarray
    frac: np.ndarray
    rectified: bool = False

    def reshape(self, shape: tuple[int, ...]) -> View:
        return View(self.element.reshape(shape), self.frac.reshape(shape), self.rectified)


@dataclass
class Terms:
    """Products that sums are made of: source and destination elements, parameter or -1, unit, value where fixed."""

    source: list[np.ndarray] = field(default_factory=list)
    destination: list[np.ndarray] = field(default_factory=list)
    param: list[np.ndarray] = field(default_factory=list)
    unit: list[np.ndarray] = field(default_factory=list)
    fixed: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    def add(self, source: Any, destination: Any, param: Any, unit: Any, fixed: Any) -> None:
        parts = np.broadcast_arrays(source, destination, param, unit, fixed)
        lists = (self.source, self.destination, self.param, self.unit, self.fixed)
        for column, part in zip(lists, parts, strict=True):
            column.append(part.ravel())
        self.count += parts[0].size
        if self.count > MOST_TERMS:
            raise HGQError(
                f"the model multiplies more than {MOST_TERMS:,} times for one sample, which refinement cannot hold.\n"
                "  Fix: refine a smaller model."
            )


class Elements:
    """What `hgq.refinement.native.Evaluator` is given, as far as it is made.

    zero: the element that is always 0; what has no bits stands there.
    weight_frac, group_frac, fixed: of `Network`.
    """

    def __init__(self, owners: Owners, x: Mapping[str, np.ndarray]):
        self.owners, self.graph = owners, owners.graph
        self.samples = len(next(iter(x.values())))
        self.x = x
        self.kind: list[np.ndarray] = []
        self.grid: list[np.ndarray] = []
        self.width: list[np.ndarray] = []
        self.rule: list[np.ndarray] = []
        self.group: list[np.ndarray] = []
        self.bias: list[np.ndarray] = []
        self.bias_param: list[np.ndarray] = []
        self.sources: list[tuple[np.ndarray, np.ndarray]] = []  # elements, and a row of sources for each
        self.shifts: list[np.ndarray] = []
        self.inputs: list[tuple[np.ndarray, np.ndarray]] = []
        self.terms = Terms()
        self.table: list[np.ndarray] = []
        self.count = 0
        self.users = self.graph.users()
        params = sum(c.size for c in owners.constants)
        self.groups = sum(r.size for r in owners.rounders)
        self.value = np.zeros(params)
        self.weight_frac = np.zeros(params, np.int64)
        for c in owners.constants:
            at = slice(c.first, c.first + c.size)
            self.value[at] = c.values.ravel()
            self.weight_frac[at] = self._finest(c) + SPARE if c.own_types else c.frac.ravel()
        self.type = np.zeros(self.groups, TYPE)
        self.group_frac = np.zeros(self.groups, np.int64)
        self.fixed = np.zeros(self.groups, bool)
        for r in owners.rounders:
            at = slice(r.first, r.first + r.size)
            signed = r.types.signed.ravel().astype(np.int32)
            self.type["signed"][at], self.type["frac"][at] = signed, r.types.frac.ravel()
            self.type["bits"][at] = r.types.width.ravel() - signed
            self.group_frac[at] = r.types.frac.ravel() + np.where(r.types.width.ravel() > 0, SPARE, 0)
        zero = self.add("input", 1, grid=0, width=0)
        self.inputs.append((zero, np.zeros((self.samples, 1), np.int64)))
        self.zero = int(zero[0])

    @staticmethod
    def _finest(constant: Any) -> int:
        _, frac = reduce_constant(np.ldexp(constant.values, constant.frac).astype(np.int64), constant.frac)
        return int(max(frac[constant.values != 0].max(initial=0), 0))

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the evaluator."""
        columns = {
            name: np.concatenate(getattr(self, name))
            for name in ("kind", "grid", "width", "rule", "bias", "bias_param")
        }
        terms = {
            name: np.concatenate(part) if (part := getattr(self.terms, name)) else np.zeros(0)
            for name in ("source", "destination", "param", "unit", "fixed")
        }
        start, source, shift = self._lists()
        inputs = np.zeros((self.samples, self.count), np.int64)
        for elements, integers in self.inputs:
            inputs[:, elements] = integers
        table = np.concatenate([np.zeros(1, np.int64), *self.table])
        made = columns | terms | {"from": start, "from_source": source, "from_shift": shift, "table": table}
        made |= {"group_of": np.concatenate(self.group), "value": self.value, "type": self.type, "inputs": inputs}
        return made

    def _lists(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sources of all elements that are no sums, by element."""
        counts = np.zeros(self.count + 1, np.int64)
        for elements, sources in self.sources:
            counts[elements + 1] = sources.shape[1]
        start = np.cumsum(counts)
        source, shift = np.zeros(start[-1], np.int64), np.zeros(start[-1], np.int64)
        for (elements, sources), shifts in zip(self.sources, self.shifts, strict=True):
            at = start[elements][:, None] + np.arange(sources.shape[1])
            source[at], shift[at] = sources, shifts
        return start, source, shift

    def add(
        self,
        kind: str,
        size: int,
        *,
        grid: Any,
        width: Any,
        rule: np.ndarray | None = None,
        group: Any = -1,
        bias: Any = 0,
        bias_param: Any = -1,
    ) -> np.ndarray:
        """New elements; the arguments are one for all or an array."""
        new = np.arange(self.count, self.count + size)
        self.count += size
        self.kind.append(np.full(size, KINDS[kind], np.uint8))
        self.rule.append(np.zeros(size, RULE) if rule is None else rule)
        columns = ((self.grid, grid), (self.width, width), (self.group, group), (self.bias, bias))
        for column, given in (*columns, (self.bias_param, bias_param)):
            column.append(np.broadcast_to(np.asarray(given).ravel() if np.size(given) > 1 else given, (size,)))
        return new

    def reads(self, elements: np.ndarray, sources: np.ndarray, shifts: Any) -> None:
        """That elements read `sources`: an array with a row for each."""
        sources = np.asarray(sources).reshape(len(elements), -1)
        self.sources.append((elements, sources))
        self.shifts.append(np.broadcast_to(shifts, sources.shape))

    def view(self, node: Node, elements: np.ndarray, frac: Any) -> View:
        shape = node.shape
        return View(elements.reshape(shape), np.broadcast_to(frac, (elements.size,)).reshape(shape))

    def grid_of(self, elements: np.ndarray) -> np.ndarray:
        return np.concatenate(self.grid)[elements]


def columns(x: View) -> list[View]:
    """A tensor along its last axis."""
    return [View(x.element[..., k], x.frac[..., k]) for k in range(x.element.shape[-1])]


def pooled(node: Node, x: View) -> list[View]:
    """What the windows of a pooling read, tap by tap; -1 outside."""
    windows = pool_windows(node.attrs, x.element.shape)
    element, frac = windows.gather(x.element, -1), windows.gather(x.frac, 0)
    return [View(element[:, tap], frac[:, tap]) for tap in range(element.shape[1])]
