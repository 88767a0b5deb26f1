"""What no output of a design depends on: whole instances, elements of wires, logic inside modules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hgq.netlist.design import Design, Instance, Wire
from hgq.netlist.module import Builder, Module, Port
from hgq.passes.repeated import repeated


def drop_unread(design: Design) -> Design:
    """`design` without what nothing reads: rows that a pooling leaves over, neurons whose weights are all 0 further on.

    A module that stands at many positions keeps what any of them is asked for. What is left out of a wire is in
    `Wire.unread`. Modules of recurrent layers stay whole, so that their time steps are alike, and so do the inputs of
    the design, which are its ports.
    """
    needed = {name: [name in design.outputs] * len(wire.elements) for name, wire in design.wires.items()}
    whole = repeated(design)
    live: dict[str, list[bool]] = {}
    dropped: set[Instance] = set()
    for layer in reversed(design.layers()):
        outputs: dict[str, set[int]] = {}
        asked = set()
        for one in layer:
            module = design.modules[one.module]
            refs = _outputs(module) if one.module in whole else _asked(design, one, needed)
            refs = {ref for ref in refs if not module.nodes[ref].constant or module.nodes[ref].lo}
            outputs.setdefault(one.module, set()).update(refs)
            asked |= {one} if refs else set()  # also for a constant: a bias at a position that no weight reaches
        live |= {name: _live(design.modules[name], refs) for name, refs in outputs.items()}
        dropped |= set(layer) - asked if asked else set()  # of a layer that nothing reads, the name stays
        for one in asked:
            for ref, name, i in _elements(design, design.modules[one.module].inputs, one.input_elements()):
                needed[name][i] |= live[one.module][ref]
    modules = {name: _trimmed(design.modules[name], found) for name, found in live.items()}
    kept = [one for one in design.instances if one not in dropped]
    if len(kept) == len(design.instances) and all(modules[name] is design.modules[name] for name in modules):
        return design
    return _without(design, {one.module: modules[one.module] for one in kept}, kept, live)


def _outputs(module: Module) -> set[int]:
    return {ref for port in module.outputs for ref in port.refs}


def _elements(
    design: Design, ports: Iterable[Port], wires: Iterable[tuple[str, tuple[int, ...] | None]]
) -> Iterable[tuple[int, str, int]]:
    """For each element of some ports: its node in the module, its wire, and its place there."""
    for port, (name, part) in zip(ports, wires, strict=True):
        places = range(len(design.wires[name].elements)) if part is None else part
        for ref, i in zip(port.refs, places, strict=True):
            yield ref, name, i


def _asked(design: Design, one: Instance, needed: dict[str, list[bool]]) -> set[int]:
    """The nodes of a module whose elements at this instance are needed."""
    made = _elements(design, design.modules[one.module].outputs, one.output_elements())
    return {ref for ref, name, i in made if needed[name][i]}


def _live(module: Module, outputs: set[int]) -> list[bool]:
    """Which nodes these outputs depend on."""
    live = [i in outputs for i in range(len(module.nodes))]
    for i in range(len(live) - 1, -1, -1):
        if live[i]:
            for arg in module.nodes[i].args:
                live[arg] = True
    return live


def _trimmed(module: Module, live: list[bool]) -> Module:
    """The module without inputs that are not live, and 0 for outputs that are not."""
    nodes = module.nodes
    ends = [ref for port in (*module.inputs, *module.outputs) for ref in port.refs]
    if all(live[ref] or nodes[ref].constant for ref in ends):
        return module
    builder = Builder(module.name)
    new: dict[int, int] = {}
    for port in module.inputs:
        refs = [ref for ref in port.refs if live[ref] or nodes[ref].constant]
        builder.origin = nodes[refs[0]].origin if refs else ""
        elements = [(nodes[ref].lo, nodes[ref].hi, nodes[ref].frac) for ref in refs]
        new.update(zip(refs, builder.input(port.name, elements), strict=True))
    for i, node in enumerate(nodes):
        if i not in new and (live[i] or node.op == "const"):
            new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
    zero = builder.const(0)
    return builder.module({port.name: [new.get(ref, zero) for ref in port.refs] for port in module.outputs})


def _without(design: Design, modules: dict[str, Module], kept: list[Instance], live: dict[str, list[bool]]) -> Design:
    """The design of the instances that are kept, with `modules` in place of its own."""
    made: dict[str, set[int]] = {}
    instances = []
    for one in kept:
        before, alive = design.modules[one.module], live[one.module]
        for ref, name, i in _elements(design, before.outputs, one.output_elements()):
            if alive[ref] or before.nodes[ref].constant:
                made.setdefault(name, set()).add(i)
        reads = []
        for port, (name, part) in zip(before.inputs, one.input_elements(), strict=True):
            places = range(len(design.wires[name].elements)) if part is None else part
            found = tuple(
                i for ref, i in zip(port.refs, places, strict=True) if alive[ref] or before.nodes[ref].constant
            )
            reads.append(part if len(found) == len(port.refs) else found)
        instances.append(replace(one, reads=tuple(reads)))
    wires = {
        name: wire if name in design.inputs else _narrowed(wire, made.get(name, set()))
        for name, wire in design.wires.items()
    }
    return replace(design, modules=modules, instances=tuple(instances), wires=wires)


def _narrowed(wire: Wire, made: set[int]) -> Wire:
    """The wire without bits for elements that nothing makes."""
    gone = frozenset(i for i, (lo, hi, _) in enumerate(wire.elements) if lo != hi and i not in made)
    elements = tuple((0, 0, 0) if i in gone else element for i, element in enumerate(wire.elements))
    return replace(wire, elements=elements, unread=wire.unread | gone) if gone else wire
