"""The slowest way between two registers of a pipelined design, by a delay model: what limits the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hgq.netlist.delays import DelayModel
from hgq.netlist.design import Design
from hgq.netlist.module import Module, Node


@dataclass(frozen=True, slots=True)
class Path:
    """A way from register (or port) to register (or port).

    ns: the clock period that it needs, what the registers themselves take included. ops: the nodes on it, first to
    last, across modules.
    """

    ns: float
    ops: tuple[Node, ...]

    @property
    def mhz(self) -> float:
        return 1000 / self.ns

    def __str__(self) -> str:
        """The ops, as ``add s9 (dense[3]) -> relu u8 (dense[3])``."""
        shown = [f"{node.op} of {node.type.width} bits ({node.origin})" for node in self.ops]
        return " -> ".join(shown) if shown else "from register to register without logic"


_Step = tuple[float, tuple[Node, Any] | None]
"""When a value is there after the clock edge, in ns; and the node that made it, with the step before."""
_EDGE: _Step = (0.0, None)


def critical_path(design: Design, model: DelayModel) -> Path:
    """The slowest path of `design`; the first one in order where several are equally slow.

    Independent of how the registers were placed: it looks only at where they are.
    """
    known: dict[str, list[_Step]] = {name: [_EDGE] * len(design.wires[name].elements) for name in design.inputs}
    # Of a module with many instances, each set of arrival times is looked at once.
    done: dict[tuple, tuple[list[_Step], _Step]] = {}
    worst = _EDGE
    for one in design.instances:
        module = design.modules[one.module]
        arriving: list[_Step] = []
        for (name, part), wait in zip(one.input_elements(), one.delays, strict=True):
            elements = known[name] if part is None else [known[name][i] for i in part]
            arriving += [_EDGE] * len(elements) if wait else elements
        key = one.module, tuple(step[0] for step in arriving)
        if key not in done:
            done[key] = _through(module, arriving, model)
        steps, slowest = done[key]
        if slowest[0] > worst[0]:
            worst = slowest
        for port, (name, part) in zip(module.outputs, one.output_elements(), strict=True):
            made = known.setdefault(name, [_EDGE] * len(design.wires[name].elements))
            for ref, i in zip(port.refs, range(len(made)) if part is None else part, strict=True):
                made[i] = steps[ref]
    ops: list[Node] = []
    link = worst[1]
    while link is not None:
        node, before = link
        ops.append(node)
        link = before[1]
    return Path(worst[0] + model.register, tuple(ops[::-1]))


def _through(module: Module, arriving: list[_Step], model: DelayModel) -> tuple[list[_Step], _Step]:
    """The step of each node of a module, and the slowest of them."""
    steps: list[_Step] = [_EDGE] * len(module.nodes)
    worst = _EDGE
    for ref, step in zip((ref for port in module.inputs for ref in port.refs), arriving, strict=True):
        steps[ref] = step
    for i, node in enumerate(module.nodes):
        if node.constant or node.op in ("input", "register"):
            continue
        latest = max((steps[arg] for arg in node.args), key=lambda step: step[0], default=_EDGE)
        takes = model.delay(module, node)
        steps[i] = (latest[0] + takes, (node, latest)) if takes else latest
        if steps[i][0] > worst[0]:
            worst = steps[i]
    return steps, worst
