"""Projects with io_type='io_stream': tensors travel as streams of packets, a packet for each position.

A packet holds the last axis. What io_parallel does to a whole tensor, the same C++ function does here to a packet or
to a window of packets; what stands around it (hls_templates/hls4ml/stream_*.h.j2) reads and writes streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hgq.emit.hls4ml_planned import Context, PlannedLayer, comment, container, extra_name, layer_attrs
from hgq.emit.hls4ml_windows import pool_type
from hgq.emit.templates import template
from hgq.errors import ConversionError, problem
from hgq.fixed import FixedArray, as_objects
from hgq.ir import Graph, Node
from hgq.ir.ops.conv import conv_windows
from hgq.ir.ops.pool import pool_windows
from hgq.ir.range import Range
from hgq.windows import Windows

Planner = Callable[[Context, Node], list[PlannedLayer]]
Inner = Mapping[str, Planner]
"""The planners of io_parallel."""


def packets(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many packets a tensor of `shape` is, and how many elements each has."""
    return math.prod(shape[:-1]), shape[-1]


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
        return _conv(context, node, inner)
    if node.op in ("max_pool", "sum_pool"):
        return _pool(context, node, inner)
    if node.op == "take":
        return _take(context, node, inner)
    if node.op == "reshape":
        return [_frame(context, node, None)]
    if node.op in ("matmul", "sum", "max", "min"):
        return [_frame(context, node, _only(inner[node.op](context, node)))]
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
    return [_moved(context, copied, inner, np.arange(channels), "packets", packets=count)]


# --- packet by packet ------------------------------------------------------------------------------------------------


def _each_packet(context: Context, node: Node, inner: Inner) -> PlannedLayer:
    """The statements for one packet serve all of them."""
    args = {name: replace(context.graph[name], range=_merged(context.graph[name].range)) for name in node.args}
    view = _packet(context, node)
    layer = _only(inner[node.op](_views(context, args), view))
    return _wrapped(context, node, layer, "packets", packets=packets(node.shape)[0])


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
    return replace(node, attrs=attrs, range=_merged(node.range))


_WHAT = {"types": "types", "reads": "types of arguments", "start": "tables"}


def _merged(r: Range) -> Range:
    """What an element of any packet can be."""
    count, channels = packets(r.shape)
    lo, hi, frac, zero = (part.reshape(count, channels) for part in (r.lo, r.hi, r.frac, r.zero))
    nowhere = np.iinfo(np.int64).min
    finest = np.where(zero, nowhere, frac).max(axis=0)
    finest = np.where(finest == nowhere, 0, finest)
    up = as_objects(np.where(zero, 0, finest - frac))
    return Range((lo << up).min(axis=0), (hi << up).max(axis=0), finest)


