"""relu(x) + half, then cut  ->  relu(x + half), then cut."""

from __future__ import annotations

from hgq.netlist.module import Module, rebuild


def hoist_rounding(module: Module) -> Module:
    """Moves the constant of a rounding in front of the ReLU before it, where `merge_constants` can join it to the bias.

    ``(relu(x) + c) >> d`` equals ``relu(x + c) >> d`` for ``0 <= c < 2**d``: they differ only where x < 0, and there
    both sums lie in ``0 .. 2**d - 1``. Done where the ReLU and the sum have no other reader, so that nothing is added.
    """
    readers = module.readers()
    rounded: dict[int, tuple[int, int]] = {}
    for i, node in enumerate(module.nodes):
        if node.op == "keep" and (found := _rounded_relu(module, node.args[0], node.params[0])):
            total, rectified, half = found
            if readers[total] == readers[rectified] == 1:
                rounded[i] = module.nodes[rectified].args[0], half
    if not rounded:
        return module
    builder, new = rebuild(module)
    for i, node in enumerate(module.nodes):
        if i in new:
            continue
        if i in rounded:
            x, half = rounded[i]
            builder.origin = node.origin
            frac = module.nodes[x].frac
            moved = builder.relu(builder.add(new[x], builder.const(half, frac), frac=frac))
            new[i] = builder.copy(node, (moved,))
            continue
        new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
    return builder.module({port.name: [new[ref] for ref in port.refs] for port in module.outputs})


def _rounded_relu(module: Module, total: int, drop: int) -> tuple[int, int, int] | None:
    """(sum, ReLU, constant) if node `total` is the ReLU plus a constant that `drop` bits cover."""
    node = module.nodes[total]
    if node.op != "add" or node.params != (0, 0):
        return None
    for rectified, constant in (node.args, node.args[::-1]):
        c = module.nodes[constant]
        if module.nodes[rectified].op == "relu" and c.op == "const" and 0 <= c.lo < 1 << max(drop, 0):
            return total, rectified, c.lo
    return None
