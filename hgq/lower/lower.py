"""Cuts the IR into modules, one per Keras layer, and lowers each."""

from __future__ import annotations

import re
from collections.abc import Hashable
from graphlib import TopologicalSorter

from hgq.errors import IRError
from hgq.ir.graph import Graph, Node
from hgq.lower.activation import quantize, relu
from hgq.lower.alike import signature
from hgq.lower.conv import conv
from hgq.lower.dense import affine, dense
from hgq.lower.merge import add, clip, highest, lowest, maximum, minimum, sub, total
from hgq.lower.pool import pool
from hgq.lower.pool_first import pool_first
from hgq.lower.product import matmul, mul
from hgq.lower.rule import Rule
from hgq.lower.table import lookup, take
from hgq.lower.tiles import Plan, plan_tiles
from hgq.lower.wiring import HEADS, Wiring, wirings
from hgq.names import identifier, identifiers
from hgq.netlist.design import Design, Element, Instance, Wire
from hgq.netlist.module import Builder, Module

LOWER: dict[str, Rule] = {
    "quantize": quantize,
    "dense": dense,
    "conv": conv,
    "max_pool": pool,
    "sum_pool": pool,
    "affine": affine,
    "relu": relu,
    "clip": clip,
    "lookup": lookup,
    "add": add,
    "sub": sub,
    "mul": mul,
    "matmul": matmul,
    "maximum": maximum,
    "minimum": minimum,
    "sum": total,
    "max": highest,
    "min": lowest,
    "take": take,
}
"""The rule of each IR op that may need a module."""


def lower(graph: Graph, name: str) -> Design:
    """The combinational design of `graph`. A module is called ``name_layer``, a wire as its IR node.

    A quantizer that alone reads a tensor stands in the module that makes the tensor, so that what leaves a module is
    as narrow as the next one needs.
    """
    graph = pool_first(graph)
    source = wirings(graph)
    group = _groups(graph, source)
    order = _order(graph, source, group)
    module_names = identifiers([f"{name}_{layer}" for layer in order], taken={name})
    wire_names = _wire_names([node.name for node in graph if source[node.name].bases == (node.name,)], name)
    wires: dict[str, Wire] = {}
    for node in (graph[i] for i in graph.inputs):
        wires[node.name] = Wire(wire_names[node.name], _elements(node), node.name)
    modules: dict[str, Module] = {}
    instances = []
    alike: dict[Hashable, Module] = {}
    for layer in order:
        nodes = [graph[n] for n, g in group.items() if g == layer]
        inside = {node.name for node in nodes}
        reads = _reads(source, nodes, inside)
        inputs = list(reads)
        outside = [arg for n, g in group.items() if g != layer for arg in graph[n].args]
        leaving = {base for arg in (*outside, *graph.outputs) for base in source[arg].bases}
        # States always leave, so that the last time step is like the others.
        outputs = [node.name for node in nodes if node.name in leaving or "whole" in node.attrs]
        plan = (
            plan_tiles(graph, nodes, wires[inputs[0]].elements)
            if len(inputs) == 1 and reads[inputs[0]] is None
            else None
        )
        if plan is not None and plan.worth:
            made = _tiles(plan, module_names[f"{name}_{layer}"], wires[inputs[0]], outputs, wire_names)
            modules |= {module.name: module for module in made[0]}
            wires |= made[1]
            instances += made[2]
            continue
        key = signature(graph, source, nodes, {i: wires[i] for i in inputs}, reads, outputs)
        if key is None or key not in alike:
            ports = _port_names(wire_names, inputs, outputs, key is not None)
            builder = Builder(module_names[f"{name}_{layer}"])
            refs = _nodes(graph, source, builder, nodes, {i: wires[i] for i in inputs}, reads, ports)
            module = builder.module({ports[out]: refs[out] for out in outputs})
            modules[module.name] = alike[key] = module
        module = alike[key]
        for out, port in zip(outputs, module.outputs, strict=True):
            wires[out] = Wire(wire_names[out], tuple(_element(module, ref) for ref in port.refs), out)
        instances.append(
            Instance(
                module.name,
                tuple(wires[i].name for i in inputs),
                tuple(wires[o].name for o in outputs),
                (0,) * len(inputs),
                tuple(reads.values()),
            )
        )
    return Design(
        name=name,
        modules=modules,
        instances=tuple(instances),
        wires={wire.name: wire for wire in wires.values()},
        inputs=tuple(wires[i].name for i in graph.inputs),
        outputs=tuple(wires[source[o].bases[0]].name for o in graph.outputs),
        output_delays=(0,) * len(graph.outputs),
    )


