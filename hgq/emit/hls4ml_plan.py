"""From the integer graph to hls4ml's terms: layer dicts, explicit types, constants. No hls4ml is imported here.

One function per op, listed in PLANNERS. Every type is stated: results and accumulators by range analysis, so that
nothing is rounded or wrapped outside `quantize`; constants by the cover of their learned types.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.emit.hls4ml_elements import ELEMENT_PLANNERS
from hgq.emit.hls4ml_names import cpp_names
from hgq.emit.hls4ml_planned import (
    WIDEST,
    Context,
    PlannedLayer,
    constants,
    container,
    cover,
    elementwise,
    extra_name,
    layer_attrs,
)
from hgq.emit.hls4ml_product import plan_matmul
from hgq.emit.hls4ml_stream import copy_streams, plan_copy, plan_stream, same_stream
from hgq.emit.hls4ml_windows import plan_conv, plan_pool
from hgq.errors import ConversionError
from hgq.ir import Graph, Node


@dataclass(slots=True)
class Plan:
    """All layers in order; names of the hls4ml layers that are inputs and outputs; IR name -> hls4ml name."""

    layers: list[PlannedLayer]
    inputs: list[str]
    outputs: list[str]
    names: dict[str, str]


def plan(graph: Graph, reserved: Iterable[str] = (), io_type: str = "io_parallel") -> Plan:
    """What hls4ml has to build for `graph`.

    Args:
        reserved: identifiers that no layer may be called, beyond C++'s own.
        io_type: "io_parallel", tensors as arrays, or "io_stream", as streams of packets (`hgq.emit.hls4ml_stream`).

    Raises:
        ConversionError: every op, width or constant that the hls4ml project cannot hold.
    """
    streams = io_type == "io_stream"
    users = graph.users()
    same = [node for node in graph if streams and same_stream(graph, node)]
    # hls4ml drops a reshape at the end and cannot return an input; a stream can be read once. Such outputs get a copy.
    copied = [
        name
        for name in dict.fromkeys(graph.outputs)
        if graph[name].op == "input"
        or (streams and (users[name] or graph[name] in same))
        or (not streams and graph[name].op == "reshape")
    ]
    live = set(graph.inputs) | set(graph.outputs)
    for node in reversed(list(graph)):
        if any(user in live for user in users[node.name]):
            live.add(node.name)
    extra = [extra_name(name, "out") for name in copied]
    extra += [extra_name(node.name, "rows") for node in graph if node.op == "dense" and len(node.shape) > 2]
    context = Context(graph, cpp_names([*graph.nodes, *extra], reserved))
    for node in same:
        context.names[node.name] = context.names[node.args[0]]
    layers: list[PlannedLayer] = []
    for node in graph:
        if node.name not in live or node in same:
            continue
        if node.op not in PLANNERS:
            context.refuse(node, "has no hls4ml form yet", "leave it out, or convert to Verilog only")
            continue
        try:
            planned = plan_stream(context, node, PLANNERS) if streams else PLANNERS[node.op](context, node)
        except ConversionError as error:
            context.problems += error.problems
            continue
        layers += planned
        _check_widths(context, planned[-1])
    for name in copied:
        if not context.problems:
            layers += plan_copy(context, graph[name], PLANNERS) if streams else _copy(context, graph[name])
    names = context.names
    outputs = [names[extra_name(name, "out") if name in copied else name] for name in dict.fromkeys(graph.outputs)]
    inputs = [names[name] for name in graph.inputs]
    if streams and not context.problems:
        _refuse_unread(context, layers)
    if context.problems:
        raise ConversionError(context.problems)
    if streams:
        layers = copy_streams(layers, lambda name: _new_name(name, names, reserved))
    return Plan(layers, inputs, outputs, {node.name: names[node.name] for node in graph})


def _refuse_unread(context: Context, layers: list[PlannedLayer]) -> None:
    """A stream that nobody reads would fill up and stop whoever writes it."""
    read = {name for layer in layers for name in layer.attrs["inputs"]}
    for name in context.graph.inputs:
        if context.names[name] not in read:
            context.refuse(
                context.graph[name],
                "io_type='io_stream': no layer reads it, so its stream would fill up",
                "leave it out of the model, or convert with io_type='io_parallel'",
            )


def _new_name(name: str, names: dict[str, str], reserved: Iterable[str]) -> str:
    """A C++ identifier like `name` that no layer has; enters it into `names`."""
    key = extra_name(name, str(len(names)))
    names[key] = cpp_names([name], {*reserved, *names.values()})[name]
    return names[key]


def _check_widths(context: Context, layer: PlannedLayer) -> None:
    for role, kind in layer.types.items():
        if kind.width > WIDEST:
            context.refuse(layer.node, f"its {role} needs {kind.width} bits, {WIDEST} are supported", "lower its bits")
    factor = layer.types.get("weight") or layer.types.get("scale")
    if factor is not None and not context.problems:
        width = factor.width + container(context.graph[layer.node.args[0]]).width
        if width > WIDEST:
            context.refuse(layer.node, f"a product needs {width} bits, {WIDEST} are supported", "lower its bits")


def _input(context: Context, node: Node) -> list[PlannedLayer]:
    attrs = layer_attrs(context, node, "InputLayer", input_shape=list(node.shape))
    return [PlannedLayer(node, attrs, {"result": container(node)})]


def _reshape(context: Context, node: Node) -> list[PlannedLayer]:
    attrs = layer_attrs(context, node, "Reshape", target_shape=list(node.shape))
    return [PlannedLayer(node, attrs, {"result": container(node)})]


def _relu(context: Context, node: Node) -> list[PlannedLayer]:
    attrs = layer_attrs(context, node, "Activation", activation="relu", n_in=math.prod(node.shape))
    return [PlannedLayer(node, attrs, {"result": container(node)})]


def _dense(context: Context, node: Node) -> list[PlannedLayer]:
    """Products are exact, the accumulator keeps their finest LSB; it wraps, which is exact once the sum fits again."""
    n_in, n_out = np.shape(node.attrs["kernel"])
    types = {"result": container(node), "accum": container(node), "weight": cover(node.attrs["kernel_types"])}
    attrs: dict[str, Any] = {"weight_data": constants(node, "kernel")}
    if "bias" in node.attrs:
        types["bias"] = cover(node.attrs["bias_types"])
        attrs["bias_data"] = constants(node, "bias")
    if len(node.shape) == 1:
        return [PlannedLayer(node, layer_attrs(context, node, "Dense", n_in=n_in, n_out=n_out, **attrs), types)]
    # hls4ml does a matrix product per row as a convolution with one tap, which takes exactly two axes.
    rows = math.prod(node.shape[:-1])
    attrs |= {"weight_data": attrs["weight_data"][None], "data_format": "channels_last"}
    attrs |= {"in_width": rows, "out_width": rows, "n_chan": n_in, "n_filt": n_out}
    attrs |= {"filt_width": 1, "stride_width": 1, "pad_left": 0, "pad_right": 0}
    layer = PlannedLayer(node, layer_attrs(context, node, "Conv1D", **attrs), types)
    if len(node.shape) == 2:
        return [layer]
    source, name = context.graph[node.args[0]], context.names[extra_name(node.name, "rows")]
    rows_attrs = layer_attrs(context, node, "Reshape", target_shape=[rows, n_in]) | {"name": name}
    layer.attrs["inputs"] = [name]
    return [PlannedLayer(source, rows_attrs, {"result": container(source)}), layer]


def _affine(context: Context, node: Node) -> list[PlannedLayer]:
    scale, offset = constants(node, "scale"), constants(node, "offset")
    per_channel = scale.ndim <= 1 and offset.ndim <= 1
    shape = node.shape[-1:] if per_channel else node.shape
    attrs = {
        "n_in": math.prod(node.shape),
        "n_filt": shape[0] if per_channel else -1,
        "scale_data": np.broadcast_to(scale, shape).ravel(),
        "bias_data": np.broadcast_to(offset, shape).ravel(),
    }
    types = {
        "result": container(node),
        "scale": cover(node.attrs["scale_types"]),
        "bias": cover(node.attrs["offset_types"]),
    }
    return [PlannedLayer(node, layer_attrs(context, node, "HGQAffine", **attrs), types)]


def _quantize(context: Context, node: Node) -> list[PlannedLayer]:
    """Each element is cast to its own learned type, or is 0 where it can only be 0.

    That is not only shorter: ap_types gives -2**i for signed one-bit SAT_SYM, whose only value is 0, and aborts when
    all bits of a wide value are rounded away (get_bit beyond the MSB).
    """
    rounding, overflow = node.attrs["rounding"], node.attrs["overflow"]
    columns = zip(node.attrs["types"], node.range.zero.ravel().tolist(), strict=True)
    values = [
        "0" if t is None or zero else f"{t.to_ap_fixed(rounding, overflow)}(in[{n}])"
        for n, (t, zero) in enumerate(columns)
    ]
    return [elementwise(context, node, context.names[node.name], "cast to the learned types", values)]


def _copy(context: Context, node: Node) -> list[PlannedLayer]:
    values = [f"in[{n}]" for n in range(math.prod(node.shape))]
    layer = elementwise(context, node, context.names[extra_name(node.name, "out")], "copied to an output port", values)
    layer.attrs["inputs"] = [context.names[node.name]]
    return [layer]


PLANNERS: dict[str, Callable[[Context, Node], list[PlannedLayer]]] = {
    "input": _input,
    "quantize": _quantize,
    "dense": _dense,
    "conv": plan_conv,
    "max_pool": plan_pool,
    "sum_pool": plan_pool,
    "matmul": plan_matmul,
    "affine": _affine,
    "relu": _relu,
    "reshape": _reshape,
    **ELEMENT_PLANNERS,
}
"""IR op -> its hls4ml layers, of which the last one computes the node. An op that is not here is refused."""
