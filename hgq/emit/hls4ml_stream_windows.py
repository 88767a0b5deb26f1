"""Layers of io_stream that slide a window along rows: convolutions and poolings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from hgq.emit.hls4ml_packets import Inner, merged, only, packets, viewing, wrapped
from hgq.emit.hls4ml_planned import Context, PlannedLayer, container
from hgq.emit.hls4ml_windows import pool_type
from hgq.errors import ConversionError, problem
from hgq.ir import Node
from hgq.ir.ops.conv import conv_windows
from hgq.ir.ops.pool import pool_windows
from hgq.ir.range import Range
from hgq.windows import Windows


def conv(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    windows = conv_windows(node.attrs, context.graph[node.args[0]].shape)
    return _window(context, node, inner, windows, "0")


def pool(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    source = context.graph[node.args[0]]
    windows = pool_windows(node.attrs, source.shape)
    if windows.positions == 1 and windows.counts[0] == math.prod(windows.spatial):
        return _total(context, node, inner)
    # A place around the input is never the largest, whatever is inside.
    kind = container(source)
    return _window(
        context, node, inner, windows, repr(math.ldexp(kind.lo, -kind.frac)) if node.op == "max_pool" else "0"
    )


def _window(context: Context, node: Node, inner: Inner, windows: Windows, fill: str) -> list[PlannedLayer]:
    """The C++ of io_parallel for an input of one window, and what slides it along."""
    if len(windows.size) > 2:
        what = f"io_type='io_stream' slides windows along one or two axes, this one has {len(windows.size)}"
        fix = "convert with io_type='io_parallel'"
        raise ConversionError([problem(f"layer (op {node.op})", node.origin or node.name, what, fix)])
    ones = (1,) * len(windows.size)
    attrs: dict[str, Any] = dict(node.attrs) | {"strides": ones, "padding": (0,) * 2 * len(ones)}
    attrs |= {"dilation": ones, "stretch": ones} if node.op == "conv" else {}
    view = replace(node, attrs=attrs, range=merged(node.range).reshape((*ones, node.shape[-1])))
    source = context.graph[node.args[0]]
    read = merged(source.range)
    shape = (*windows.size, source.shape[-1])
    whole = Range(*(np.broadcast_to(part, shape) for part in (read.lo, read.hi, read.frac)))
    layer = only(inner[node.op](viewing(context, {source.name: replace(source, range=whole)}), view))
    axes = _axes(windows)
    rows, columns = axes if len(axes) == 2 else (_NO_ROWS, axes[0])
    return [
        wrapped(
            context,
            node,
            layer,
            "window",
            rows=rows,
            columns=columns,
            channels=source.shape[-1],
            fill=fill,
        )
    ]


def _axes(windows: Windows) -> list[dict[str, Any]]:
    """How the window goes along each axis, in steps of the input after it was stretched."""
    found = []
    for at, (n, size, stride, before, dilation, stretch, out) in zip(
        ("row", "column"),
        zip(
            windows.spatial,
            windows.size,
            windows.strides,
            windows.before,
            windows.dilation,
            windows.stretch,
            windows.out,
            strict=True,
        ),
        strict=False,
    ):
        found.append(_axis(at if len(windows.size) == 2 else "column", n, size, stride, before, dilation, stretch, out))
    return found


def _axis(
    at: str, n: int, size: int, stride: int, before: int, dilation: int, stretch: int, out: int
) -> dict[str, Any]:
    """Numbers and conditions of one axis for the template.

    start, stop: places that are visited, beginning before the first input. reach: places that a window spans.
    inside: whether an input is at the place. complete: whether a window of the result ends there.
    """
    reach = (size - 1) * dilation + 1
    last = (n - 1) * stretch
    place = f"{at} - {before}" if before >= 0 else f"{at} + {-before}"
    end = f"{at} - {reach - 1}"
    return {
        "size": size,
        "dilation": dilation,
        "reach": reach,
        "start": min(0, before),
        "stop": max((out - 1) * stride + reach, before + last + 1),
        "inside": f"{place} >= 0 && {place} <= {last}" + (f" && ({place}) % {stretch} == 0" if stretch > 1 else ""),
        "complete": f"{end} >= 0 && {end} <= {(out - 1) * stride}"
        + (f" && ({end}) % {stride} == 0" if stride > 1 else ""),
    }


_NO_ROWS = _axis("row", 1, 1, 1, 0, 1, 1, 1)


def _total(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """A window over everything: each packet is taken in as it comes."""
    source = context.graph[node.args[0]]
    layer = only(inner[node.op](context, node))
    return [
        wrapped(
            context,
            node,
            replace(layer, code=""),
            "total",
            packets=packets(source.shape)[0],
            channels=source.shape[-1],
            type=pool_type(node, container(source)).to_ap_fixed(),
            largest=node.op == "max_pool",
            halvings=node.attrs.get("halvings", (0,))[0],
            width=container(node).width,
        )
    ]
