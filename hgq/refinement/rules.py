"""Rules of ports, quantizers, and all that neither adds up nor multiplies by constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hgq.errors import HGQError
from hgq.fixed import FixedArray, encode
from hgq.ir.graph import Node
from hgq.refinement.elements import MOST_BITS, Elements, View, columns, pooled
from hgq.refinement.native import OVERFLOWS, ROUNDINGS, RULE


def port(e: Elements, node: Node) -> View:
    types: FixedArray = node.attrs["types"]
    x = np.asarray(e.x[node.name], np.float64)
    groups = _movable(e, node)
    rounding, overflow = node.attrs["rounding"], node.attrs["overflow"]
    integers = encode(x, types, rounding, overflow).reshape(e.samples, -1)
    elements = e.add("input", types.size, grid=types.frac.ravel(), width=types.width.ravel())
    free = (groups >= 0) & (types.width.ravel() > 0)
    if not free.any():
        e.inputs.append((elements, integers))
        return e.view(node, elements, types.frac.ravel())
    # Two bits more than any type may have, the last one set where something lies below: enough to round from.
    fine = np.where(free, e.group_frac[groups] + 2, types.frac.ravel())
    scaled = np.ldexp(x.reshape(e.samples, -1), fine)
    floor = np.floor(scaled)
    if np.abs(floor).max(initial=0) >= 2.0**MOST_BITS:
        raise HGQError(f"input '{node.name}': a value is too large for refinement.\n  Fix: scale the data.")
    raw = np.where(free, floor.astype(np.int64) | (scaled != floor), integers)
    e.inputs.append((elements, raw))
    e.grid[-1] = fine
    plain = View(elements.reshape(node.shape), fine.reshape(node.shape))
    return _rounded(e, node, plain, types, np.where(free, groups, -1))


def _movable(e: Elements, node: Node) -> np.ndarray:
    return e.owners.groups.get(node.name, np.full(node.range.lo.size, -1)).ravel()


def quantize(e: Elements, node: Node, x: View) -> View:
    return _rounded(e, node, x, node.attrs["types"], _movable(e, node))


def _rounded(e: Elements, node: Node, x: View, types: FixedArray, groups: np.ndarray) -> View:
    width, frac, signed = (a.ravel() for a in (types.width, types.frac, types.signed))
    groups = np.where(width > 0, groups, -1)
    grid = np.where(groups >= 0, e.group_frac[groups] if e.groups else 0, frac)
    rule = np.zeros(width.size, RULE)
    rule["rounding"], rule["overflow"] = ROUNDINGS[node.attrs["rounding"]], OVERFLOWS[node.attrs["overflow"]]
    rule["rectified"], rule["live"] = x.rectified, width > 0
    rule["drop"], rule["up"] = np.where(width > 0, x.frac.ravel() - frac, 0), grid - frac
    magnitude = np.minimum(width - signed, MOST_BITS - 1)
    rule["hi"] = (1 << magnitude) - 1
    rule["lo"] = np.where(signed, -rule["hi"] - (rule["overflow"] != OVERFLOWS["SAT_SYM"]), 0)
    elements = e.add("quantize", width.size, grid=grid, width=width, rule=rule, group=groups)
    e.reads(elements, x.element.ravel(), (x.frac.ravel() - e.grid_of(x.element.ravel()))[:, None])
    dead = np.where(width > 0, elements, e.zero)
    return e.view(node, dead, np.where(width > 0, grid, 0))


def _extreme(e: Elements, node: Node, parts: Sequence[View], kind: str) -> View:
    # An element outside a window (-1) stands for the first one inside, which changes no extreme.
    elements, fracs = (np.stack([getattr(v, n).ravel() for v in parts], axis=1) for n in ("element", "frac"))
    first = np.argmax(elements >= 0, axis=1)[:, None]
    inside = elements >= 0
    elements = np.where(inside, elements, np.take_along_axis(elements, first, axis=1))
    fracs = np.where(inside, fracs, np.take_along_axis(fracs, first, axis=1))
    grid = np.where(elements == e.zero, -(1 << 20), fracs).max(axis=1)
    grid = np.where(grid == -(1 << 20), 0, grid)
    new = e.add(kind, len(elements), grid=grid, width=node.range.types.width.ravel())
    e.reads(new, elements, np.where(elements == e.zero, 0, grid[:, None] - fracs))
    return e.view(node, new, grid)


def max_pool(e: Elements, node: Node, x: View) -> View:
    return _extreme(e, node, pooled(node, x), "maximum")


def maximum(e: Elements, node: Node, *xs: View) -> View:
    return _extreme(e, node, xs, "maximum")


def minimum(e: Elements, node: Node, *xs: View) -> View:
    return _extreme(e, node, xs, "minimum")


def largest(e: Elements, node: Node, x: View) -> View:
    return _extreme(e, node, columns(x), "maximum")


def smallest(e: Elements, node: Node, x: View) -> View:
    return _extreme(e, node, columns(x), "minimum")


def relu(e: Elements, node: Node, x: View) -> View:
    users = e.users[node.name]
    if users and node.name not in e.graph.outputs and all(e.graph[u].op == "quantize" for u in users):
        return View(x.element, x.frac, rectified=True)
    new = e.add("relu", x.element.size, grid=x.frac.ravel(), width=node.range.types.width.ravel())
    e.reads(new, x.element.ravel(), 0)
    return e.view(node, new, x.frac.ravel())


def clip(e: Elements, node: Node, x: View) -> View:
    (low, low_frac), (high, high_frac) = node.attrs["low"], node.attrs["high"]
    grid = np.maximum(x.frac.ravel(), max(low_frac, high_frac))
    rule = np.zeros(grid.size, RULE)
    rule["lo"], rule["hi"] = low << (grid - low_frac), high << (grid - high_frac)
    new = e.add("clip", grid.size, grid=grid, width=node.range.types.width.ravel(), rule=rule)
    e.reads(new, x.element.ravel(), (grid - x.frac.ravel())[:, None])
    return e.view(node, new, grid)


def lookup(e: Elements, node: Node, x: View) -> View:
    reads, types = node.attrs["reads"], node.attrs["types"]
    elements = x.element.ravel()
    groups = np.concatenate(e.group)[elements]
    e.fixed[groups[groups >= 0]] = True  # the table is made for this type
    known = 1 + sum(len(part) for part in e.table)
    rule = np.zeros(reads.size, RULE)
    rule["drop"] = np.where(elements == e.zero, 0, x.frac.ravel() - reads.frac.ravel())
    rule["lo"], rule["hi"] = reads.lo.ravel().astype(np.int64), node.attrs["start"].ravel() + known
    e.table.append(np.asarray(node.attrs["table"], np.int64))
    new = e.add("lookup", reads.size, grid=types.frac.ravel(), width=types.width.ravel(), rule=rule)
    e.reads(new, elements, 0)
    return e.view(node, new, types.frac.ravel())


def scale(e: Elements, node: Node, x: View) -> View:
    return View(x.element, x.frac - node.attrs["power"], x.rectified)


def reshape(e: Elements, node: Node, x: View) -> View:
    return x.reshape(node.attrs["shape"])


def take(e: Elements, node: Node, *xs: View) -> View:
    index = node.attrs["index"]
    element, frac = (np.concatenate([getattr(x, n).ravel() for x in xs]) for n in ("element", "frac"))
    return View(np.where(index < 0, e.zero, element[index]), np.where(index < 0, 0, frac[index]))


RULES: dict[str, Callable[..., View]] = {
    "input": port,
    "quantize": quantize,
    "relu": relu,
    "clip": clip,
    "lookup": lookup,
    "maximum": maximum,
    "minimum": minimum,
    "max": largest,
    "min": smallest,
    "max_pool": max_pool,
    "scale": scale,
    "reshape": reshape,
    "take": take,
}
"""IR operation -> rule(elements, node, views of its arguments)."""
