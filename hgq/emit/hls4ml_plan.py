"""From the integer graph to hls4ml's terms: layer dicts, explicit types, constants. No hls4ml is imported here.

One function per op, listed in PLANNERS. Every type is stated: results and accumulators by range analysis, so that
nothing is rounded or wrapped outside `quantize`; constants by the cover of their learned types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hgq.emit.hls4ml_names import cpp_names
from hgq.emit.templates import template
from hgq.errors import ConversionError, problem
from hgq.fixed import MAX_WIDTH, FixedArray, FixedType
from hgq.ir import Graph, Node

WIDEST = MAX_WIDTH - 64
"""Widest type in a project, in bits: sums, products and comparisons of ap_types need some more on the way."""

DOUBLE_BITS = 53
"""Significant bits of a constant: hls4ml writes constants as C++ literals of type double."""


@dataclass(slots=True)
class PlannedLayer:
    """One hls4ml layer.

    node: the IR node it computes.
    attrs: the dict that hls4ml's ModelGraph reads: name, class_name, inputs and what the class needs.
    types: result, accum, weight ... -> type.
    code: C++ text of the function that the layer calls, if it has one of its own.
    """

    node: Node
    attrs: dict[str, Any]
    types: dict[str, FixedType]
    code: str = ""

    @property
    def name(self) -> str:
        return self.attrs["name"]

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """Name of each constant (weight, bias, scale) to the float64 values, all exact."""
        return {key[: -len("_data")]: value for key, value in self.attrs.items() if key.endswith("_data")}


@dataclass(slots=True)
class Plan:
    """All layers in order; names of the hls4ml layers that are inputs and outputs; IR name -> hls4ml name."""

    layers: list[PlannedLayer]
    inputs: list[str]
    outputs: list[str]
    names: dict[str, str]


@dataclass(slots=True)
class _Context:
    graph: Graph
    names: dict[str, str]
    problems: list[str] = field(default_factory=list)

    def refuse(self, node: Node, what: str, fix: str) -> None:
        self.problems.append(problem(f"layer (op {node.op})", node.origin or node.name, what, fix))


def container(node: Node) -> FixedType:
    """The type of the C++ array that holds `node`: the narrowest for the ranges of all its elements.

    Raises:
        ConversionError: it would be too wide for ap_types.
    """
    try:
        return node.range.types.cover() or FixedType(False, 1, 0)
    except ValueError as error:  # FixedType and FixedArray refuse more than MAX_WIDTH bits
        fix = "lower the bits of its inputs or constants"
        raise ConversionError([problem(f"layer (op {node.op})", node.origin or node.name, str(error), fix)]) from error


def plan(graph: Graph, reserved: Iterable[str] = ()) -> Plan:
    """What hls4ml has to build for `graph`.

    Args:
        reserved: identifiers that no layer may be called, beyond C++'s own.

    Raises:
        ConversionError: every op, width or constant that the hls4ml project cannot hold.
    """
    users = graph.users()
    copied = [name for name in dict.fromkeys(graph.outputs) if graph[name].op in ("input", "reshape")]
    live = set(graph.inputs) | set(graph.outputs)
    for node in reversed(list(graph)):
        if any(user in live for user in users[node.name]):
            live.add(node.name)
    extra = [_extra(name, "out") for name in copied]
    extra += [_extra(node.name, "rows") for node in graph if node.op == "dense" and len(node.shape) > 2]
    context = _Context(graph, cpp_names([*graph.nodes, *extra], reserved))
    layers: list[PlannedLayer] = []
    for node in graph:
        if node.name not in live:
            continue
        if node.op not in PLANNERS:
            context.refuse(node, "has no hls4ml form yet", "leave it out, or convert to Verilog only")
            continue
        try:
            planned = PLANNERS[node.op](context, node)
        except ConversionError as error:
            context.problems += error.problems
            continue
        layers += planned
        _check_widths(context, planned[-1])
    # hls4ml drops a reshape at the end and cannot return an input: such outputs get a copy of their own.
    for name in copied:
        if not context.problems:
            layers += _copy(context, graph[name])
    if context.problems:
        raise ConversionError(context.problems)
    names = context.names
    outputs = [names[_extra(name, "out") if name in copied else name] for name in dict.fromkeys(graph.outputs)]
    inputs = [names[name] for name in graph.inputs]
    return Plan(layers, inputs, outputs, {node.name: names[node.name] for node in graph})


def _extra(name: str, what: str) -> str:
    """Key of a layer that we add around the node `name`: no node can be called so, and C++ gets <name>_<what>."""
    return f"{name}\0{what}"


def _check_widths(context: _Context, layer: PlannedLayer) -> None:
    for role, kind in layer.types.items():
        if kind.width > WIDEST:
            context.refuse(layer.node, f"its {role} needs {kind.width} bits, {WIDEST} are supported", "lower its bits")
    factor = layer.types.get("weight") or layer.types.get("scale")
    if factor is not None and not context.problems:
        width = factor.width + container(context.graph[layer.node.args[0]]).width
        if width > WIDEST:
            context.refuse(layer.node, f"a product needs {width} bits, {WIDEST} are supported", "lower its bits")


def constants(node: Node, name: str) -> np.ndarray:
    """The constant attribute `name` of `node` as float64, every value exact.

    Raises:
        ConversionError: a constant that double or a C++ literal cannot hold.
    """
    mantissas, types = np.asarray(node.attrs[name]), node.attrs[f"{name}_types"]
    values = np.zeros(mantissas.shape, np.float64)
    for index, (m, frac) in enumerate(zip(mantissas.ravel().tolist(), types.frac.ravel().tolist(), strict=True)):
        try:
            value = math.ldexp(float(m), -frac)
            exact = float(m) == m and math.ldexp(value, frac) == m and abs(value) < 2**DOUBLE_BITS
        except OverflowError:
            exact = False
        if not exact:
            what = f"its {name} {m} * 2**{-frac} needs more than {DOUBLE_BITS} bits, or is 2**{DOUBLE_BITS} or more"
            raise ConversionError([problem(f"layer (op {node.op})", node.origin or node.name, what, "lower its bits")])
        values.flat[index] = value
    return values


def _cover(types: FixedArray) -> FixedType:
    return types.cover() or FixedType(False, 1, 0)


def _layer(context: _Context, node: Node, kind: str, **attrs: Any) -> dict[str, Any]:
    inputs = [context.names[arg] for arg in node.args]
    return {"name": context.names[node.name], "class_name": kind, "inputs": inputs, **attrs}


def _input(context: _Context, node: Node) -> list[PlannedLayer]:
    attrs = _layer(context, node, "InputLayer", input_shape=list(node.shape))
    return [PlannedLayer(node, attrs, {"result": container(node)})]


def _reshape(context: _Context, node: Node) -> list[PlannedLayer]:
    attrs = _layer(context, node, "Reshape", target_shape=list(node.shape))
    return [PlannedLayer(node, attrs, {"result": container(node)})]


def _relu(context: _Context, node: Node) -> list[PlannedLayer]:
    attrs = _layer(context, node, "Activation", activation="relu", n_in=math.prod(node.shape))
    return [PlannedLayer(node, attrs, {"result": container(node)})]


def _dense(context: _Context, node: Node) -> list[PlannedLayer]:
    """Products are exact, the accumulator keeps their finest LSB; it wraps, which is exact once the sum fits again."""
    n_in, n_out = np.shape(node.attrs["kernel"])
    types = {"result": container(node), "accum": container(node), "weight": _cover(node.attrs["kernel_types"])}
    attrs: dict[str, Any] = {"weight_data": constants(node, "kernel")}
    if "bias" in node.attrs:
        types["bias"] = _cover(node.attrs["bias_types"])
        attrs["bias_data"] = constants(node, "bias")
    if len(node.shape) == 1:
        return [PlannedLayer(node, _layer(context, node, "Dense", n_in=n_in, n_out=n_out, **attrs), types)]
    # hls4ml does a matrix product per row as a convolution with one tap, which takes exactly two axes.
    rows = math.prod(node.shape[:-1])
    attrs |= {"weight_data": attrs["weight_data"][None], "data_format": "channels_last"}
    attrs |= {"in_width": rows, "out_width": rows, "n_chan": n_in, "n_filt": n_out}
    attrs |= {"filt_width": 1, "stride_width": 1, "pad_left": 0, "pad_right": 0}
    layer = PlannedLayer(node, _layer(context, node, "Conv1D", **attrs), types)
    if len(node.shape) == 2:
        return [layer]
    source, name = context.graph[node.args[0]], context.names[_extra(node.name, "rows")]
    rows_attrs = _layer(context, node, "Reshape", target_shape=[rows, n_in]) | {"name": name}
    layer.attrs["inputs"] = [name]
    return [PlannedLayer(source, rows_attrs, {"result": container(source)}), layer]


def _affine(context: _Context, node: Node) -> list[PlannedLayer]:
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
        "scale": _cover(node.attrs["scale_types"]),
        "bias": _cover(node.attrs["offset_types"]),
    }
    return [PlannedLayer(node, _layer(context, node, "HGQAffine", **attrs), types)]


def _quantize(context: _Context, node: Node) -> list[PlannedLayer]:
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
    return [_elementwise(context, node, context.names[node.name], "cast to the learned types", values)]


def _copy(context: _Context, node: Node) -> list[PlannedLayer]:
    values = [f"in[{n}]" for n in range(math.prod(node.shape))]
    layer = _elementwise(context, node, context.names[_extra(node.name, "out")], "copied to an output port", values)
    layer.attrs["inputs"] = [context.names[node.name]]
    return [layer]


def _elementwise(context: _Context, node: Node, name: str, what: str, values: list[str]) -> PlannedLayer:
    comment = re.sub(r"[^ -\[\]-~]", "?", f"{node.origin or node.name}: {what}")  # no backslash: it would join lines
    function = f"hgq_{name}"
    code = template("hls4ml/elementwise.h.j2").render(comment=comment, function=function, values=values)
    attrs = _layer(context, node, "HGQElementwise", shape=list(node.shape), function=function)
    attrs["name"] = name
    return PlannedLayer(node, attrs, {"result": container(node)}, code)


PLANNERS: dict[str, Callable[[_Context, Node], list[PlannedLayer]]] = {
    "input": _input,
    "quantize": _quantize,
    "dense": _dense,
    "affine": _affine,
    "relu": _relu,
    "reshape": _reshape,
}
"""IR op -> its hls4ml layers, of which the last one computes the node. An op that is not here is refused."""
