"""The slowest way between two registers of a pipelined design, by a delay model: what limits the clock."""

from __future__ import annotations

from dataclasses import dataclass

from hgq.netlist.delays import DelayModel
from hgq.netlist.design import Design
from hgq.netlist.module import Node


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


def critical_path(design: Design, model: DelayModel) -> Path:
    """The slowest path of `design`; the first one in order where several are equally slow.

    Independent of how the registers were placed: it looks only at where they are.
    """
    # Of each element of a wire: when it is there after the clock edge, and the steps that led there.
    Step = tuple[float, tuple | None]  # ns, (node, the step before)
    none: Step = (0.0, None)
    known: dict[str, list[Step]] = {}
    worst: Step = none
    for name in design.inputs:
        known[name] = [none] * len(design.wires[name].elements)
    for one in design.instances:
        module = design.modules[one.module]
        steps: list[Step] = [none] * len(module.nodes)
        for port, (name, part), wait in zip(module.inputs, one.input_elements(), one.delays, strict=True):
            elements = known[name]
            for ref, i in zip(port.refs, range(len(elements)) if part is None else part, strict=True):
                steps[ref] = none if wait else elements[i]
        for i, node in enumerate(module.nodes):
            if node.constant or node.op in ("input", "register"):
                continue
            latest = max((steps[arg] for arg in node.args), key=lambda step: step[0], default=none)
            takes = model.delay(module, node)
            steps[i] = (latest[0] + takes, (node, latest)) if takes else latest
            if steps[i][0] > worst[0]:
                worst = steps[i]
        for port, (name, part) in zip(module.outputs, one.output_elements(), strict=True):
            elements = known.setdefault(name, [none] * len(design.wires[name].elements))
            for ref, i in zip(port.refs, range(len(elements)) if part is None else part, strict=True):
                elements[i] = steps[ref]
    ops: list[Node] = []
    total, link = worst[0], worst[1]
    while link is not None:
        node, (_, before) = link
        ops.append(node)
        link = before
    return Path(total + model.register, tuple(ops[::-1]))
