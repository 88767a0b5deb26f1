"""How much of the text lies behind what is proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hgq.verify.proof.modules import Template
from hgq.verify.proof.netlist import Bit, Netlist
from hgq.verify.proof.result import ProofResult


def count_cells(
    result: ProofResult, top: Netlist, netlists: Mapping[str, Netlist], templates: Iterable[Template], proven: list[Bit]
) -> None:
    """Enters how many cells there are, and how many of them lie behind what is proven.

    Args:
        proven: bits of the output port.
    """
    by_module: dict[str, set[int]] = {}
    for template in templates:
        found = by_module.setdefault(template.netlist.name, set())
        found.update(template.netlist.behind(template.proven))
    for name in {cell.type for cell in top.cells} & set(netlists):
        module = netlists[name]
        result.cells += len(module.behind(bit for bits in module.outputs.values() for bit in bits))
        result.covered += len(by_module.get(name, ()))
    valid = top.outputs.get("out_valid", [])
    every = top.behind([*top.outputs.get("out_data", []), *valid])
    own = {n for n in every if top.cells[n].type not in netlists}
    result.cells += len(own)
    shown = top.behind([*proven, *(valid if result.latency is not None else [])])
    result.covered += len(own.intersection(shown))
