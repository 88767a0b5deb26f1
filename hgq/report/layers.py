"""One row for each module: widths, EBOPs, logic and latency."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hgq.fixed import FixedArray, FixedType
from hgq.ir.graph import Graph, Node
from hgq.ir.ops.conv import conv_windows
from hgq.ir.ops.pool import pool_windows
from hgq.lower.wiring import WIRING
from hgq.names import layer_of_step
from hgq.netlist.cost import lut_estimate
from hgq.netlist.design import Design
from hgq.netlist.module import Module
from hgq.resource.ebops import (
    affine_ebops,
    bias_ebops,
    conv_ebops,
    difference_types,
    matmul_ebops,
    mean_ebops,
    product_ebops,
)

LOGIC = ("adders", "adder_bits", "registers", "lut_estimate")
"""What all modules of a layer have together."""


def layer_rows(graph: Graph, design: Design) -> list[dict[str, Any]]:
    """For each module of `design`, in order, what it holds; all numbers are of one copy, fully unrolled.

    inputs, weights: bits of each element as ``[least, mean, most]``, zero-bit elements included.
    nonzero, constants: how many weights are not 0, of how many.
    adders: additions and subtractions, of two operands or of three, negations and comparisons. adder_bits: the
        widths of their results together.
    registers: flip-flops, in bits. latency: clock cycles. lut_estimate: LUTs, see hgq/netlist/cost.py.
    modules: the Verilog modules of the layer, and how often each is used.
    The time steps of a recurrent layer, one after the other, are one row.
    """
    rows: list[dict[str, Any]] = []
    for layer in design.layers():
        nodes = _nodes_of(graph, design, layer[0].outputs)
        row: dict[str, Any] = {"layer": nodes[-1].origin, "ops": " ".join(dict.fromkeys(n.op for n in nodes))}
        constants = [n for n in nodes if n.op in ("dense", "conv", "affine")]
        if constants:
            row |= _constants(graph, constants[0])
        row["ebops"] = sum(ebops(graph, n) for n in nodes)
        row["modules"] = dict(Counter(one.module for one in layer))
        row |= _logic([design.modules[one.module] for one in layer])
        recurrent = layer_of_step(nodes[-1].origin)
        before = next((r for r in rows if r["layer"] == recurrent), None)
        if before is None:
            rows.append(row | ({"layer": recurrent} if recurrent else {}))
        else:
            _add_step(before, row)
    return rows


def _add_step(row: dict[str, Any], step: dict[str, Any]) -> None:
    """Adds a time step to the row of its layer."""
    for key in ("ebops", "latency", *LOGIC):
        row[key] += step[key]
    row["modules"] = dict(Counter(row["modules"]) + Counter(step["modules"]))
    row["ops"] = " ".join(dict.fromkeys([*row["ops"].split(), *step["ops"].split()]))
    row |= {key: step[key] for key in ("inputs", "weights", "nonzero", "constants") if key in step}


def totals(rows: list[dict[str, Any]], design: Design) -> dict[str, int]:
    """Sums over the rows, and what the top level adds: its registers and the latency of the whole."""
    keys = ("ebops", "nonzero", "constants", "adders", "adder_bits", "registers", "lut_estimate")
    result = {key: sum(row.get(key, 0) for row in rows) for key in keys}
    ports = [sum(design.wires[w].width for w in group) for group in (design.inputs, design.outputs)]
    top = ports[0] * design.register_inputs + ports[1] * design.register_outputs + design.latency
    result["registers"] += top + _waiting(design)
    return result | {"latency": design.latency}


def _waiting(design: Design) -> int:
    """Flip-flops of the top level in which elements of wires wait for those who read them last."""
    longest = {name: [0] * len(wire.elements) for name, wire in design.wires.items()}
    waits = [(w, p, c) for i in design.instances for (w, p), c in zip(i.input_elements(), i.delays, strict=True)]
    waits += [(w, None, c) for w, c in zip(design.outputs, design.output_delays, strict=True)]
    for name, part, cycles in waits:
        for element in range(len(longest[name])) if part is None else part:
            longest[name][element] = max(longest[name][element], cycles)
    return sum(
        FixedType.holding(*element).width * cycles
        for name, wire in design.wires.items()
        for element, cycles in zip(wire.elements, longest[name], strict=True)
        if element[0] != element[1]
    )


def ebops(graph: Graph, node: Node) -> int:
    """Exact EBOPs of one IR node; the definition is in hgq/resource/ebops.py."""
    if node.op == "dense":
        total = matmul_ebops(node.attrs["kernel"], graph.learned_types(node.args[0]).width)
        if "bias" in node.attrs:
            positions = int(np.prod(node.shape[:-1], dtype=np.int64))
            total += bias_ebops(node.attrs["bias"], node.attrs["bias_types"].width, positions)
        return total
    if node.op == "mul":
        a, b = (_factor(graph, graph[arg]).width for arg in node.args)
        return product_ebops(a, b)
    if node.op == "matmul":
        a, b = (graph.learned_types(arg).width for arg in node.args)
        return int((a @ b).sum())
    if node.op == "conv":
        learned = graph.learned_types(node.args[0])
        (groups,) = node.attrs["groups"]
        windows = conv_windows(node.attrs, learned.shape)
        total = conv_ebops(node.attrs["kernel"], learned.width, windows, groups)
        if "bias" in node.attrs:
            total += bias_ebops(node.attrs["bias"], node.attrs["bias_types"].width, windows.positions)
        return total
    if node.op == "affine" and graph[node.args[0]].op == "sum_pool":  # an average that is no power of two
        source = graph[node.args[0]]
        learned = graph.learned_types(source.args[0])
        scale = np.broadcast_to(node.attrs["scale"], node.shape)[..., 0].ravel()
        return mean_ebops(scale, learned, pool_windows(source.attrs, learned.shape))
    if node.op == "affine":
        constants = [(node.attrs[name], node.attrs[f"{name}_types"]) for name in ("scale", "offset")]
        return affine_ebops(constants[0], constants[1], graph.learned_types(node.args[0]).width)
    return 0


def _factor(graph: Graph, node: Node) -> FixedArray:
    """Types of a factor of a product: those that it has by training."""
    if node.op == "sub":
        a, b = (graph.learned_types(arg) for arg in node.args)
        return difference_types(a, b)
    return graph.learned_types(node.name)


def _nodes_of(graph: Graph, design: Design, outputs: tuple[str, ...]) -> list[Node]:
    """The IR nodes of the module that makes these wires."""
    found: dict[str, Node] = {}
    edges = {wire.tensor for wire in design.wires.values()} - {design.wires[name].tensor for name in outputs}
    todo = [design.wires[name].tensor for name in outputs]
    while todo:
        node = graph[todo.pop()]
        if node.name not in edges and node.name not in found:
            found[node.name] = node
            todo += node.args
    every = [node for node in graph if node.name in found]
    ordered = [node for node in every if node.op not in WIRING] or every
    # The layer that gives the module its name comes last; a quantizer of the next layer may share the module.
    named = [node for node in ordered if node.op != "quantize"] or ordered
    return [node for node in ordered if node not in named] + named


def _constants(graph: Graph, node: Node) -> dict[str, Any]:
    name = "kernel" if "kernel" in node.attrs else "scale"
    m, types = node.attrs[name], node.attrs[f"{name}_types"]
    return {
        "inputs": _spread(graph.learned_types(node.args[0]).width),
        "weights": _spread(types.width),
        "nonzero": int((m != 0).sum()),
        "constants": int(m.size),
    }


def _spread(widths: np.ndarray) -> list[float]:
    return [int(widths.min()), round(float(widths.mean()), 2), int(widths.max())]


def _logic(modules: list[Module]) -> dict[str, int]:
    """Of all instances together; a module counts as often as it is used."""
    result = dict.fromkeys(LOGIC, 0) | {"latency": modules[0].latency()}
    known: dict[str, tuple[int, ...]] = {}
    for module in modules:
        if module.name not in known:
            sums = ("add", "sub", "add3", "neg", "max", "min", "table_sum")
            adders = [n.type.width for n in module.nodes if n.op in sums]
            registers = sum(n.type.width for n in module.nodes if n.op == "register")
            known[module.name] = len(adders), sum(adders), registers, lut_estimate(module)
        for key, value in zip(LOGIC, known[module.name], strict=True):
            result[key] += value
    return result
