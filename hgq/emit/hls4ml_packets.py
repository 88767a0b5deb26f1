"""What the layers of io_stream share: packets, a node as one packet sees it, the C++ around a function on arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hgq.emit.hls4ml_planned import Context, PlannedLayer, comment, container, layer_attrs
from hgq.emit.templates import template
from hgq.fixed import as_objects
from hgq.ir import Graph, Node
from hgq.ir.range import Range

Planner = Callable[[Context, Node], list[PlannedLayer]]
Inner = Mapping[str, Planner]
"""The planners of io_parallel."""


def packets(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many packets a tensor of `shape` is, and how many elements each has."""
    return math.prod(shape[:-1]), shape[-1]


def merged(r: Range) -> Range:
    """What an element of any packet can be."""
    count, channels = packets(r.shape)
    lo, hi, frac, zero = (part.reshape(count, channels) for part in (r.lo, r.hi, r.frac, r.zero))
    nowhere = np.iinfo(np.int64).min
    finest = np.where(zero, nowhere, frac).max(axis=0)
    finest = np.where(finest == nowhere, 0, finest)
    up = as_objects(np.where(zero, 0, finest - frac))
    return Range((lo << up).min(axis=0), (hi << up).max(axis=0), finest)


def framed(context: Context, node: Node, layer: PlannedLayer | None) -> PlannedLayer:
    """Every packet is read before the first is written."""
    count, channels = packets(node.shape)
    names = _inputs(node)
    operands = [(name, *packets(context.graph[arg].shape)) for name, arg in zip(names, node.args, strict=True)]
    if layer is None:
        attrs = layer_attrs(context, node, "HGQElementwise", function=f"repack_{context.names[node.name]}")
        layer = PlannedLayer(node, attrs, {"result": container(node)})
    return wrapped(context, node, layer, "frame", operands=operands, packets=count, channels=channels)


def wrapped(
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


def viewing(context: Context, nodes: dict[str, Node]) -> Context:
    """A context whose nodes are packets or windows."""
    return replace(context, graph=Graph(nodes, (), ()))


def only(layers: list[PlannedLayer]) -> PlannedLayer:
    (layer,) = layers
    return layer
