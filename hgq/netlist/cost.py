"""What a module will occupy on an FPGA, in LUTs, without running a tool.

An estimate: it counts the bits of each carry chain that need logic, as a device with one LUT per carry bit has them.
How far it lies from Yosys is measured in `BAND`; what a slice packs together is not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from hgq.fixed import width_of
from hgq.netlist.module import Module, Node
from hgq.netlist.ops import SUBTRACTED, select_width, table_params, table_sum_params

BAND = 0.17
"""For every design in hgq/report/README.md the estimate lies within this part of what Yosys maps to Xilinx cells;
within 0.10 but for one, where no register stands between layers and rectifiers vanish in the adders behind them."""


def lut_estimate(module: Module) -> int:
    """LUTs of `module`: carry bits that need logic, rectifiers, selections and tables, over all bits that are read."""
    shared, price = absorbed(module), Price(module)
    return sum(price(i, flat=shared.get(i)) for i in range(len(module.nodes)))


class Price:
    """LUTs of the nodes of a module, one by one, as it stands."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._zeros = zero_bits(module)
        self._low, self._top = bits_read(module)

    def __call__(self, i: int, flat: int | None = None) -> int:
        """LUTs of node `i`; `flat` of them, if that is known."""
        node = self._module.nodes[i]
        if node.lo == node.hi or not self._top[i]:
            return 0
        if flat is not None:
            return flat
        return _luts(self._module, node, self._zeros, max(self._low[i], self._zeros[i]), self._top[i])

    def bits(self, i: int) -> int:
        """How many bits of node `i` anything reads."""
        return min(self._module.nodes[i].width, self._top[i]) - self._low[i]

    def table(self, i: int, inputs: int, entries: Sequence[int]) -> int:
        """LUTs of a table of so many bits that computes what node `i` does."""
        return table_luts((inputs, *(1,) * inputs, *entries), self._low[i], self._top[i])

    def add3(self, i: int, args: tuple[int, ...], shifts: tuple[int, ...], signs: tuple[int, ...]) -> int:
        """LUTs of an adder of three operands that computes what the sum `i` does, and is no constant."""
        width = min(self._module.nodes[i].width, self._top[i])
        return max(width - add3_start(args, shifts, signs, self._zeros)[0], 0)


def add3_start(
    args: tuple[int, ...], shifts: tuple[int, ...], signs: tuple[int, ...], zeros: Sequence[int]
) -> tuple[int, int]:
    """The lowest bit of an adder of three operands that needs logic, and which operand passes through below it.

    Args:
        zeros: of every node of the module, how many low bits are always 0.
    """
    lows = sorted([(shifts[k] + zeros[args[k]], -signs[k], k) for k in (0, 1, 2)])
    return lows[lows[0][1] < 0][0], lows[0][2]


