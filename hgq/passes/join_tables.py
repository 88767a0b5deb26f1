"""x + table(a, b, c)  ->  one node, which no register cuts in two."""

from __future__ import annotations

from hgq.netlist.cost import absorbed, guest
from hgq.netlist.module import Module, rebuild


def join_tables(module: Module) -> Module:
    """Makes one `table_sum` of a sum and the table that shares its LUTs (hgq/netlist/cost.py says which do).

    With a register between the two, the table would need LUTs of its own; registers then hold the bits that the table
    reads, which other tables read too. The integers are the same, as `table_sum` is defined as that sum.
    """
    shared = absorbed(module)
    if not shared:
        return module
    builder, new = rebuild(module)
    for i, node in enumerate(module.nodes):
        if i in new:
            continue
        inner = guest(module, node)
        if inner is not None and inner in shared:
            place = node.args.index(inner)
            table, other = module.nodes[inner], node.args[1 - place]
            sign = -1 if node.op == "sub" else 1
            params = (sign, node.params[1 - place], node.params[place], *table.params)
            builder.origin = node.origin
            args = tuple(new[arg] for arg in table.args)
            new[i] = builder.table_sum(new[other], args, params, node.frac, (node.lo, node.hi))
        else:
            new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
    return builder.module({port.name: [new[ref] for ref in port.refs] for port in module.outputs})
