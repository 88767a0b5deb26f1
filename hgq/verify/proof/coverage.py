"""How much of the text lies behind what is proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hgq.verify.proof.modules import Template
from hgq.verify.proof.netlist import Bit, Cell, Netlist
from hgq.verify.proof.result import ProofResult


def count_cells(
    result: ProofResult,
    top: Netlist,
    netlists: Mapping[str, Netlist],
    templates: Iterable[Template],
    unfed: Sequence[Cell],
    proven: list[Bit],
) -> None:
    """Enters how many cells there are, and how many of them lie behind what is proven, in every instance.

    Args:
        unfed: instances of which nothing is proven, as nothing is known of what they read.
        proven: bits of the output port.
    """
    by_module: dict[str, set[int]] = {cell.type: set() for cell in unfed}
    for template in templates:
        found = set(template.netlist.behind(template.proven - template.unproven))
        by_module[template.netlist.name] = by_module.get(template.netlist.name, found) & found
    for name in {cell.type for cell in top.cells} & set(netlists):
        module = netlists[name]
        result.cells += len(module.behind(bit for bits in module.outputs.values() for bit in bits))
        result.covered += len(by_module.get(name, ()))
    valid = top.outputs.get("out_valid", [])
    every = top.behind([*top.outputs.get("out_data", []), *valid])
    own = {n for n in every if top.cells[n].type not in netlists}
    result.cells += len(own)
    shown = top.behind([*proven, *(valid if result.latency is not None else [])])
    result.covered += len(own.intersection(shown) - _in_front(top, netlists, unfed))


def _in_front(top: Netlist, netlists: Mapping[str, Netlist], instances: Sequence[Cell]) -> set[int]:
    """The cells between instances and those before them."""
    found: set[int] = set()
    todo = list(instances)
    while todo:
        cell = todo.pop()
        for number in {top.driver.get(bit) for pin in cell.pins if pin not in cell.outputs for bit in cell.pins[pin]}:
            if number is not None and number not in found and top.cells[number].type not in netlists:
                found.add(number)
                todo.append(top.cells[number])
    return found