def _luts(module: Module, node: Node, zeros: list[int], low: int, top: int) -> int:
    """LUTs of one node, of which the bits ``low .. top - 1`` are read and may be 1."""
    width = min(node.width, top)
    args = [module.nodes[arg] for arg in node.args]
    match node.op:
        case "add" | "sub":
            (x, y), (rx, ry), (sx, sy) = args, node.args, node.params
            return sum_luts(node.op, (x.lo, x.hi, zeros[rx], sx), (y.lo, y.hi, zeros[ry], sy), width)
        case "add3":
            return max(width - add3_start(node.args, node.params[:3], node.params[3:], zeros)[0], 0)
        case "neg":
            return max(width - zeros[node.args[0]], 0)
        case "relu":
            return max(width - low, 0)
        case "max" | "min":
            return width + _comparison(module, node)
        case "mul":
            return args[0].width * args[1].width
        case "lookup":
            return width * _table(args[0].width)
        case "table":
            return table_luts(node.params, low, width)
        case "table_sum":
            op, shifts, table = table_sum_params(node.params)
            a = args[0].lo, args[0].hi, zeros[node.args[0]], shifts[0]
            b = _table_operand(table, shifts[1])
            # Bits of the table below the other operand have LUTs of their own, as in `absorbed`.
            below = min(max(shifts[0] - shifts[1], 0), width_of(b[0], b[1])) if op == "add" else 0
            return sum_luts(op, a, b, width) + below
        case "clamp":
            return max(width - low, 0) + -(-max(args[0].width - node.width, 0) // 5)
    return 0


def _comparison(module: Module, node: Node) -> int:
    """LUTs that tell which operand of a `max` or `min` it is."""
    wide = select_width(node.params, *((module.nodes[arg].lo, module.nodes[arg].hi) for arg in node.args))
    return wide - 1 if wide <= SUBTRACTED else wide // 2 + 2


Operand = tuple[int, int, int, int]
"""What the cost of a sum depends on, of each operand: lo, hi, how many low bits are always 0, and then its shift."""


def sum_luts(op: str, a: Operand, b: Operand, width: int) -> int:
    """LUTs of ``a + b`` or ``a - b`` (op "add" or "sub"), of which the low `width` bits are read.

    Bits at which an operand has a bit that is neither absent nor a mere wire.
    """
    a_lo, a_hi, a_low, shift = a
    a_low += shift
    # A constant needs a LUT only where the other operand has a bit too.
    a_high = 0 if a_lo == a_hi else width if a_lo < 0 else shift + a_hi.bit_length()
    b_lo, b_hi, b_low, shift = b
    b_low += shift
    b_high = 0 if b_lo == b_hi else width if b_lo < 0 else shift + b_hi.bit_length()
    first = b_low
    if op == "add":
        if b_low >= a_high > 0 or a_low >= b_high > 0:
            return 0  # the operands share no bit: a concatenation
        # Below the first bit of what is added or subtracted, the other operand passes through.
        first = max(a_low, b_low)
    top = a_high if a_high > b_high else b_high
    if top > width:
        top = width
    return top - first if top > first else 0


def _table_operand(params: tuple[int, ...], shift: int) -> Operand:
    """A table as the operand of a sum."""
    entries = table_params(params)[1]
    return min(entries), max(entries), min(trailing_zeros(entry) for entry in entries), shift


def trailing_zeros(value: int) -> int:
    """How many low bits of a constant are 0; 64 of them for 0 itself, more than any sum has."""
    return (value & -value).bit_length() - 1 if value else 64


def zero_bits(module: Module) -> list[int]:
    """For each node, how many of its low bits are always 0."""
    zeros: list[int] = []
    for node in module.nodes:
        match node.op:
            case "add" | "sub":
                (a, b), (sa, sb) = node.args, node.params
                zeros.append(min(zeros[a] + sa, zeros[b] + sb))
            case "const":
                zeros.append(trailing_zeros(node.lo))
            case "add3" | "max" | "min":
                zeros.append(min(zeros[arg] + shift for arg, shift in zip(node.args, node.params, strict=False)))
            case "table_sum":
                _, (sa, sb), table = table_sum_params(node.params)
                zeros.append(min(zeros[node.args[0]] + sa, _table_operand(table, sb)[2] + sb))
            case "concat":
                zeros.append(min(zeros[node.args[0]] + node.params[0], zeros[node.args[1]]))
            case "mul":
                zeros.append(sum(zeros[arg] for arg in node.args))
            case "neg" | "relu" | "register" | "extend":
                zeros.append(zeros[node.args[0]])
            case "keep":
                zeros.append(max(zeros[node.args[0]] - node.params[0], 0))
            case _:
                zeros.append(0)
    return zeros


def _table(inputs: int) -> int:
    """LUTs of one output bit of a table."""
    return 1 if inputs <= 6 else 1 << inputs - 6


@lru_cache(maxsize=1 << 14)
def table_luts(params: tuple[int, ...], low: int = 0, top: int = 1 << 30) -> int:
    """LUTs of the output bits ``low .. top - 1`` of a `table`, by the inputs on which each of them depends."""
    widths, entries = table_params(params)
    top = min(top, width_of(min(entries), max(entries)))
    inputs = sum(widths)
    # Truth tables as integers: bit e is that of entry e.
    columns = {int("".join(["1" if entry >> at & 1 else "0" for entry in entries]), 2) for at in range(low, top)}
    halves = _halves(inputs)
    luts = 0
    for column in columns:
        needed = sum((column >> step ^ column) & half != 0 for step, half in halves)
        luts += _table(needed) if needed > 1 else 0
    return luts


@cache
def _halves(inputs: int) -> list[tuple[int, int]]:
    """For each input: how far apart entries are that differ in it alone, and a mask of the first of each pair.

    Entries are counted from the highest bit of a truth table, which changes nothing: it mirrors every input.
    """
    pairs = []
    for k in range(inputs):
        step = 1 << k
        half = sum(((1 << step) - 1) << 2 * step * n for n in range(1 << inputs - 1 - k))
        pairs.append((step, half))
    return pairs


def absorbed(module: Module) -> dict[int, int]:
    """Nodes that share the LUTs of what reads them, and how many LUTs of their own are left to them.

    A rectifier that only clamps read, whatever wires lie between: these select by the sign. The larger of two numbers
    that only a rectifier reads: a bit of each, their signs, and which it is are five inputs. And a table of five inputs
    that one sum alone reads: the LUT of a carry bit has room for it, if the table is the operand that does not enter
    the carry chain by itself. That is the subtrahend; of two unsigned addends synthesis takes the wider one. And a
    product with a bit that one sum alone reads, for one operand of that.
    """
    nodes, readers = module.nodes, module.readers()
    # Whether a clamp reads a node, and whether anything else does, whatever wires lie between.
    clamped, other = [False] * len(nodes), [False] * len(nodes)
    for port in module.outputs:
        for ref in port.refs:
            other[ref] = True
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        for arg in node.args:
            if node.op == "keep":
                clamped[arg] |= clamped[i]
                other[arg] |= other[i]
            elif node.op == "clamp":
                clamped[arg] = True
            else:
                other[arg] = True
    found: dict[int, int] = {}
    for i, node in enumerate(nodes):
        if node.op == "relu" and clamped[i] and not other[i]:
            found[i] = 0
        elif node.op == "relu" and nodes[node.args[0]].op in ("max", "min") and readers[node.args[0]] == 1:
            found[node.args[0]] = _comparison(module, nodes[node.args[0]])
        elif node.op in ("add", "sub"):
            rows = [
                arg for arg in node.args if nodes[arg].op == "mul" and readers[arg] == 1 and _is_row(module, nodes[arg])
            ]
            found |= dict.fromkeys(rows[-1:], 0)
            table = guest(module, node)
            if table is not None and readers[table] == 1:
                below = node.params[0] - node.params[1] if table == node.args[1] else node.params[1] - node.params[0]
                found[table] = min(max(below, 0), nodes[table].width) if node.op == "add" else 0
    return found


def _is_row(module: Module, node: Node) -> bool:
    """Whether this is a product with one unsigned bit, an AND of each bit."""
    return node.op == "mul" and any((module.nodes[arg].lo, module.nodes[arg].hi) == (0, 1) for arg in node.args)


def guest(module: Module, node: Node) -> int | None:
    """The operand of a sum that may share its LUTs: a table of up to five inputs in the right place."""
    if node.op not in ("add", "sub"):
        return None
    a, b = module.nodes[node.args[0]], module.nodes[node.args[1]]
    if a.op != "table" and b.op != "table":
        return None
    place = 1
    if node.op == "add":
        widths = a.width + node.params[0], b.width + node.params[1]
        if min(a.lo, b.lo) < 0 or widths[0] == widths[1]:
            return None
        place = int(widths[1] > widths[0])
    table = (a, b)[place]
    fits = table.op == "table" and sum(table_params(table.params)[0]) < 6
    return node.args[place] if fits else None


def bits_read(module: Module) -> tuple[list[int], list[int]]:
    """For each node, the lowest bit that anything reads, and one more than the highest."""
    nodes = module.nodes
    wide = 1 << 30
    low, top = [wide] * len(nodes), [0] * len(nodes)
    widths = [node.width for node in nodes]
    for port in module.outputs:
        for ref in port.refs:
            low[ref], top[ref] = 0, widths[ref]
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        width = min(widths[i], top[i])
        if not width:
            continue
        op, params = node.op, node.params
        for place, arg in enumerate(node.args):
            first, last = 0, widths[arg]
            match op:
                case "add" | "sub" | "add3":
                    last = width - params[place]
                case "table_sum" if place == 0:
                    last = width - params[1]
                case "register" | "extend":
                    first, last = low[i], width
                case "concat":
                    shift = params[0] if place == 0 else 0
                    first, last = max(low[i] - shift, 0), width - shift
                case "neg":
                    last = width
                case "keep":
                    first, last = max(low[i] + params[0], 0), width + params[0]
                case "relu":
                    first = low[i]
            if first < low[arg]:
                low[arg] = first
            if last > top[arg]:
                top[arg] = min(last, widths[arg])
    return low, top
