"""Cuts the IR into modules, one per Keras layer, and lowers each."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from hgq.errors import IRError
from hgq.ir.graph import Graph, Node
from hgq.lower.activation import quantize, relu
from hgq.lower.dense import affine, dense
from hgq.lower.rule import Rule
from hgq.names import identifiers
from hgq.netlist.design import Design, Element, Instance, Wire
from hgq.netlist.module import Builder, Module

LOWER: dict[str, Rule] = {
    "quantize": quantize,
    "dense": dense,
    "affine": affine,
    "relu": relu,
}
"""The rule of each IR op that needs logic."""

WIRING = {"reshape"}
"""IR ops that only rename elements: the same wire under another shape."""


def lower(graph: Graph, name: str) -> Design:
    """The combinational design of `graph`. A module is called ``name_layer``, a wire as its IR node.

    A quantizer that alone reads a tensor stands in the module that makes the tensor, so that what leaves a module is
    as narrow as the next one needs.
    """
    source = _sources(graph)
    group = _groups(graph, source)
    order = _order(graph, source, group)
    module_names = identifiers([f"{name}_{layer}" for layer in order], taken={name})
    wire_names = identifiers([node.name for node in graph if source[node.name] == node.name])
    wires: dict[str, Wire] = {}
    for node in (graph[i] for i in graph.inputs):
        wires[node.name] = Wire(wire_names[node.name], _elements(node), node.name)
    modules: dict[str, Module] = {}
    instances = []
    for layer in order:
        nodes = [graph[n] for n, g in group.items() if g == layer]
        inside = {node.name for node in nodes}
        inputs = list(dict.fromkeys(source[a] for node in nodes for a in node.args if source[a] not in inside))
        leaving = {
            source[a] for node in graph if group.get(node.name) != layer for a in node.args if source[a] != node.name
        }
        leaving |= {source[out] for out in graph.outputs}
        outputs = [node.name for node in nodes if node.name in leaving]
        refs, builder = _nodes(graph, source, module_names[f"{name}_{layer}"], nodes, {i: wires[i] for i in inputs})
        module = builder.module({wire_names[out]: refs[out] for out in outputs})
        modules[module.name] = module
        for out, port in zip(outputs, module.outputs, strict=True):
            wires[out] = Wire(wire_names[out], tuple(_element(module, ref) for ref in port.refs), out)
        instances.append(
            Instance(
                module.name,
                tuple(wires[i].name for i in inputs),
                tuple(wires[o].name for o in outputs),
                (0,) * len(inputs),
            )
        )
    return Design(
        name=name,
        modules=modules,
        instances=tuple(instances),
        wires={wire.name: wire for wire in wires.values()},
        inputs=tuple(wires[i].name for i in graph.inputs),
        outputs=tuple(wires[source[o]].name for o in graph.outputs),
        output_delays=(0,) * len(graph.outputs),
    )


def _sources(graph: Graph) -> dict[str, str]:
    """For each node, the node whose wire carries it: itself, unless it only renames elements."""
    source: dict[str, str] = {}
    for node in graph:
        source[node.name] = source[node.args[0]] if node.op in WIRING else node.name
    return source


def _groups(graph: Graph, source: dict[str, str]) -> dict[str, str]:
    """For each node with logic, the layer whose module holds it."""
    readers: dict[str, int] = dict.fromkeys(graph.nodes, 0)
    for node in graph:
        if node.op not in WIRING:
            for arg in node.args:
                readers[source[arg]] += 1
    for out in graph.outputs:
        readers[source[out]] += 1
    group: dict[str, str] = {}
    for node in graph:
        if node.op == "input" or node.op in WIRING:
            continue
        if node.op not in LOWER:
            raise IRError(f"{node.name}: no lowering for the op {node.op!r}")
        maker = source[node.args[0]]
        alone = node.op == "quantize" and maker in group and readers[maker] == 1
        group[node.name] = group[maker] if alone else node.origin
    return group


def _order(graph: Graph, source: dict[str, str], group: dict[str, str]) -> list[str]:
    """The layers, each after those that it reads."""
    reads: dict[str, set[str]] = {layer: set() for layer in group.values()}
    for name, layer in group.items():
        makers = (group.get(source[arg]) for arg in graph[name].args)
        reads[layer].update(maker for maker in makers if maker is not None and maker != layer)
    try:
        return list(TopologicalSorter(reads).static_order())
    except CycleError as loop:
        raise IRError(
            f"the layers {' -> '.join(loop.args[1])} read each other; each call needs its own origin"
        ) from loop


def _nodes(
    graph: Graph, source: dict[str, str], name: str, nodes: list[Node], inputs: dict[str, Wire]
) -> tuple[dict[str, tuple[int, ...]], Builder]:
    """Where each tensor of the module is in its builder."""
    builder = Builder(name)
    refs: dict[str, tuple[int, ...]] = {}
    for tensor, wire in inputs.items():
        builder.origin = tensor
        refs[tensor] = builder.input(wire.name, wire.elements)
    for node in nodes:
        ranges = tuple(graph[arg].range for arg in node.args)
        refs[node.name] = LOWER[node.op](builder, node, ranges, tuple(refs[source[arg]] for arg in node.args))
        _agree(builder, node, refs[node.name])
    return refs, builder


def _agree(builder: Builder, node: Node, refs: tuple[int, ...]) -> None:
    """The netlist may know a tighter range than the IR, never a wider one."""
    for i, (ref, lo, hi) in enumerate(zip(refs, node.range.lo.ravel(), node.range.hi.ravel(), strict=True)):
        made = builder.nodes[ref]
        if made.lo < lo or made.hi > hi:
            raise IRError(f"{node.name}[{i}]: lowered to the range {made.lo}..{made.hi}, the IR says {lo}..{hi}")


def _elements(node: Node) -> tuple[Element, ...]:
    parts = (a.ravel().tolist() for a in (node.range.lo, node.range.hi, node.range.frac))
    return tuple(zip(*parts, strict=True))


def _element(module: Module, ref: int) -> Element:
    node = module.nodes[ref]
    return node.lo, node.hi, node.frac
