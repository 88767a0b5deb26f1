"""The delay model: nanoseconds of one op by its widths. A statement to plan with, not a measurement.

The numbers are of the order of a mid-speed UltraScale+ part, routing included: one adder level of 10 bits takes
about 1 ns, which is what published 200 MHz designs of this kind imply (five to six levels a stage).
"""

from __future__ import annotations

from hgq.netlist.module import Module, Node

LOGIC_NS = 0.45
"""One level of LUTs with its routing."""
ADD_NS = 0.75
"""An adder without its carry chain: LUT, routing, entry and exit of the chain."""
CARRY_NS = 0.02
"""Each bit of a carry chain."""
MUL_NS = 3.2
"""A multiplier block of 27 x 18 bits without its registers; small products are a tree of adders."""
REGISTER_NS = 0.30
"""What a clock period loses to clock-to-output and set-up."""


def delay(module: Module, node: Node) -> float:
    """Nanoseconds from the last operand to the result."""
    match node.op:
        case "add" | "sub" | "neg":
            return ADD_NS + CARRY_NS * node.type.width
        case "relu":
            return LOGIC_NS
        case "max" | "min":
            # A comparison, then a selection.
            widest = max(module.nodes[arg].type.width + by for arg, by in zip(node.args, node.params, strict=True))
            return LOGIC_NS + ADD_NS + CARRY_NS * widest
        case "mul":
            narrow, wide = sorted(module.nodes[arg].type.width for arg in node.args)
            adders = LOGIC_NS + (ADD_NS + CARRY_NS * wide) * (narrow - 1).bit_length()
            return min(adders, MUL_NS + (ADD_NS + CARRY_NS * wide) * (-(-narrow // 17) * -(-wide // 26) - 1))
        case "lookup":
            return LOGIC_NS * (1 + max(module.nodes[node.args[0]].type.width - 5, 0) // 2)
        case "clamp":
            return LOGIC_NS + ADD_NS + CARRY_NS * module.nodes[node.args[0]].type.width
    return 0.0
