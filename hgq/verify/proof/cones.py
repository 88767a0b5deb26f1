"""What an element of the IR is, down to elements that are already at hand: a tree that equal elements share.

Written from the meaning of the IR's ops (hgq/ir/README.md), beside `evaluate` and the lowering rules, of which it uses
none. Numbers stand at the grid (frac) of their element, as everywhere in the IR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.ir.graph import Graph, Node
from hgq.ir.ops import reduce_constant
from hgq.ir.ops.conv import conv_windows
from hgq.ir.ops.pool import pool_windows
from hgq.ir.ops.table import table_of

Element = tuple[str, int]
"""A tensor and the place of an element in it, in C order."""
Stop = Callable[[Element], tuple | None]
"""What to put in place of an element, so that its own cone is not looked into: a leaf, a constant."""


class Cones:
    """The cones of a graph. A cone is a number; `keys` has what it consists of:

    ("leaf", number), ("const", value), ("sum", const, ((cone, coefficient), ...)), ("product", cone, cone),
    ("clamp", cone, lo, hi), ("relu", cone), ("largest", cones), ("smallest", cones), ("lookup", cone, lowest, entries),
    ("quantize", cone, drop, type, rounding, overflow).
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.keys: list[tuple] = []
        self._numbers: dict[tuple, int] = {}
        self._nodes: dict[str, _Columns] = {}

    def number(self, *key: Any) -> int:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.keys)
            self.keys.append(key)
        return found

    def columns(self, name: str) -> _Columns:
        if name not in self._nodes:
            self._nodes[name] = _Columns(self.graph[name])
        return self._nodes[name]

    def source(self, element: Element) -> Element | None:
        """Where the element of an op that only moves elements comes from; None for the constant 0."""
        name, i = element
        node = self.graph[name]
        if node.op != "take":
            return node.args[0], i
        i = self.columns(name).index[i]
        for arg in node.args:
            size = self.graph[arg].range.lo.size
            if 0 <= i < size:
                return arg, i
            i -= size
        return None

    def cone(self, element: Element, stop: Stop) -> int:
        """The cone of an element. `stop` is asked for every element on the way, the first one not."""
        name, i = element
        columns = self.columns(name)
        if columns.lo[i] == columns.hi[i]:
            return self.number("const", columns.lo[i])
        node = self.graph[name]
        if node.op in ("reshape", "scale", "take"):
            found = self.source(element)
            return self.number("const", 0) if found is None else self.at(*found, stop)
        rule = RULES.get(node.op)
        if rule is None:
            raise IRError(f"{name}: the proof has no rule for the op {node.op!r}")
        return rule(self, node, i, stop)

    def at(self, name: str, i: int, stop: Stop) -> int:
        """As `cone`, unless it is to stop right there."""
        key = stop((name, i))
        return self.cone((name, i), stop) if key is None else self.number(*key)

    # What the rules are made of.

    def frac(self, name: str, i: int) -> int | None:
        """The grid of an element; None for one that is always 0 and so is on any."""
        columns = self.columns(name)
        return None if columns.lo[i] == columns.hi[i] == 0 else columns.frac[i]

    def sum(self, terms: list[tuple[str, int, int]], const: int, stop: Stop) -> int:
        """``sum(coefficient * element) + const``; terms are (tensor, place, coefficient)."""
        parts: dict[int, int] = {}
        for name, i, c in terms:
            if c:
                cone = self.at(name, i, stop)
                parts[cone] = parts.get(cone, 0) + c
        return self.number("sum", const, tuple(parts.items()))

    def aligned(self, name: str, i: int, grid: int, stop: Stop) -> int:
        """An element at a finer grid."""
        own = self.frac(name, i)
        if own is None:
            return self.number("const", 0)
        return self.at(name, i, stop) if own == grid else self.sum([(name, i, 1 << grid - own)], 0, stop)


