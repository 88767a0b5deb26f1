"""(x + 5) + 3  ->  x + 8."""

from __future__ import annotations

from hgq.netlist.module import Builder, Module, rebuild


def merge_constants(module: Module) -> Module:
    """Joins a constant that is added to a sum with the constant that the sum already adds.

    Only where the inner sum has no other reader: otherwise both stay and nothing is won.
    """
    readers = module.readers()
    twice: dict[int, tuple[int, int]] = {}
    for i in range(len(module.nodes)):
        inner, c = _plus_constant(module, i)
        if c is not None and inner is not None and readers[inner] == 1:
            node = module.nodes[inner]
            if node.op in ("add", "sub") and any(module.nodes[arg].op == "const" for arg in node.args):
                twice[i] = inner, c
    if not twice:
        return module
    builder, new = rebuild(module)
    for i, node in enumerate(module.nodes):
        if i in new:
            continue
        if i in twice:
            inner, c = twice[i]
            merged = _merged(builder, module, inner, c, new)
            if merged is not None:
                new[i] = merged
                continue
        new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
    return builder.module({port.name: [new[ref] for ref in port.refs] for port in module.outputs})


def _plus_constant(module: Module, i: int) -> tuple[int | None, int | None]:
    """(other operand, constant) if node `i` is an unshifted operand plus a constant."""
    node = module.nodes[i]
    if node.op == "add":
        (a, b), (sa, sb) = node.args, node.params
        for x, c, sx, sc in ((a, b, sa, sb), (b, a, sb, sa)):
            if module.nodes[c].op == "const" and sx == 0:
                return x, module.nodes[c].lo << sc
    if node.op == "sub" and module.nodes[node.args[1]].op == "const" and node.params[0] == 0:
        return node.args[0], -(module.nodes[node.args[1]].lo << node.params[1])
    return None, None


def _merged(builder: Builder, module: Module, inner: int, c: int, new: dict[int, int]) -> int | None:
    """``node(inner) + c`` where `inner` itself adds a constant."""
    node = module.nodes[inner]
    builder.origin = node.origin
    for place, arg in enumerate(node.args):
        if node.op in ("add", "sub") and module.nodes[arg].op == "const":
            other, shift = node.args[1 - place], node.params[1 - place]
            own = module.nodes[arg].lo << node.params[place]
            if node.op == "add":
                total = builder.const(own + c, node.frac)
                return builder.add(new[other], total, shift, 0, node.frac)
            if place == 0:  # own - other
                total = builder.const(own + c, node.frac)
                return builder.sub(total, new[other], 0, shift, node.frac)
            total = builder.const(c - own, node.frac)
            return builder.add(new[other], total, shift, 0, node.frac)
    return None