_EMITTED = re.compile(r"valid|unused|(in|out)_data_r|[nu]\d+(_table|_sum)?|.*_d\d+", re.IGNORECASE)
"""Names that hgq/emit/verilog.py gives to registers, nodes, instances and wires that wait."""


def _wire_names(tensors: list[str], top: str) -> dict[str, str]:
    """A Verilog name for each tensor that a wire carries, other than all that stands beside it in a module."""
    taken = {identifier(tensor) for tensor in tensors if _EMITTED.fullmatch(identifier(tensor))}
    return identifiers(tensors, taken={top, *taken})


def _tiles(
    plan: Plan, name: str, wire: Wire, outputs: list[str], wire_names: dict[str, str]
) -> tuple[list[Module], dict[str, Wire], list[Instance]]:
    """A module for each kind of tile, the wires they make together, and an instance for each position."""
    modules = []
    for number, position in enumerate(plan.first):
        builder = Builder(name if len(plan.first) == 1 else f"{name}__{number}")  # no other name has two underscores
        builder.origin = wire.tensor
        refs = builder.input(wire.name, tuple(wire.elements[i] for i in plan.tiles.reads(position)))
        made = plan.make(builder, position, refs)
        for node in plan.nodes:
            _agree(builder, node, made[node.name], plan.elements(position))
        modules.append(builder.module({wire_names[out]: made[out] for out in outputs}))
    wires = {}
    for place, out in enumerate(outputs):
        elements = [_element(modules[k], ref) for k in plan.kinds for ref in modules[k].outputs[place].refs]
        wires[out] = Wire(wire_names[out], tuple(elements), out)
    instances = [
        Instance(
            modules[kind].name,
            (wire.name,),
            tuple(wires[out].name for out in outputs),
            (0,),
            (plan.tiles.reads(position),),
            (plan.elements(position),) * len(outputs),
        )
        for position, kind in enumerate(plan.kinds)
    ]
    return modules, wires, instances


def _port_names(wires: dict[str, str], inputs: list[str], outputs: list[str], shared: bool) -> dict[str, str]:
    """Ports are called as the wires at them, or, in a module for several time steps, as what these have in common."""
    if not shared:
        return {tensor: wires[tensor] for tensor in (*inputs, *outputs)}
    ends = {tensor: f"in_{tensor.split('.')[-1]}" for tensor in inputs}
    ends |= {tensor: f"out_{tensor.split('.')[-1]}" for tensor in outputs}
    counted = {
        tensor: f"{end}{list(ends.values())[:n].count(end) or ''}" for n, (tensor, end) in enumerate(ends.items())
    }
    names = identifiers(counted.values())
    return {tensor: names[end] for tensor, end in counted.items()}


def _reads(source: dict[str, Wiring], nodes: list[Node], inside: set[str]) -> dict[str, tuple[int, ...] | None]:
    """The nodes outside a module that it reads, and which of their elements; None for all."""
    reads: dict[str, tuple[int, ...] | None] = {}
    for node in nodes:
        for arg in node.args:
            for base, part in source[arg].parts().items():
                if base not in inside:
                    whole = part is None or reads.get(base, ()) is None
                    reads[base] = None if whole else tuple(sorted({*(reads.get(base) or ()), *(part or ())}))
    return reads


def _groups(graph: Graph, source: dict[str, Wiring]) -> dict[str, str]:
    """For each node with logic, the layer whose module holds it."""
    readers: dict[str, int] = dict.fromkeys(graph.nodes, 0)
    logic = [node for node in graph if node.op != "input" and source[node.name].bases == (node.name,)]
    for arg in (*graph.outputs, *(arg for node in logic for arg in node.args)):
        for base in source[arg].bases:
            readers[base] += 1
    group: dict[str, str] = {}
    chains: dict[str, list[Node]] = {}
    absorbed: set[str] = set()
    reads: dict[str, set[str]] = {}
    for node in logic:
        if node.op not in LOWER:
            raise IRError(f"{node.name}: no lowering for the op {node.op!r}")
        bases = [base for arg in node.args for base in source[arg].bases]
        makers = [base for base in bases if base in group]
        maker = makers[0] if len(makers) == len(bases) == 1 else None
        own = [m for m in makers if graph[m].origin == node.origin and m not in absorbed]
        fixed = maker is not None and "whole" in graph[maker].attrs  # its wire is to be as its types say
        alone = maker and readers[maker] == 1 and not fixed
        if node.op == "quantize" and maker and alone and _joins(graph, chains[group[maker]], node):
            group[node.name] = group[maker]
            absorbed.add(node.name)
        elif node.op in HEADS:
            # What stands before it in the same layer is done once for each element, not once for each window.
            group[node.name] = node.origin if node.origin not in chains else node.name
        else:
            layer = group[own[0]] if own else node.origin
            others = {group[m] for m in makers} - {layer}
            # A layer whose middle stands elsewhere, as that of a separable convolution, has two modules of its own.
            group[node.name] = node.name if layer in chains and _reaches(reads, others, layer) else layer
        chains.setdefault(group[node.name], []).append(node)
        reads.setdefault(group[node.name], set()).update({group[m] for m in makers} - {group[node.name]})
    return group


