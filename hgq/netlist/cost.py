"""What a module will occupy on an FPGA, in LUTs, without running a tool.

An estimate: it counts the bits of each carry chain that need logic, as a device with one LUT per carry bit has them.
How far it lies from Yosys is measured in `BAND`; what a slice packs together is not its business.
"""

from __future__ import annotations

from hgq.netlist.module import Module, Node

BAND = 0.10
"""For every design in hgq/report/README.md the estimate lies within this part of what Yosys maps to Xilinx cells."""


def lut_estimate(module: Module) -> int:
    """LUTs of `module`: carry bits that need logic, rectifiers, selections and tables, over all bits that are read."""
    low, top = _read(module)
    free = _absorbed(module)
    zeros = _trailing_zeros(module)
    return sum(
        _luts(module, node, zeros, max(low[i], zeros[i]), top[i])
        for i, node in enumerate(module.nodes)
        if not node.constant and top[i] and i not in free
    )


def _luts(module: Module, node: Node, zeros: list[int], low: int, top: int) -> int:
    """LUTs of one node, of which the bits ``low .. top - 1`` are read and may be 1."""
    width = min(node.type.width, top)
    args = [module.nodes[arg] for arg in node.args]
    match node.op:
        case "add" | "sub":
            return _carry_bits(module, node, zeros, width)
        case "neg":
            return max(width - zeros[node.args[0]], 0)
        case "relu":
            return max(width - low, 0)
        case "max" | "min":
            return width + max(a.type.width + shift for a, shift in zip(args, node.params, strict=True))
        case "mul":
            return args[0].type.width * args[1].type.width
        case "lookup":
            return width * _table(args[0].type.width)
        case "clamp":
            return max(width - low, 0) + -(-max(args[0].type.width - node.type.width, 0) // 5)
    return 0


def _carry_bits(module: Module, node: Node, zeros: list[int], width: int) -> int:
    """Bits of a sum, below `width`, at which an operand has a bit that is neither absent nor a mere wire."""
    spans = []
    for arg, shift in zip(node.args, node.params, strict=True):
        a = module.nodes[arg]
        # A constant needs a LUT only where the other operand has a bit too.
        high = 0 if a.constant else width if a.type.signed else shift + a.type.width
        spans.append((shift + zeros[arg], high))
    (a_low, a_high), (b_low, b_high) = spans
    if node.op == "add" and (b_low >= a_high > 0 or a_low >= b_high > 0):
        return 0  # the operands share no bit: a concatenation
    # Below the first bit of what is added or subtracted, the other operand passes through.
    first = max(a_low, b_low) if node.op == "add" else b_low
    return max(min(max(a_high, b_high), width) - first, 0)


def _trailing_zeros(module: Module) -> list[int]:
    """For each node, how many of its low bits are always 0."""
    zeros: list[int] = []
    for node in module.nodes:
        args = [zeros[arg] for arg in node.args]
        match node.op:
            case "const":
                zeros.append((node.lo & -node.lo).bit_length() - 1 if node.lo else node.type.width)
            case "add" | "sub" | "max" | "min":
                zeros.append(min(z + shift for z, shift in zip(args, node.params, strict=True)))
            case "mul":
                zeros.append(sum(args))
            case "neg" | "relu" | "register":
                zeros.append(args[0])
            case "keep":
                zeros.append(max(args[0] - node.params[0], 0))
            case _:
                zeros.append(0)
    return zeros


def _table(inputs: int) -> int:
    """LUTs of one output bit of a table."""
    return 1 if inputs <= 6 else 1 << inputs - 6


def _absorbed(module: Module) -> set[int]:
    """Rectifiers that cost nothing, since only clamps read them, whatever wires lie between: these select by the sign.

    (The reset of a register could do the same for it; Yosys does not find that.)
    """
    readers: list[set[str]] = [set() for _ in module.nodes]
    for port in module.outputs:
        for ref in port.refs:
            readers[ref].add("output")
    for i in range(len(module.nodes) - 1, -1, -1):
        node = module.nodes[i]
        for arg in node.args:
            readers[arg] |= readers[i] if node.op == "keep" else {node.op}
    return {i for i, n in enumerate(module.nodes) if n.op == "relu" and readers[i] == {"clamp"}}


def _read(module: Module) -> tuple[list[int], list[int]]:
    """For each node, the lowest bit that anything reads, and one more than the highest."""
    wide = 1 << 30
    low, top = [wide] * len(module.nodes), [0] * len(module.nodes)
    for port in module.outputs:
        for ref in port.refs:
            low[ref], top[ref] = 0, module.nodes[ref].type.width
    for i in range(len(module.nodes) - 1, -1, -1):
        node = module.nodes[i]
        width = min(node.type.width, top[i])
        if not width:
            continue
        shifts = node.params if node.op in ("add", "sub") else (0,) * len(node.args)
        for arg, shift in zip(node.args, shifts, strict=True):
            whole = module.nodes[arg].type.width
            first, last = 0, whole
            match node.op:
                case "add" | "sub":
                    last = width - shift
                case "register":
                    first, last = low[i], width
                case "neg":
                    last = width
                case "keep":
                    first, last = max(low[i] + node.params[0], 0), width + node.params[0]
                case "relu":
                    first = low[i]
            low[arg], top[arg] = min(low[arg], first), max(top[arg], min(last, whole))
    return low, top
