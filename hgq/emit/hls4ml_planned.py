"""What every planner of hls4ml layers uses: the planned layer, its types, its constants, statements element by element.

No hls4ml is imported here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
class Context:
    """One conversion: the graph, the C++ name of each node, the problems found."""

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


def extra_name(name: str, what: str) -> str:
    """Key of a layer that we add around the node `name`: no node can be called so, and C++ gets <name>_<what>."""
    return f"{name}\0{what}"


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


def cover(types: FixedArray) -> FixedType:
    """The narrowest single type for all of them; one bit where all are 0."""
    return types.cover() or FixedType(False, 1, 0)


def layer_attrs(context: Context, node: Node, kind: str, **attrs: Any) -> dict[str, Any]:
    """The dict that hls4ml reads for a layer of class `kind` that computes `node`."""
    inputs = [context.names[arg] for arg in node.args]
    return {"name": context.names[node.name], "class_name": kind, "inputs": inputs, **attrs}


def comment(node: Node, what: str) -> str:
    """One line of C++ comment that names the layer. No backslash: it would join lines."""
    return re.sub(r"[^ -\[\]-~]", "?", f"{node.origin or node.name}: {what}")


def elementwise(
    context: Context,
    node: Node,
    name: str,
    what: str,
    values: list[str],
    prefix: str = "hgq",
    before: list[list[str]] | None = None,
    static: list[str] | None = None,
) -> PlannedLayer:
    """A layer whose every element has its own C++ expression, of ``in[n]``, or ``in0[n]``, ``in1[n]`` of several.

    Args:
        name: of the hls4ml layer; the function is called ``prefix_name``.
        before: for each element, the statements that its expression needs before it.
        static: declarations at the head of the function.
    """
    function = f"{prefix}_{name}"
    sizes = [math.prod(context.graph[arg].shape) for arg in node.args] or [math.prod(node.shape)]
    inputs = [("in", sizes[0])] if len(sizes) == 1 else [(f"in{n}", size) for n, size in enumerate(sizes)]
    code = template("hls4ml/elementwise.h.j2").render(
        comment=comment(node, what),
        function=function,
        inputs=inputs,
        static=static or [],
        elements=list(zip(before or [[]] * len(values), values, strict=True)),
    )
    attrs = layer_attrs(context, node, "HGQElementwise", shape=list(node.shape), function=function)
    attrs["name"] = name
    return PlannedLayer(node, attrs, {"result": container(node)}, code)