def _reaches(reads: dict[str, set[str]], starts: set[str], layer: str) -> bool:
    """Whether one of the modules `starts` reads `layer`, itself or through others."""
    seen: set[str] = set()
    todo = list(starts)
    while todo:
        one = todo.pop()
        if one == layer:
            return True
        if one not in seen:
            seen.add(one)
            todo += reads[one]
    return False


def _joins(graph: Graph, chain: list[Node], node: Node) -> bool:
    """Whether a quantizer goes into the module that makes what it reads: not where it would end the sharing of one."""
    before = plan_tiles(graph, chain)
    if before is None or not before.worth:
        return True
    after = plan_tiles(graph, [*chain, node])
    return after is not None and after.worth


def _order(graph: Graph, source: dict[str, Wiring], group: dict[str, str]) -> list[str]:
    """The layers, each after those that it reads."""
    reads: dict[str, set[str]] = {layer: set() for layer in group.values()}
    for name, layer in group.items():
        makers = (group.get(base) for arg in graph[name].args for base in source[arg].bases)
        reads[layer].update(maker for maker in makers if maker is not None and maker != layer)
    return list(TopologicalSorter(reads).static_order())


def _nodes(
    graph: Graph,
    source: dict[str, Wiring],
    builder: Builder,
    nodes: list[Node],
    inputs: dict[str, Wire],
    reads: dict[str, tuple[int, ...] | None],
    ports: dict[str, str],
) -> dict[str, tuple[int, ...]]:
    """Where each tensor of the module is in its builder."""
    refs: dict[str, tuple[int, ...]] = {}
    for tensor, wire in inputs.items():
        builder.origin = tensor
        part = reads[tensor]
        if part is None:
            refs[tensor] = builder.input(ports[tensor], wire.elements)
        else:
            taken = dict(zip(part, builder.input(ports[tensor], [wire.elements[i] for i in part]), strict=True))
            refs[tensor] = tuple(taken.get(i, -1) for i in range(len(wire.elements)))  # -1: nothing here asks for it
    for node in nodes:
        ranges = tuple(graph[arg].range for arg in node.args)
        arguments = tuple(_gathered(builder, source[arg], refs) for arg in node.args)
        refs[node.name] = LOWER[node.op](builder, node, ranges, arguments)
        _agree(builder, node, refs[node.name])
    return refs


def _gathered(builder: Builder, wiring: Wiring, refs: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The nodes of a tensor's elements."""
    if wiring.index is None:
        return refs[wiring.bases[0]]
    pool = [ref for base in wiring.bases for ref in refs[base]]
    return tuple(pool[i] if i >= 0 else builder.const(0) for i in wiring.index.tolist())


def _agree(builder: Builder, node: Node, refs: tuple[int, ...], elements: tuple[int, ...] | None = None) -> None:
    """The netlist may know a tighter range than the IR, never a wider one."""
    lows, highs = node.range.lo.ravel(), node.range.hi.ravel()
    for i, ref in zip(range(len(lows)) if elements is None else elements, refs, strict=True):
        lo, hi = lows[i], highs[i]
        made = builder.nodes[ref]
        if made.lo < lo or made.hi > hi:
            raise IRError(f"{node.name}[{i}]: lowered to the range {made.lo}..{made.hi}, the IR says {lo}..{hi}")


def _elements(node: Node) -> tuple[Element, ...]:
    parts = (a.ravel().tolist() for a in (node.range.lo, node.range.hi, node.range.frac))
    return tuple(zip(*parts, strict=True))


def _element(module: Module, ref: int) -> Element:
    node = module.nodes[ref]
    return node.lo, node.hi, node.frac
