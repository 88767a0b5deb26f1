"""Matrix products of two tensors for hls4ml projects, as C++ of our own."""

from __future__ import annotations

from hgq.emit.hls4ml_planned import WIDEST, Context, PlannedLayer, comment, container, layer_attrs
from hgq.emit.templates import template
from hgq.ir import Node


def plan_matmul(context: Context, node: Node) -> list[PlannedLayer]:
    """A loop over groups, rows, columns and products; sums are kept in the type of the result."""
    a, b = (context.graph[arg] for arg in node.args)
    width = container(a).width + container(b).width
    if width > WIDEST:
        context.refuse(node, f"a product needs {width} bits, {WIDEST} are supported", "lower its bits")
    function = f"matmul_{context.names[node.name]}"
    groups, rows, columns = node.shape
    code = template("hls4ml/matmul.h.j2").render(
        comment=comment(node, "matrix product"),
        function=function,
        groups=groups,
        rows=rows,
        inner=a.shape[2],
        columns=columns,
    )
    attrs = layer_attrs(context, node, "HGQElementwise", shape=list(node.shape), function=function)
    return [PlannedLayer(node, attrs, {"result": container(node)}, code)]
