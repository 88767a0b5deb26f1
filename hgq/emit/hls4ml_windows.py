"""Convolutions and poolings for hls4ml projects, as C++ of our own.

hls4ml's own templates ignore groups and know no transpose convolution; these loops are exact for every option.
"""

from __future__ import annotations

import math

import numpy as np

from hgq.emit.hls4ml_planned import Context, PlannedLayer, comment, constants, container, cover, layer_attrs
from hgq.emit.templates import template
from hgq.fixed import FixedType
from hgq.ir import Node
from hgq.ir.ops.conv import conv_windows
from hgq.ir.ops.pool import pool_windows
from hgq.windows import Windows


def plan_conv(context: Context, node: Node) -> list[PlannedLayer]:
    """A loop over positions, filters and taps; sums are kept in the type of the result."""
    source = context.graph[node.args[0]]
    windows = conv_windows(node.attrs, source.shape)
    (groups,), kernel = node.attrs["groups"], node.attrs["kernel"]
    function = f"conv_{context.names[node.name]}"
    code = template("hls4ml/conv.h.j2").render(
        comment=comment(node, "convolution"),
        function=function,
        window=_window(windows),
        inputs=math.prod(source.shape),
        outputs=math.prod(node.shape),
        weights=kernel.size,
        filters=kernel.shape[-1],
        channels=kernel.shape[-2],
        groups=groups,
        positions=windows.positions,
        taps=math.prod(windows.size),
    )
    bias = constants(node, "bias") if "bias" in node.attrs else np.zeros(kernel.shape[-1])
    attrs = layer_attrs(context, node, "HGQConv", shape=list(node.shape), function=function)
    attrs |= {"weight_data": constants(node, "kernel").ravel(), "bias_data": bias}
    types = {
        "result": container(node),
        "weight": cover(node.attrs["kernel_types"]),
        "bias": cover(node.attrs["bias_types"]) if "bias" in node.attrs else FixedType(False, 1, 0),
    }
    return [PlannedLayer(node, attrs, types, code)]


def plan_pool(context: Context, node: Node) -> list[PlannedLayer]:
    """A loop over positions, channels and taps."""
    source = context.graph[node.args[0]]
    windows = pool_windows(node.attrs, source.shape)
    halvings = node.attrs.get("halvings", (0,))[0]
    result = container(node)
    function = f"pool_{context.names[node.name]}"
    code = template("hls4ml/pool.h.j2").render(
        comment=comment(node, "largest of each window" if node.op == "max_pool" else "sum of each window"),
        function=function,
        window=_window(windows),
        inputs=math.prod(source.shape),
        outputs=math.prod(node.shape),
        channels=node.shape[-1],
        positions=windows.positions,
        taps=math.prod(windows.size),
        largest=node.op == "max_pool",
        halvings=halvings,
        width=result.width,
        type=pool_type(node, container(source)).to_ap_fixed(),
    )
    attrs = layer_attrs(context, node, "HGQElementwise", shape=list(node.shape), function=function)
    return [PlannedLayer(node, attrs, {"result": result}, code)]


def pool_type(node: Node, source: FixedType) -> FixedType:
    """The type that the pooling `node` adds or compares elements of type `source` in.

    Sums may wrap on the way. What is compared must not: an element far below all results may be among it.
    """
    if node.op == "max_pool":
        return source
    result = container(node)
    return FixedType(result.signed, result.width, result.frac - node.attrs["halvings"][0])


def _window(windows: Windows) -> str:
    """C++ that finds the spatial index a tap reads: the last axis first, as in C order."""
    columns = {
        "n": windows.spatial,
        "out": windows.out,
        "size": windows.size,
        "stride": windows.strides,
        "dilation": windows.dilation,
        "before": windows.before,
        "stretch": windows.stretch,
    }
    axes = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return template("hls4ml/window.h.j2").render(axes=axes[::-1]).rstrip()
