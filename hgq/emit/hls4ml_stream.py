"""Projects with io_type='io_stream': tensors travel as streams of packets, a packet for each position.

A packet holds the last axis. What io_parallel does to a whole tensor, the same C++ function does here to a packet or
to a window of packets; what stands around it (hls_templates/hls4ml/stream_*.h.j2) reads and writes streams.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hgq.emit.hls4ml_packets import Inner, framed, merged, only, packets, viewing, wrapped
from hgq.emit.hls4ml_planned import Context, PlannedLayer, extra_name
from hgq.emit.hls4ml_stream_moves import moved, take
from hgq.emit.hls4ml_stream_windows import conv, pool
from hgq.emit.templates import template
from hgq.fixed import FixedArray
from hgq.ir import Graph, Node

_WHAT = {"types": "types", "reads": "types of arguments", "start": "tables"}


def same_stream(graph: Graph, node: Node) -> bool:
    """Whether `node` is a reshape that leaves the packets as they are."""
    return node.op == "reshape" and packets(node.shape) == packets(graph[node.args[0]].shape)


def plan_stream(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """The layers of `node`; refuses, in `context`, what differs from packet to packet."""
    if node.op in ("input", "relu", "affine") or (node.op == "dense" and len(node.shape) == 1):
        return inner[node.op](context, node)  # hls4ml's own
    if node.op == "dense":
        return _dense(context, node, inner)
    if node.op == "conv":
        return conv(context, node, inner)
    if node.op in ("max_pool", "sum_pool"):
        return pool(context, node, inner)
    if node.op == "take":
        return take(context, node, inner)
    if node.op == "reshape":
        return [framed(context, node, None)]
    if node.op in ("matmul", "sum", "max", "min"):
        return [framed(context, node, only(inner[node.op](context, node)))]
    return [_each_packet(context, node, inner)]


def copy_streams(layers: list[PlannedLayer], names: Callable[[str], str]) -> list[PlannedLayer]:
    """`layers` with a copy of each stream for each of its readers: a stream can be read once.

    Args:
        names: makes a new C++ name from one.
    """
    readers: dict[str, list[tuple[PlannedLayer, int]]] = {layer.name: [] for layer in layers}
    for layer in layers:
        for place, name in enumerate(layer.attrs["inputs"]):
            readers[name].append((layer, place))
    result = []
    for layer in layers:
        result.append(layer)
        reads = readers[layer.name]
        if len(reads) < 2:
            continue
        name = names(f"{layer.name}_copies")
        copies = [names(f"{layer.name}_copy") for _ in reads]
        function = f"copies_{name}"
        code = template("hls4ml/stream_copies.h.j2").render(
            function=function, copies=len(copies), packets=packets(layer.node.shape)[0]
        )
        attrs: dict[str, Any] = {"name": name, "class_name": "HGQCopies", "inputs": [layer.name], "outputs": copies}
        attrs |= {"shape": list(layer.node.shape), "function": function}
        result.append(PlannedLayer(layer.node, attrs, {"result": layer.types["result"]}, code))
        for (reader, place), copy in zip(reads, copies, strict=True):
            reader.attrs["inputs"][place] = copy
    return result


def plan_copy(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """An output port of its own for a tensor that is an input or that other layers read, too."""
    count, channels = packets(node.shape)
    index = np.arange(count * channels).reshape(node.shape)
    copied = Node(extra_name(node.name, "out"), "take", (node.name,), {"index": index}, node.origin, node.range)
    return [moved(context, copied, inner, np.arange(channels), "packets", packets=count)]


def _each_packet(context: Context, node: Node, inner: Inner) -> PlannedLayer:
    """The statements for one packet serve all of them."""
    args = {name: replace(context.graph[name], range=merged(context.graph[name].range)) for name in node.args}
    view = _packet(context, node)
    layer = only(inner[node.op](viewing(context, args), view))
    return wrapped(context, node, layer, "packets", packets=packets(node.shape)[0])


def _packet(context: Context, node: Node) -> Node:
    """`node` as it is for each packet."""
    count, channels = packets(node.shape)
    attrs = dict(node.attrs)
    for name in ("types", "reads", "start"):
        if name not in attrs:
            continue
        value = attrs[name]
        parts = (value.signed, value.width, value.frac) if isinstance(value, FixedArray) else (value,)
        rows = [part.reshape(count, channels) for part in parts]
        if any((row != row[:1]).any() for row in rows):
            context.refuse(
                node,
                f"io_type='io_stream' sends a packet for each position, and its {_WHAT[name]} differ from position to "
                f"position of the shape {node.shape}",
                "use granularity='channel' or 'tensor' for its quantizers, or convert with io_type='io_parallel'",
            )
        attrs[name] = FixedArray(*(row[0] for row in rows)) if len(rows) > 1 else rows[0][0]
    return replace(node, attrs=attrs, range=merged(node.range))


def _dense(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """A matrix product of each packet: a convolution with one tap."""
    kernel = node.attrs["kernel"]
    one = {"strides": (1,), "padding": (0, 0), "dilation": (1,), "stretch": (1,), "groups": (1,)}
    attrs = (
        dict(node.attrs)
        | one
        | {"kernel": kernel[None], "kernel_types": node.attrs["kernel_types"].reshape((1, *kernel.shape))}
    )
    view = replace(node, op="conv", attrs=attrs, range=merged(node.range).reshape((1, kernel.shape[1])))
    source = context.graph[node.args[0]]
    args = {source.name: replace(source, range=merged(source.range).reshape((1, kernel.shape[0])))}
    layer = only(inner["conv"](viewing(context, args), view))
    return [wrapped(context, node, layer, "packets", packets=packets(node.shape)[0])]
