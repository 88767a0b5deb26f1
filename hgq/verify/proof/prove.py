"""What others call: `prove` for one design, `Prover` for one and many that differ from it in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hgq.ir.graph import Graph
from hgq.sim.sources import needed
from hgq.sim.yosys import read_back
from hgq.verify.proof.cones import Cones
from hgq.verify.proof.layout import Layout
from hgq.verify.proof.modules import Template
from hgq.verify.proof.netlist import Netlist, netlists
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
    result = Prover(graph, sources, layout).prove(progress=progress)
    result.seconds = time.perf_counter() - start
    return result


class Prover:
    """`prove`, as often as one file of the design changes: modules whose text stays are not read or walked again.

    Args and errors are those of `prove`.
    """

    def __init__(self, graph: Graph, sources: Mapping[str, str], layout: Layout):
        self.graph, self.layout = graph, layout
        self._texts = {name: text for name, text in sources.items() if "sim/" not in name}
        self._netlists = netlists(read_back(self._texts, layout.top))
        self._cones = Cones(graph)
        self._templates: dict[tuple, Template] = {}
        own = [name.removesuffix(".v") for name in self._texts]
        self._below = {module: set(needed(self._texts, module)) for module in own}

    def prove(self, *, progress: Callable[[str], None] = lambda step: None) -> ProofResult:
        """Of the design as it was given."""
        return Top(self.graph, self._netlists, self.layout, progress, self._cones, self._templates).run()

    def changed(self, file: str, text: str) -> ProofResult:
        """Of the design with another text in `file`, whose module has the name of the file."""
        module = file.removesuffix(".v")
        read = netlists(read_back(needed(self._texts | {file: text}, module), module))
        now: dict[str, Netlist] = read | self._netlists | {module: read[module]}
        # What holds for a module depends on its own text and on the texts of what it instantiates.
        kept = {key: template for key, template in self._templates.items() if file not in self._below[key[0]]}
        return Top(self.graph, now, self.layout, lambda step: None, self._cones, kept).run()