class _Columns:
    """The attributes of a node as lists, made when they are first asked for."""

    def __init__(self, node: Node):
        self.node = node
        self.lo, self.hi = node.range.lo.ravel().tolist(), node.range.hi.ravel().tolist()
        self.frac = node.range.frac.ravel().tolist()
        self.types = list(node.attrs["types"]) if "types" in node.attrs else []
        self.index = node.attrs["index"].ravel().tolist() if node.op == "take" else []
        self.constants: dict[str, tuple[list, list]] = {}
        self.windows: list[list[int]] = []
        self.tables: dict[tuple, tuple[int, tuple]] = {}

    def constant(self, name: str, shape: tuple[int, ...] | None = None) -> tuple[list, list]:
        """Mantissas without trailing zeros, and their fracs, in C order, broadcast to `shape`."""
        if name not in self.constants:
            both = reduce_constant(self.node.attrs[name], self.node.attrs[f"{name}_types"].frac)
            m, frac = (a if shape is None else np.broadcast_to(a, shape) for a in both)
            self.constants[name] = m.ravel().tolist(), frac.ravel().tolist()
        return self.constants[name]

    def bias(self, i: int, grid: int) -> int:
        if "bias" not in self.node.attrs:
            return 0
        m, frac = self.constant("bias")
        return m[i] << grid - frac[i] if m[i] else 0