def _dense(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """A matrix product of each packet: a convolution with one tap."""
    kernel = node.attrs["kernel"]
    one = {"strides": (1,), "padding": (0, 0), "dilation": (1,), "stretch": (1,), "groups": (1,)}
    attrs = (
        dict(node.attrs)
        | one
        | {"kernel": kernel[None], "kernel_types": node.attrs["kernel_types"].reshape((1, *kernel.shape))}
    )
    view = replace(node, op="conv", attrs=attrs, range=_merged(node.range).reshape((1, kernel.shape[1])))
    source = context.graph[node.args[0]]
    args = {source.name: replace(source, range=_merged(source.range).reshape((1, kernel.shape[0])))}
    layer = _only(inner["conv"](_views(context, args), view))
    return [_wrapped(context, node, layer, "packets", packets=packets(node.shape)[0])]


# --- windows ---------------------------------------------------------------------------------------------------------


def _conv(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    windows = conv_windows(node.attrs, context.graph[node.args[0]].shape)
    return _window(context, node, inner, windows, "0")


def _pool(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
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
    view = replace(node, attrs=attrs, range=_merged(node.range).reshape((*ones, node.shape[-1])))
    source = context.graph[node.args[0]]
    read = _merged(source.range)
    shape = (*windows.size, source.shape[-1])
    whole = Range(*(np.broadcast_to(part, shape) for part in (read.lo, read.hi, read.frac)))
    layer = _only(inner[node.op](_views(context, {source.name: replace(source, range=whole)}), view))
    axes = _axes(windows)
    rows, columns = axes if len(axes) == 2 else (_NO_ROWS, axes[0])
    return [
        _wrapped(
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
    layer = _only(inner[node.op](context, node))
    return [
        _wrapped(
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


# --- moves -----------------------------------------------------------------------------------------------------------


def _take(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """Packets that keep their order need no memory; other moves need one, and mixtures of packets need registers."""
    count, channels = packets(node.shape)
    index = node.attrs["index"].reshape(count, channels)
    shapes = [context.graph[name].shape for name in node.args]
    found = _of_each_packet(index, [packets(shape) for shape in shapes])
    if found is not None:
        return [_moved(context, node, inner, found, "packets", packets=count)]
    one = _of_one_packet(index, packets(shapes[0])[1]) if len(shapes) == 1 else None
    if one is None:
        return [_frame(context, node, _only(inner["take"](context, node)))]
    sources, pattern = one
    known = sources[sources >= 0]
    many, width = packets(shapes[0])
    if (np.diff(known) >= 0).all():
        steps = _steps(sources.tolist(), many)
        return [_moved(context, node, inner, pattern, "in_order", steps=steps, channels=width)]
    return [_moved(context, node, inner, pattern, "any_order", sources=sources.tolist(), packets=many, channels=width)]


def _of_each_packet(index: np.ndarray, shapes: list[tuple[int, int]]) -> np.ndarray | None:
    """The index within a packet, where each packet is made of the packets of the same number."""
    count = len(index)
    if any(many != count for many, _ in shapes):
        return None
    places = []  # of each element of the arguments: its place in the packets laid end to end
    numbers = []
    start = 0
    for many, width in shapes:
        places.append(np.tile(np.arange(start, start + width), many))
        numbers.append(np.repeat(np.arange(many), width))
        start += width
    place, number = np.concatenate(places), np.concatenate(numbers)
    moved = np.where(index < 0, -1, place[index])
    fits = ((index < 0) | (number[index] == np.arange(count)[:, None])).all() and (moved == moved[:1]).all()
    return moved[0] if fits else None


def _of_one_packet(index: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray] | None:
    """For each packet the one that it is made of, or -1 for zeros; and the index within it."""
    live = (index >= 0).any(axis=1)
    if not live.any():
        return None
    number = np.where(index < 0, -1, index // width)
    pattern = np.where(index < 0, -1, index % width)
    first = pattern[np.argmax(live)]
    sources = number.max(axis=1)
    same = ((number == -1) | (number == sources[:, None])).all() and (pattern[live] == first).all()
    return (sources, first) if same else None


def _steps(sources: list[int], many: int) -> list[int]:
    """Reads and writes, one of each at most in a step: see stream_in_order.h.j2."""
    steps, read = [], 0
    for source in sources:
        if source < 0:
            steps.append(4)
            continue
        while read < source:
            steps.append(1)
            read += 1
        steps.append(3 if read == source else 2)
        read = source + 1
    return steps + [1] * (many - read)


def _moved(context: Context, node: Node, inner: Inner, pattern: np.ndarray, form: str, **values: Any) -> PlannedLayer:
    args = {name: replace(context.graph[name], range=_merged(context.graph[name].range)) for name in node.args}
    view = replace(node, attrs={"index": pattern}, range=_merged(node.range))
    layer = _only(inner["take"](_views(context, args), view))
    return _wrapped(context, node, layer, form, **values)


# --- all of it -------------------------------------------------------------------------------------------------------


def _frame(context: Context, node: Node, layer: PlannedLayer | None) -> PlannedLayer:
    """Every packet is read before the first is written."""
    count, channels = packets(node.shape)
    names = _inputs(node)
    operands = [(name, *packets(context.graph[arg].shape)) for name, arg in zip(names, node.args, strict=True)]
    if layer is None:
        attrs = layer_attrs(context, node, "HGQElementwise", function=f"repack_{context.names[node.name]}")
        layer = PlannedLayer(node, attrs, {"result": container(node)})
    return _wrapped(context, node, layer, "frame", operands=operands, packets=count, channels=channels)


def _wrapped(
    context: Context,
    node: Node,
    layer: PlannedLayer,
    form: str,
    **values: Any,
) -> PlannedLayer:
    """`layer`, whose function works on arrays, as one that reads and writes streams."""
    function = f"stream_{layer.attrs['function']}"
    constants = layer.constants
    code = layer.code + template(f"hls4ml/stream_{form}.h.j2").render(
        comment=comment(node, node.op),
        function=function,
        inner=layer.attrs["function"] if layer.code else "",
        inputs=_inputs(node),
        weights=constants["weight"].size if constants else 0,
        biases=constants["bias"].size if constants else 0,
        **values,
    )
    shape = list(node.shape)
    inputs = [context.names[name] for name in node.args]
    return replace(
        layer, node=node, attrs=layer.attrs | {"function": function, "shape": shape, "inputs": inputs}, code=code
    )


def _inputs(node: Node) -> list[str]:
    return ["in"] if len(node.args) == 1 else [f"in{n}" for n in range(len(node.args))]


def _views(context: Context, nodes: dict[str, Node]) -> Context:
    """A context whose nodes are packets or windows."""
    return replace(context, graph=Graph(nodes, (), ()))


def _only(layers: list[PlannedLayer]) -> PlannedLayer:
    (layer,) = layers
    return layer
