"""Modules that follow themselves, as the time steps of a recurrent layer do: scheduled by themselves, then fixed.

All instances are one piece of Verilog, so all have the same registers, whatever arrives when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hgq.netlist.design import Design
from hgq.netlist.module import Module, Node

TRIALS = 8
"""How many times of arrival are tried for what comes from the module itself."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The schedule of a module.

    cycle: of each node, counted from the inputs. cycles: from inputs to outputs.
    arrival: for each input port, the latest time in the first cycle at which its elements may arrive, in ns.
    leaving: for each output port, when in the last cycle its elements are there.
    """

    cycle: list[int]
    cycles: int
    arrival: list[float]
    leaving: list[list[float]]


def repeated(design: Design) -> set[str]:
    """The modules that have instances in several layers."""
    layers = [{one.module for one in layer} for layer in design.layers()]
    return {name for name, count in Counter(name for layer in layers for name in layer).items() if count > 1}


def fixed(design: Design, name: str, delay: Callable[[Module, Node], float], budget: float) -> Fixed:
    """The schedule of the module `name` with the fewest cycles from one instance to the next.

    What comes from another instance may arrive late in the first cycle, everything else at its start: the later it
    may be, the less of the last cycle is wasted, but the more of the first.
    """
    module = design.modules[name]
    instances = [one for one in design.instances if one.module == name]
    made = {wire for one in instances for wire in one.outputs}
    loops = [any(one.inputs[n] in made for one in instances) for n in range(len(module.inputs))]
    best, least = None, None
    for trial in range(TRIALS):
        late = budget * trial / TRIALS if trial else 0.0  # a budget may have no end
        found = _schedule(module, [late if loop else 0.0 for loop in loops], delay, budget)
        period = found.cycles + any(time > late for times in found.leaving for time in times)
        if least is None or period < least:
            best, least = found, period
    assert best is not None
    return best


def _schedule(module: Module, arrival: list[float], delay: Callable[[Module, Node], float], budget: float) -> Fixed:
    """Each node as soon as its operands are there."""
    cycle, end = [0] * len(module.nodes), [0.0] * len(module.nodes)
    for port, time in zip(module.inputs, arrival, strict=True):
        for ref in port.refs:
            end[ref] = time
    for i, node in enumerate(module.nodes):
        if node.constant or node.op == "input":
            continue
        waits = [arg for arg in node.args if not module.nodes[arg].constant]
        cycle[i] = max((cycle[arg] for arg in waits), default=0)
        ready = max((end[arg] for arg in waits if cycle[arg] == cycle[i]), default=0.0)
        takes = delay(module, node)
        if ready + takes > budget:
            cycle[i], ready = cycle[i] + 1, 0.0
        end[i] = ready + takes
    last = max((cycle[ref] for port in module.outputs for ref in port.refs), default=0)
    leaving = [[end[ref] if cycle[ref] == last else 0.0 for ref in port.refs] for port in module.outputs]
    return Fixed(cycle, last, arrival, leaving)
