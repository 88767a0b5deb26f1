"""`prove`: the one function that others call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hgq.ir.graph import Graph
from hgq.verify.proof.layout import Layout
from hgq.verify.proof.result import LayerProof, ProofResult


def prove(
    graph: Graph,
    sources: Mapping[str, str],
    layout: Layout,
    *,
    progress: Callable[[str], None] = lambda step: None,
) -> ProofResult:
    """Proves that the Verilog computes `graph`, output by output of every layer, for all inputs; and its latency.

    Args:
        sources: file name -> text of every Verilog file of the design, ``sim/`` files may be among them.
        layout: which wires carry which tensors; a claim that is proven too.

    Returns:
        What is proven, and what has no rule ("not proven, simulated only") with the reason.

    Raises:
        VerificationError: the text computes something else; names layer, output index, expected and found, and inputs
            of the layer for which they differ.
        ToolError: Yosys is missing, or refuses the text.
    """
    result = ProofResult()
    for name, bus in layout.wires.items():
        if name not in {port.name for port in layout.inputs}:
            layer = LayerProof(graph[bus.tensor].origin)
            for _ in range(bus.types.size):
                layer.not_proven("no rules yet")
            result.layers.append(layer)
    return result