def _dense(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    columns, (x,) = cones.columns(node.name), node.args
    m, frac = columns.constant("kernel")
    inputs, outputs = node.attrs["kernel"].shape
    row, o = divmod(i, outputs)
    grid = columns.frac[i]
    terms = []
    for k in range(inputs):
        weight, at = m[k * outputs + o], row * inputs + k
        own = cones.frac(x, at)
        if weight and own is not None:
            terms.append((x, at, weight << grid - own - frac[k * outputs + o]))
    return cones.sum(terms, columns.bias(o, grid), stop)


def _conv(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    columns, (x,) = cones.columns(node.name), node.args
    shape = cones.graph[x].shape
    if not columns.windows:
        columns.windows = conv_windows(node.attrs, shape).index.tolist()
    m, frac = columns.constant("kernel")
    *_, inner, filters = node.attrs["kernel"].shape
    (groups,) = node.attrs["groups"]
    position, f = divmod(i, filters)
    first = f // (filters // groups) * inner
    grid = columns.frac[i]
    terms = []
    for tap, place in enumerate(columns.windows[position]):
        if place < 0:
            continue
        for k in range(inner):
            at, w = place * shape[-1] + first + k, (tap * inner + k) * filters + f
            if m[w] and (own := cones.frac(x, at)) is not None:
                terms.append((x, at, m[w] << grid - own - frac[w]))
    return cones.sum(terms, columns.bias(f, grid), stop)


def _pooled(cones: Cones, node: Node, i: int) -> list[int]:
    """The elements of the window of a pooling."""
    columns, shape = cones.columns(node.name), cones.graph[node.args[0]].shape
    if not columns.windows:
        columns.windows = pool_windows(node.attrs, shape).index.tolist()
    position, channel = divmod(i, shape[-1])
    return [place * shape[-1] + channel for place in columns.windows[position] if place >= 0]


def _sum_pool(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    (x,), grid = node.args, cones.columns(node.name).frac[i] - node.attrs["halvings"][0]
    places = [(at, cones.frac(x, at)) for at in _pooled(cones, node, i)]
    return cones.sum([(x, at, 1 << grid - own) for at, own in places if own is not None], 0, stop)


def _max_pool(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    return _extreme(cones, [(node.args[0], at) for at in _pooled(cones, node, i)], "largest", stop)


def _extreme(cones: Cones, elements: list[Element], kind: str, stop: Stop) -> int:
    grid = max((f for name, at in elements if (f := cones.frac(name, at)) is not None), default=0)
    return cones.number(kind, tuple(sorted({cones.aligned(name, at, grid, stop) for name, at in elements})))


def _affine(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    columns, (x,) = cones.columns(node.name), node.args
    (scale, sfrac), (offset, ofrac) = (columns.constant(name, node.shape) for name in ("scale", "offset"))
    grid, own = columns.frac[i], cones.frac(x, i)
    const = offset[i] << grid - ofrac[i] if offset[i] else 0
    terms = [(x, i, scale[i] << grid - own - sfrac[i])] if scale[i] and own is not None else []
    return cones.sum(terms, const, stop)


def _relu(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    return cones.number("relu", cones.at(node.args[0], i, stop))


def _clip(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    (low, low_frac), (high, high_frac) = node.attrs["low"], node.attrs["high"]
    grid = max(cones.frac(node.args[0], i) or 0, low_frac, high_frac)
    x = cones.aligned(node.args[0], i, grid, stop)
    return cones.number("clamp", x, low << grid - low_frac, high << grid - high_frac)


def _quantize(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    t, own = cones.columns(node.name).types[i], cones.frac(node.args[0], i)
    if t is None or own is None:
        return cones.number("const", 0)
    x = cones.at(node.args[0], i, stop)
    rule = node.attrs["rounding"], node.attrs["overflow"]
    return cones.number("quantize", x, own - t.frac, (t.signed, t.width), *rule)


def _lookup(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    columns = cones.columns(node.name)
    lowest, entries = table_of(node.attrs, i)
    key = int(node.attrs["start"].ravel()[i]), len(entries), lowest
    if key not in columns.tables:
        columns.tables[key] = lowest, tuple(int(e) for e in entries)
    return cones.number("lookup", cones.at(node.args[0], i, stop), *columns.tables[key])


def _merged(*signs: int) -> Callable[[Cones, Node, int, Stop], int]:
    """Sums of tensors; the last sign stands for all further ones."""

    def rule(cones: Cones, node: Node, i: int, stop: Stop) -> int:
        every = [*signs, *[signs[-1]] * len(node.args)][: len(node.args)]
        return _total(cones, node, i, [(arg, i, sign) for arg, sign in zip(node.args, every, strict=True)], stop)

    return rule


def _total(cones: Cones, node: Node, i: int, terms: list[tuple[str, int, int]], stop: Stop) -> int:
    grid = max((f for name, at, _ in terms if (f := cones.frac(name, at)) is not None), default=0)
    grown = [(name, at, c << grid - f) for name, at, c in terms if (f := cones.frac(name, at)) is not None]
    return cones.sum(grown, 0, stop)


def _last_axis(cones: Cones, node: Node, i: int) -> list[Element]:
    size = cones.graph[node.args[0]].shape[-1]
    return [(node.args[0], i * size + k) for k in range(size)]


def _sum(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    return _total(cones, node, i, [(name, at, 1) for name, at in _last_axis(cones, node, i)], stop)


def _mul(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    a, b = node.args
    return _times(cones, (a, i), (b, i), stop)


def _times(cones: Cones, a: Element, b: Element, stop: Stop) -> int:
    factors = sorted((cones.at(*a, stop), cones.at(*b, stop)))
    return cones.number("product", *factors)


def _matmul(cones: Cones, node: Node, i: int, stop: Stop) -> int:
    a, b = node.args
    _, rows, inner = cones.graph[a].shape
    columns = node.shape[-1]
    g, rest = divmod(i, rows * columns)
    row, column = divmod(rest, columns)
    grid = cones.columns(node.name).frac[i]
    parts: dict[int, int] = {}
    for k in range(inner):
        x, y = (g * rows + row) * inner + k, (g * inner + k) * columns + column
        fracs = cones.frac(a, x), cones.frac(b, y)
        if fracs[0] is not None and fracs[1] is not None:
            cone = _times(cones, (a, x), (b, y), stop)
            parts[cone] = parts.get(cone, 0) + (1 << grid - fracs[0] - fracs[1])
    return cones.number("sum", 0, tuple(parts.items()))


def _elementwise(kind: str) -> Callable[[Cones, Node, int, Stop], int]:
    return lambda cones, node, i, stop: _extreme(cones, [(arg, i) for arg in node.args], kind, stop)


def _reduced(kind: str) -> Callable[[Cones, Node, int, Stop], int]:
    return lambda cones, node, i, stop: _extreme(cones, _last_axis(cones, node, i), kind, stop)


RULES: dict[str, Callable[[Cones, Node, int, Stop], int]] = {
    "dense": _dense,
    "conv": _conv,
    "max_pool": _max_pool,
    "sum_pool": _sum_pool,
    "affine": _affine,
    "relu": _relu,
    "clip": _clip,
    "quantize": _quantize,
    "lookup": _lookup,
    "add": _merged(1),
    "sub": _merged(1, -1),
    "mul": _mul,
    "matmul": _matmul,
    "maximum": _elementwise("largest"),
    "minimum": _elementwise("smallest"),
    "sum": _sum,
    "max": _reduced("largest"),
    "min": _reduced("smallest"),
}
"""For each op of the IR that computes something, its element."""
