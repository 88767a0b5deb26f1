"""What a module or design computes, on integers, over a batch. Registers are looked through."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hgq.fixed import as_objects
from hgq.netlist.design import Design
from hgq.netlist.module import Module, Node
from hgq.netlist.ops import OPS, table_sum_params

_SAFE = 1 << 61


def evaluate_module(module: Module, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs for inputs, one array of shape ``(samples, elements)`` per port."""
    samples = len(inputs[0])
    values: list[np.ndarray | None] = [None] * len(module.nodes)
    for port, x in zip(module.inputs, inputs, strict=True):
        for position, ref in enumerate(port.refs):
            values[ref] = x[:, position]
    for i, node in enumerate(module.nodes):
        if node.op == "const":
            wide = not -_SAFE < node.lo < _SAFE
            values[i] = np.full(samples, node.lo, object if wide else np.int64)
        elif node.op != "input":
            arguments = [values[arg] for arg in node.args]
            if _wide(module, node):
                arguments = [as_objects(a) for a in arguments]  # type: ignore[arg-type]
            result = OPS[node.op].evaluate(node.params, *arguments)
            fits = -_SAFE < node.lo and node.hi < _SAFE
            values[i] = result.astype(np.int64) if result.dtype == object and fits else result
    columns = [[values[ref] for ref in port.refs] for port in module.outputs]
    return [np.stack(c, axis=1) if c else np.zeros((samples, 0), np.int64) for c in columns]  # type: ignore[arg-type]


def _wide(module: Module, node: Node) -> bool:
    """Whether the op or a shifted operand of it may leave int64."""
    ends = [node.lo, node.hi]
    shifts: tuple[int, ...] = (0, 0)
    if node.op in ("add", "sub", "max", "min"):
        shifts = node.params
    elif node.op == "table_sum":
        _, shifts, (count, *rest) = table_sum_params(node.params)
        ends += [entry << shifts[1] for entry in rest[count:]]
        shifts = shifts[:1]
    elif node.op == "concat":
        shifts = (node.params[0], 0)
    elif node.op == "add3":
        shifts = node.params[:3]
        spread = (
            max(abs(module.nodes[a].lo), abs(module.nodes[a].hi)) << s for a, s in zip(node.args, shifts, strict=True)
        )
        ends.append(sum(spread))  # in whatever order they are added
    elif node.op == "keep":
        shifts = (max(-node.params[0], 0),)
    for arg, by in zip(node.args, shifts, strict=False):
        ends += [module.nodes[arg].lo << by, module.nodes[arg].hi << by]
    if node.op == "keep":
        ends.append(1 << node.params[2])
    return not all(-_SAFE < end < _SAFE for end in ends)


def evaluate_design(design: Design, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The output wires for the input wires, arrays of shape ``(samples, elements)``."""
    values = dict(inputs)
    samples = len(next(iter(inputs.values()))) if inputs else 0
    for one in design.instances:
        taken = [values[name] if part is None else values[name][:, part] for name, part in one.input_elements()]
        results = evaluate_module(design.modules[one.module], taken)
        for (name, part), result in zip(one.output_elements(), results, strict=True):
            if part is None:
                values[name] = result
                continue
            if name not in values:
                wide = any(not (-_SAFE < lo and hi < _SAFE) for lo, hi, _ in design.wires[name].elements)
                values[name] = np.zeros((samples, len(design.wires[name].elements)), object if wide else np.int64)
            values[name][:, part] = result
    return {name: values[name] for name in design.outputs}
