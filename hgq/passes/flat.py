"""A design as one graph for scheduling: what must come after what, how long it takes, and what a register would hold.

A module that stands at many positions is there once, with the union of what its instances read; a layer has one start
and one end, since all inputs of a module are read in one cycle, and all outputs leave in one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from hgq.netlist.design import Design, Instance
from hgq.netlist.module import Module, Node
from hgq.passes.repeated import Fixed, fixed, repeated

Delay = Callable[[Module, Node], float]
START, END = -1, -2
"""Where design inputs come from, and where design outputs go."""


@dataclass(slots=True)
class Flat:
    """The nodes in topological order, by number.

    delay: ns of each node. args: what it reads, through the ports of modules; a signal takes time on its way.
    after: what it comes after, in the same cycle or a later one, without reading it. same: the node in whose cycle it
        is, or itself.
    nets: (driver, bits, readers): between driver and the last of the readers, `bits` registers stand in each cycle.
    lag: how many cycles after that of `same`.
    start, end: of each layer, the node that stands for it. place: of each module, its nodes; -1 for constants.
    fixed: the schedules of modules that follow themselves; their nodes have no place.
    """

    delay: list[float] = field(default_factory=list)
    args: list[tuple[int, ...]] = field(default_factory=list)
    after: list[tuple[int, ...]] = field(default_factory=list)
    same: list[int] = field(default_factory=list)
    lag: list[int] = field(default_factory=list)
    nets: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    place: dict[str, list[int]] = field(default_factory=dict)
    fixed: dict[str, Fixed] = field(default_factory=dict)

    def add(
        self, delay: float = 0.0, args: tuple[int, ...] = (), after: tuple[int, ...] = (), same: int = -1, lag: int = 0
    ) -> int:
        """A new node; `same` is itself by default."""
        self.lag.append(lag)
        self.delay.append(delay)
        self.args.append(args)
        self.after.append(after)
        self.same.append(same if same >= 0 else len(self.delay) - 1)
        return len(self.delay) - 1


def flatten(design: Design, delay: Delay, budget: float = inf) -> Flat:
    """The graph of a combinational design under a delay model, for cycles that hold `budget` ns of logic."""
    flat = Flat(fixed={name: fixed(design, name, delay, budget) for name in sorted(repeated(design))})
    made: dict[str, list[int]] = {
        name: [START if lo != hi else -1 for lo, hi, _ in design.wires[name].elements] for name in design.inputs
    }
    maker: dict[str, int] = {}
    readers: dict[str, list[int]] = {name: [] for name in design.wires}
    for layer in design.layers():
        if layer[0].module in flat.fixed:
            _fixed_layer(design, flat, layer[0], made, maker, readers, budget)
        else:
            _layer(design, flat, layer, made, maker, readers, delay)
    for name in design.outputs:
        readers[name].append(END)
    for name, found in readers.items():
        if found and design.wires[name].width:
            flat.nets.append((maker.get(name, START), design.wires[name].width, tuple(dict.fromkeys(found))))
    return flat


def _fixed_layer(
    design: Design,
    flat: Flat,
    one: Instance,
    made: dict[str, list[int]],
    maker: dict[str, int],
    readers: dict[str, list[int]],
    budget: float,
) -> None:
    """Adds a module whose schedule is fixed: gates that everything must have passed in time, and its outputs."""
    module, plan = design.modules[one.module], flat.fixed[one.module]
    gates = []
    for (name, part), latest in zip(one.input_elements(), plan.arrival, strict=True):
        sources = {made[name][i] for i in (range(len(made[name])) if part is None else part)} - {-1}
        gates.append(flat.add(budget - latest, tuple(sorted(sources))))
    start = flat.add(after=(*gates, *dict.fromkeys(maker[name] for name in one.inputs if name in maker)))
    flat.start.append(start)
    for name in one.inputs:
        readers[name].append(start)
    end = flat.add(same=start, lag=plan.cycles)
    flat.end.append(end)
    ports = zip(module.outputs, one.output_elements(), plan.leaving, strict=True)
    for port, (name, part), times in ports:
        elements = made.setdefault(name, [-1] * len(design.wires[name].elements))
        maker[name] = end
        for i, ref, time in zip(range(len(elements)) if part is None else part, port.refs, times, strict=True):
            elements[i] = -1 if module.nodes[ref].constant else flat.add(time, same=start, lag=plan.cycles)


def _layer(
    design: Design,
    flat: Flat,
    layer: list[Instance],
    made: dict[str, list[int]],
    maker: dict[str, int],
    readers: dict[str, list[int]],
    delay: Delay,
) -> None:
    """Adds the modules of one layer.

    made: the node behind each element of a wire, START or -1 (constant). maker: the end of the layer that makes a wire.
    """
    start = flat.add(after=tuple(dict.fromkeys(maker[name] for name in layer[0].inputs if name in maker)))
    flat.start.append(start)
    for name in layer[0].inputs:
        readers[name].append(start)
    read: dict[str, list[list[set[int]]]] = {}
    uses: dict[str, int] = {}
    for one in layer:
        uses[one.module] = uses.get(one.module, 0) + 1
        ports = read.setdefault(one.module, [[set() for _ in port.refs] for port in design.modules[one.module].inputs])
        for found, (name, part) in zip(ports, one.input_elements(), strict=True):
            elements = made[name]
            for element, i in enumerate(range(len(elements)) if part is None else part):
                if elements[i] >= 0:
                    found[element].add(elements[i])
    outputs: list[int] = []
    inner: list[tuple[str, int, list[int]]] = []
    for name, sources in read.items():
        module = design.modules[name]
        place = [-1] * len(module.nodes)
        flat.place[name] = place
        for port, found in zip(module.inputs, sources, strict=True):
            for ref, args in zip(port.refs, found, strict=True):
                if not module.nodes[ref].constant:
                    place[ref] = flat.add(args=tuple(sorted(args)), same=start)
        for i, node in enumerate(module.nodes):
            if not node.constant and node.op != "input":
                operands = tuple(dict.fromkeys(place[arg] for arg in node.args if place[arg] >= 0))
                # What reads only constants, as a sum that nobody folded, still belongs to its layer.
                place[i] = flat.add(delay(module, node), operands, () if operands else (start,))
        leaving = [place[ref] for port in module.outputs for ref in port.refs if place[ref] >= 0]
        outputs += leaving
        inner.append((name, uses[name], leaving))
    end = flat.add(after=(*dict.fromkeys(outputs), start))
    flat.end.append(end)
    for name, times, leaving in inner:
        module, place = design.modules[name], flat.place[name]
        reads: list[list[int]] = [[] for _ in module.nodes]
        for i, node in enumerate(module.nodes):
            for arg in node.args:
                if place[arg] >= 0 and place[i] >= 0:
                    reads[arg].append(place[i])
        out = set(leaving)
        for i, node in enumerate(module.nodes):
            if place[i] >= 0:
                found_readers = tuple(dict.fromkeys(reads[i] + [end] * (place[i] in out)))
                if found_readers:
                    flat.nets.append((place[i], node.width * times, found_readers))
    for one in layer:
        place = flat.place[one.module]
        for port, (name, part) in zip(design.modules[one.module].outputs, one.output_elements(), strict=True):
            elements = made.setdefault(name, [-1] * len(design.wires[name].elements))
            maker[name] = end
            for i, ref in zip(range(len(elements)) if part is None else part, port.refs, strict=True):
                elements[i] = place[ref]
