"""`prove`: the one function that others call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hgq.ir.graph import Graph
from hgq.sim.yosys import read_back
from hgq.verify.proof.layout import Layout
from hgq.verify.proof.netlist import netlists
from hgq.verify.proof.result import ProofResult
from hgq.verify.proof.top import Top


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
    start = time.perf_counter()
    progress("proof: read the Verilog back")
    data = read_back({name: text for name, text in sources.items() if "sim/" not in name}, layout.top)
    result = Top(graph, netlists(data), layout, progress).run()
    result.seconds = time.perf_counter() - start
    return result
