"""Rules of operations that add up: layers with constants, merges, sums, matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hgq.ir.graph import Node
from hgq.ir.ops.conv import conv_windows, grouped, grouped_kernel
from hgq.ir.ops.record import reduce_constant
from hgq.refinement.elements import Elements, View, columns, pooled


def _sums(e: Elements, node: Node, grid: Any, **bias: Any) -> np.ndarray:
    return e.add("linear", node.range.lo.size, grid=grid, width=node.range.types.width.ravel(), **bias)


def _constant(e: Elements, node: Node, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, values and finest fractional bits of a constant of a node."""
    m, frac = reduce_constant(node.attrs[name], node.attrs[f"{name}_types"].frac)
    value = np.ldexp(m.astype(np.float64), -frac)
    params = e.owners.params.get((node.name, name), np.full(m.shape, -1))
    finest = np.where(params >= 0, e.weight_frac[params] if len(e.weight_frac) else 0, frac)
    return params, value, np.where((m == 0) & (params < 0), 0, finest)


def _biases(e: Elements, node: Node, grid: np.ndarray, shape: tuple[int, ...]) -> dict[str, Any]:
    if "bias" not in node.attrs:
        return {}
    params, value, _ = _constant(e, node, "bias")
    params, value = np.broadcast_to(params, shape).ravel(), np.broadcast_to(value, shape).ravel()
    return {"bias": np.ldexp(value, np.broadcast_to(grid, value.shape)).astype(np.int64), "bias_param": params}


def _multiplied(e: Elements, node: Node, rows: View, params: np.ndarray, value: np.ndarray, finest: np.ndarray) -> View:
    """Sums of ``rows[p, g, i] * kernel[g, i, j]``, elements in the order (p, g, j)."""
    positions, groups, _ = rows.element.shape
    width = value.shape[-1]
    live = rows.element != e.zero
    grid = np.where(live, rows.frac, 0).max(axis=2, initial=0) + max(int(finest.max(initial=0)), 0)
    if "bias" in node.attrs:
        grid = np.maximum(grid, int(_constant(e, node, "bias")[2].max(initial=0)))
    each = np.repeat(grid[..., None], width, axis=2)
    new = _sums(e, node, each.ravel(), **_biases(e, node, each.ravel(), node.shape))
    destination = new.reshape(positions, groups, 1, width)
    wanted = (params >= 0) | (value != 0)
    for p in range(positions):
        at = live[p][:, :, None] & wanted
        unit = np.ldexp(1.0, grid[p][:, None] - rows.frac[p])[:, :, None]
        parts = np.broadcast_arrays(rows.element[p][:, :, None], destination[p], params, unit, value)
        e.terms.add(*(part[at] for part in parts))
    return e.view(node, new, each.ravel())


def dense(e: Elements, node: Node, x: View) -> View:
    params, value, finest = _constant(e, node, "kernel")
    rows = x.reshape((-1, 1, x.element.shape[-1]))
    return _multiplied(e, node, rows, params[None], value[None], finest)


def conv(e: Elements, node: Node, x: View) -> View:
    windows = conv_windows(node.attrs, x.element.shape)
    (groups,) = node.attrs["groups"]
    params, value, finest = _constant(e, node, "kernel")
    rows = View(grouped(windows.gather(x.element, e.zero), groups), grouped(windows.gather(x.frac, 0), groups))
    return _multiplied(e, node, rows, grouped_kernel(params, groups), grouped_kernel(value, groups), finest)


def affine(e: Elements, node: Node, x: View) -> View:
    _, scale, finest = _constant(e, node, "scale")
    m, frac = reduce_constant(node.attrs["offset"], node.attrs["offset_types"].frac)
    scale, finest, offset, ofrac = (
        np.broadcast_to(a, node.shape).ravel()
        for a in (scale, finest, np.ldexp(m.astype(np.float64), -frac), np.where(m == 0, 0, frac))
    )
    grid = np.maximum(x.frac.ravel() + finest, ofrac)
    new = _sums(e, node, grid, bias=np.ldexp(offset, grid).astype(np.int64))
    at = scale != 0
    unit = np.ldexp(1.0, grid - x.frac.ravel())
    e.terms.add(x.element.ravel()[at], new[at], -1, unit[at], scale[at])
    return e.view(node, new, grid)


def _merged(e: Elements, node: Node, parts: Sequence[tuple[View, float]], halvings: int = 0) -> View:
    """Sums of tensors of one shape, each times a factor; those at `zero` have no say."""
    fracs = [np.where(v.element == e.zero, -(1 << 20), v.frac).ravel() for v, _ in parts]
    grid = np.max(fracs, axis=0)
    grid = np.where(grid == -(1 << 20), 0, grid) + halvings
    new = _sums(e, node, grid)
    for view, factor in parts:
        at = view.element.ravel() != e.zero
        unit = np.ldexp(1.0, (grid - view.frac.ravel())[at])
        e.terms.add(view.element.ravel()[at], new[at], -1, unit, factor)
    return e.view(node, new, grid)


def add(e: Elements, node: Node, *xs: View) -> View:
    return _merged(e, node, [(x, 1.0) for x in xs])


def sub(e: Elements, node: Node, a: View, b: View) -> View:
    return _merged(e, node, [(a, 1.0), (b, -1.0)])


def total(e: Elements, node: Node, x: View) -> View:
    return _merged(e, node, [(part, 1.0) for part in columns(x)])


def sum_pool(e: Elements, node: Node, x: View) -> View:
    (halvings,) = node.attrs["halvings"]
    return _merged(e, node, [(part, 2.0**-halvings) for part in pooled(node, x)], halvings)


def mul(e: Elements, node: Node, a: View, b: View) -> View:
    elements, grid = _products(e, a.element.ravel(), a.frac.ravel(), b.element.ravel(), b.frac.ravel())
    return e.view(node, elements, grid)


def _products(e: Elements, a: np.ndarray, a_frac: np.ndarray, b: np.ndarray, b_frac: np.ndarray) -> tuple[Any, Any]:
    grid = a_frac + b_frac
    widths = np.concatenate(e.width)
    new = e.add("product", a.size, grid=grid, width=widths[a] + widths[b])
    e.reads(new, np.stack([a, b], axis=1), 0)
    return new, grid


def matmul(e: Elements, node: Node, a: View, b: View) -> View:
    pairs = [np.broadcast_arrays(x[..., None], y[:, None]) for x, y in ((a.element, b.element), (a.frac, b.frac))]
    shape = pairs[0][0].shape
    (a_element, b_element), (a_frac, b_frac) = ([part.ravel() for part in pair] for pair in pairs)
    elements, grid = _products(e, a_element, a_frac, b_element, b_frac)
    elements, grid = elements.reshape(shape), grid.reshape(shape)
    return _merged(e, node, [(View(elements[:, :, k], grid[:, :, k]), 1.0) for k in range(shape[2])])


RULES: dict[str, Callable[..., View]] = {
    "dense": dense,
    "conv": conv,
    "affine": affine,
    "add": add,
    "sub": sub,
    "sum": total,
    "sum_pool": sum_pool,
    "mul": mul,
    "matmul": matmul,
}
"""IR operation -> rule(elements, node, views of its arguments)."""
