"""An integer graph as single elements for the compiled evaluator: every integer at a grid that no change leaves.

A sum's grid is fine enough for each weight with one fractional bit more than the finest of its kernel, a quantizer's
for one fractional bit more than it has. What moves elements makes none; a ReLU before quantizers belongs to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from hgq.errors import HGQError
from hgq.fixed import FixedArray, encode
from hgq.ir.graph import Graph, Node
from hgq.ir.ops.conv import conv_windows, grouped, grouped_kernel
from hgq.ir.ops.pool import pool_windows
from hgq.ir.ops.record import reduce_constant
from hgq.refinement.native import KINDS, OVERFLOWS, ROUNDINGS, RULE, TYPE
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
    return _Builder(owners, x).network()


@dataclass
class _Terms:
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


class _Builder:
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
        self.terms = _Terms()
        self.table: list[np.ndarray] = []
        self.count = 0
        self.views: dict[str, View] = {}
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
        zero = self._add("input", 1, grid=0, width=0)
        self.inputs.append((zero, np.zeros((self.samples, 1), np.int64)))
        self.zero = int(zero[0])

    @staticmethod
    def _finest(constant: Any) -> int:
        _, frac = reduce_constant(np.ldexp(constant.values, constant.frac).astype(np.int64), constant.frac)
        return int(max(frac[constant.values != 0].max(initial=0), 0))

    def network(self) -> Network:
        for node in self.graph:
            view = getattr(self, "_add_node" if node.op == "add" else f"_{node.op}")(
                node, *(self.views[arg] for arg in node.args)
            )
            self.views[node.name] = view
        n = self.count
        columns = {
            name: np.concatenate(getattr(self, name))
            for name in ("kind", "grid", "width", "rule", "bias", "bias_param")
        }
        terms = {
            name: np.concatenate(part) if (part := getattr(self.terms, name)) else np.zeros(0)
            for name in ("source", "destination", "param", "unit", "fixed")
        }
        start, source, shift = self._lists()
        inputs = np.zeros((self.samples, n), np.int64)
        for elements, integers in self.inputs:
            inputs[:, elements] = integers
        table = np.concatenate([np.zeros(1, np.int64), *self.table])
        arrays = columns | terms | {"from": start, "from_source": source, "from_shift": shift, "table": table}
        arrays |= {"group_of": np.concatenate(self.group), "value": self.value, "type": self.type, "inputs": inputs}
        return Network(self.owners, self.views, arrays, self.weight_frac, self.group_frac, self.fixed)

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

    # --- elements ---------------------------------------------------------------------------------------------------

    def _add(
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

    def _reads(self, elements: np.ndarray, sources: np.ndarray, shifts: Any) -> None:
        """That elements read `sources`: an array with a row for each."""
        sources = np.asarray(sources).reshape(len(elements), -1)
        self.sources.append((elements, sources))
        self.shifts.append(np.broadcast_to(shifts, sources.shape))

    def _view(self, node: Node, elements: np.ndarray, frac: Any) -> View:
        shape = node.shape
        return View(elements.reshape(shape), np.broadcast_to(frac, (elements.size,)).reshape(shape))

    def _grid_of(self, elements: np.ndarray) -> np.ndarray:
        return np.concatenate(self.grid)[elements]

    # --- ports and quantizers ---------------------------------------------------------------------------------------

    def _input(self, node: Node) -> View:
        types: FixedArray = node.attrs["types"]
        x = np.asarray(self.x[node.name], np.float64)
        groups = self._movable(node)
        rounding, overflow = node.attrs["rounding"], node.attrs["overflow"]
        integers = encode(x, types, rounding, overflow).reshape(self.samples, -1)
        elements = self._add("input", types.size, grid=types.frac.ravel(), width=types.width.ravel())
        free = (groups >= 0) & (types.width.ravel() > 0)
        if not free.any():
            self.inputs.append((elements, integers))
            return self._view(node, elements, types.frac.ravel())
        # Two bits more than any type may have, the last one set where something lies below: enough to round from.
        fine = np.where(free, self.group_frac[groups] + 2, types.frac.ravel())
        scaled = np.ldexp(x.reshape(self.samples, -1), fine)
        floor = np.floor(scaled)
        if np.abs(floor).max(initial=0) >= 2.0**MOST_BITS:
            raise HGQError(f"input '{node.name}': a value is too large for refinement.\n  Fix: scale the data.")
        raw = np.where(free, floor.astype(np.int64) | (scaled != floor), integers)
        self.inputs.append((elements, raw))
        self.grid[-1] = fine
        plain = View(elements.reshape(node.shape), fine.reshape(node.shape))
        return self._rounded(node, plain, types, np.where(free, groups, -1))

    def _movable(self, node: Node) -> np.ndarray:
        return self.owners.groups.get(node.name, np.full(node.range.lo.size, -1)).ravel()

    def _quantize(self, node: Node, x: View) -> View:
        return self._rounded(node, x, node.attrs["types"], self._movable(node))

    def _rounded(self, node: Node, x: View, types: FixedArray, groups: np.ndarray) -> View:
        width, frac, signed = (a.ravel() for a in (types.width, types.frac, types.signed))
        groups = np.where(width > 0, groups, -1)
        grid = np.where(groups >= 0, self.group_frac[groups] if self.groups else 0, frac)
        rule = np.zeros(width.size, RULE)
        rule["rounding"], rule["overflow"] = ROUNDINGS[node.attrs["rounding"]], OVERFLOWS[node.attrs["overflow"]]
        rule["rectified"], rule["live"] = x.rectified, width > 0
        rule["drop"], rule["up"] = np.where(width > 0, x.frac.ravel() - frac, 0), grid - frac
        magnitude = np.minimum(width - signed, MOST_BITS - 1)
        rule["hi"] = (1 << magnitude) - 1
        rule["lo"] = np.where(signed, -rule["hi"] - (rule["overflow"] != OVERFLOWS["SAT_SYM"]), 0)
        elements = self._add("quantize", width.size, grid=grid, width=width, rule=rule, group=groups)
        self._reads(elements, x.element.ravel(), (x.frac.ravel() - self._grid_of(x.element.ravel()))[:, None])
        dead = np.where(width > 0, elements, self.zero)
        return self._view(node, dead, np.where(width > 0, grid, 0))

    # --- sums -------------------------------------------------------------------------------------------------------

    def _sums(self, node: Node, grid: Any, **bias: Any) -> np.ndarray:
        return self._add("linear", node.range.lo.size, grid=grid, width=node.range.types.width.ravel(), **bias)

    def _constant(self, node: Node, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Parameters, values and finest fractional bits of a constant of a node."""
        m, frac = reduce_constant(node.attrs[name], node.attrs[f"{name}_types"].frac)
        value = np.ldexp(m.astype(np.float64), -frac)
        params = self.owners.params.get((node.name, name), np.full(m.shape, -1))
        finest = np.where(params >= 0, self.weight_frac[params] if len(self.weight_frac) else 0, frac)
        return params, value, np.where((m == 0) & (params < 0), 0, finest)

    def _biases(self, node: Node, grid: np.ndarray, shape: tuple[int, ...]) -> dict[str, Any]:
        if "bias" not in node.attrs:
            return {}
        params, value, _ = self._constant(node, "bias")
        params, value = np.broadcast_to(params, shape).ravel(), np.broadcast_to(value, shape).ravel()
        return {"bias": np.ldexp(value, np.broadcast_to(grid, value.shape)).astype(np.int64), "bias_param": params}

    def _multiplied(self, node: Node, rows: View, params: np.ndarray, value: np.ndarray, finest: np.ndarray) -> View:
        """Sums of ``rows[p, g, i] * kernel[g, i, j]``, elements in the order (p, g, j)."""
        positions, groups, _ = rows.element.shape
        columns = value.shape[-1]
        live = rows.element != self.zero
        grid = np.where(live, rows.frac, 0).max(axis=2, initial=0) + max(int(finest.max(initial=0)), 0)
        if "bias" in node.attrs:
            grid = np.maximum(grid, int(self._constant(node, "bias")[2].max(initial=0)))
        each = np.repeat(grid[..., None], columns, axis=2)
        new = self._sums(node, each.ravel(), **self._biases(node, each.ravel(), node.shape))
        destination = new.reshape(positions, groups, 1, columns)
        wanted = (params >= 0) | (value != 0)
        for p in range(positions):
            at = live[p][:, :, None] & wanted
            unit = np.ldexp(1.0, grid[p][:, None] - rows.frac[p])[:, :, None]
            parts = np.broadcast_arrays(rows.element[p][:, :, None], destination[p], params, unit, value)
            self.terms.add(*(part[at] for part in parts))
        return self._view(node, new, each.ravel())

    def _dense(self, node: Node, x: View) -> View:
        params, value, finest = self._constant(node, "kernel")
        rows = x.reshape((-1, 1, x.element.shape[-1]))
        return self._multiplied(node, rows, params[None], value[None], finest)

    def _conv(self, node: Node, x: View) -> View:
        windows = conv_windows(node.attrs, x.element.shape)
        (groups,) = node.attrs["groups"]
        params, value, finest = self._constant(node, "kernel")
        rows = View(grouped(windows.gather(x.element, self.zero), groups), grouped(windows.gather(x.frac, 0), groups))
        return self._multiplied(node, rows, grouped_kernel(params, groups), grouped_kernel(value, groups), finest)

    def _affine(self, node: Node, x: View) -> View:
        _, scale, finest = self._constant(node, "scale")
        m, frac = reduce_constant(node.attrs["offset"], node.attrs["offset_types"].frac)
        scale, finest, offset, ofrac = (
            np.broadcast_to(a, node.shape).ravel()
            for a in (scale, finest, np.ldexp(m.astype(np.float64), -frac), np.where(m == 0, 0, frac))
        )
        grid = np.maximum(x.frac.ravel() + finest, ofrac)
        new = self._sums(node, grid, bias=np.ldexp(offset, grid).astype(np.int64))
        at = scale != 0
        unit = np.ldexp(1.0, grid - x.frac.ravel())
        self.terms.add(x.element.ravel()[at], new[at], -1, unit[at], scale[at])
        return self._view(node, new, grid)

    def _merged(self, node: Node, parts: Sequence[tuple[View, float]], halvings: int = 0) -> View:
        """Sums of tensors of one shape, each times a factor; those at `zero` have no say."""
        fracs = [np.where(v.element == self.zero, -(1 << 20), v.frac).ravel() for v, _ in parts]
        grid = np.max(fracs, axis=0)
        grid = np.where(grid == -(1 << 20), 0, grid) + halvings
        new = self._sums(node, grid)
        for view, factor in parts:
            at = view.element.ravel() != self.zero
            unit = np.ldexp(1.0, (grid - view.frac.ravel())[at])
            self.terms.add(view.element.ravel()[at], new[at], -1, unit, factor)
        return self._view(node, new, grid)

    def _add_node(self, node: Node, *xs: View) -> View:
        return self._merged(node, [(x, 1.0) for x in xs])

    def _sub(self, node: Node, a: View, b: View) -> View:
        return self._merged(node, [(a, 1.0), (b, -1.0)])

    def _sum(self, node: Node, x: View) -> View:
        return self._merged(node, [(part, 1.0) for part in _columns(x)])

    def _sum_pool(self, node: Node, x: View) -> View:
        (halvings,) = node.attrs["halvings"]
        return self._merged(node, [(part, 2.0**-halvings) for part in self._windows(node, x)], halvings)

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _windows(self, node: Node, x: View) -> list[View]:
        """What the windows of a pooling read, tap by tap; `zero` outside."""
        windows = pool_windows(node.attrs, x.element.shape)
        element, frac = windows.gather(x.element, -1), windows.gather(x.frac, 0)
        return [View(element[:, tap], frac[:, tap]) for tap in range(element.shape[1])]

    def _extreme(self, node: Node, parts: Sequence[View], kind: str) -> View:
        # An element outside a window (-1) stands for the first one inside, which changes no extreme.
        elements, fracs = (np.stack([getattr(v, n).ravel() for v in parts], axis=1) for n in ("element", "frac"))
        first = np.argmax(elements >= 0, axis=1)[:, None]
        inside = elements >= 0
        elements = np.where(inside, elements, np.take_along_axis(elements, first, axis=1))
        fracs = np.where(inside, fracs, np.take_along_axis(fracs, first, axis=1))
        grid = np.where(elements == self.zero, -(1 << 20), fracs).max(axis=1)
        grid = np.where(grid == -(1 << 20), 0, grid)
        new = self._add(kind, len(elements), grid=grid, width=node.range.types.width.ravel())
        self._reads(new, elements, np.where(elements == self.zero, 0, grid[:, None] - fracs))
        return self._view(node, new, grid)

    def _max_pool(self, node: Node, x: View) -> View:
        return self._extreme(node, self._windows(node, x), "maximum")

    def _maximum(self, node: Node, *xs: View) -> View:
        return self._extreme(node, xs, "maximum")

    def _minimum(self, node: Node, *xs: View) -> View:
        return self._extreme(node, xs, "minimum")

    def _max(self, node: Node, x: View) -> View:
        return self._extreme(node, _columns(x), "maximum")

    def _min(self, node: Node, x: View) -> View:
        return self._extreme(node, _columns(x), "minimum")

    def _relu(self, node: Node, x: View) -> View:
        users = self.users[node.name]
        if users and node.name not in self.graph.outputs and all(self.graph[u].op == "quantize" for u in users):
            return View(x.element, x.frac, rectified=True)
        new = self._add("relu", x.element.size, grid=x.frac.ravel(), width=node.range.types.width.ravel())
        self._reads(new, x.element.ravel(), 0)
        return self._view(node, new, x.frac.ravel())

    def _clip(self, node: Node, x: View) -> View:
        (low, low_frac), (high, high_frac) = node.attrs["low"], node.attrs["high"]
        grid = np.maximum(x.frac.ravel(), max(low_frac, high_frac))
        rule = np.zeros(grid.size, RULE)
        rule["lo"], rule["hi"] = low << (grid - low_frac), high << (grid - high_frac)
        new = self._add("clip", grid.size, grid=grid, width=node.range.types.width.ravel(), rule=rule)
        self._reads(new, x.element.ravel(), (grid - x.frac.ravel())[:, None])
        return self._view(node, new, grid)

    def _lookup(self, node: Node, x: View) -> View:
        reads, types = node.attrs["reads"], node.attrs["types"]
        elements = x.element.ravel()
        groups = np.concatenate(self.group)[elements]
        self.fixed[groups[groups >= 0]] = True  # the table is made for this type
        rule = np.zeros(reads.size, RULE)
        rule["drop"] = np.where(elements == self.zero, 0, x.frac.ravel() - reads.frac.ravel())
        rule["lo"], rule["hi"] = reads.lo.ravel().astype(np.int64), node.attrs["start"].ravel() + self._table_size()
        self.table.append(np.asarray(node.attrs["table"], np.int64))
        new = self._add("lookup", reads.size, grid=types.frac.ravel(), width=types.width.ravel(), rule=rule)
        self._reads(new, elements, 0)
        return self._view(node, new, types.frac.ravel())

    def _table_size(self) -> int:
        return 1 + sum(len(part) for part in self.table)

    def _mul(self, node: Node, a: View, b: View) -> View:
        elements, grid = self._products(a.element.ravel(), a.frac.ravel(), b.element.ravel(), b.frac.ravel())
        return self._view(node, elements, grid)

    def _products(self, a: np.ndarray, a_frac: np.ndarray, b: np.ndarray, b_frac: np.ndarray) -> tuple[Any, Any]:
        grid = a_frac + b_frac
        widths = np.concatenate(self.width)
        new = self._add("product", a.size, grid=grid, width=widths[a] + widths[b])
        self._reads(new, np.stack([a, b], axis=1), 0)
        return new, grid

    def _matmul(self, node: Node, a: View, b: View) -> View:
        pairs = [np.broadcast_arrays(x[..., None], y[:, None]) for x, y in ((a.element, b.element), (a.frac, b.frac))]
        shape = pairs[0][0].shape
        (a_element, b_element), (a_frac, b_frac) = ([part.ravel() for part in pair] for pair in pairs)
        elements, grid = self._products(a_element, a_frac, b_element, b_frac)
        elements, grid = elements.reshape(shape), grid.reshape(shape)
        return self._merged(node, [(View(elements[:, :, k], grid[:, :, k]), 1.0) for k in range(shape[2])])

    def _scale(self, node: Node, x: View) -> View:
        return View(x.element, x.frac - node.attrs["power"], x.rectified)

    def _reshape(self, node: Node, x: View) -> View:
        return x.reshape(node.attrs["shape"])

    def _take(self, node: Node, *xs: View) -> View:
        index = node.attrs["index"]
        element, frac = (np.concatenate([getattr(x, n).ravel() for x in xs]) for n in ("element", "frac"))
        return View(np.where(index < 0, self.zero, element[index]), np.where(index < 0, 0, frac[index]))


def _columns(x: View) -> list[View]:
    """A tensor along its last axis."""
    return [View(x.element[..., k], x.frac[..., k]) for k in range(x.element.shape[-1])]


def rows_of(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Elements of an output as rows of classes, and the LSB of each."""
    shape = view.element.shape
    last = shape[-1] if shape else 1
    return view.element.reshape(-1, last), np.ldexp(1.0, -view.frac.reshape(-1, last))


def size_of(graph: Graph) -> int:
    """How many elements the graph has, about: what bounds the samples that fit into memory."""
    return sum(prod(node.shape) for node in graph)
