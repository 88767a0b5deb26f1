"""Design to Verilog: one file per module and one for the top level, meant to be read.

All vectors are unsigned; signs are extended by hand, so that no expression depends on Verilog's rules of signedness.
Bits that are dropped on purpose end in a named sink, so that a lint without exceptions stays clean.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from hgq.emit.templates import template, text
from hgq.errors import IRError
from hgq.fixed import FixedType
from hgq.netlist.cost import add3_start, bits_read, zero_bits
from hgq.netlist.design import Design, Instance, Wire
from hgq.netlist.module import Module, Node
from hgq.netlist.module import Port as ModulePort
from hgq.netlist.ops import OPS, literal, table_params, table_sum_params
from hgq.netlist.signal import Signal
from hgq.netlist.targets import Target
from hgq.ports import Port, bus_width

APART = 8
"""A module with so many instances is not copied into its parent by Verilator: that would take minutes and gigabytes."""


def emit_verilog(
    design: Design, inputs: list[Port], outputs: list[Port], *, clock_ns: float, version: str
) -> dict[str, str]:
    """The Verilog of `design`, file name -> text; the top level first.

    Args:
        inputs, outputs: how the tensors of ``design.inputs`` and ``design.outputs`` lie on the packed ports.

    Returns:
        The files below ``sim/`` are models of FPGA cells: simulators need them, synthesis must not read them.
    """
    files = {f"{design.name}.v": _top(design, inputs, outputs, clock_ns, version)}
    if design.count("add3"):
        files |= _primitives(design.target, version)
    for name, uses in Counter(one.module for one in _alive(design)).items():
        files[f"{name}.v"] = _module(design.modules[name], version, uses)
    return files


def _primitives(target: Target, version: str) -> dict[str, str]:
    """The adder of three operands, and models of the cells that it is made of."""
    if not target.carry:
        raise IRError(f"the target {target.name} ({target.device}) has no adder of three operands")
    adder = template("rtl/add3.v.j2").render(version=version, device=target.device, carry=target.carry)
    cells = ("LUT6_2", f"CARRY{target.carry}")
    return {"hgq_add3.v": adder, **{f"sim/{cell}.v": text(f"rtl/sim/{cell}.v") for cell in cells}}


def _module(module: Module, version: str, uses: int) -> str:
    zeros, (_, top) = zero_bits(module), bits_read(module)
    signals = [Signal(None if n.constant else f"n{i}", n.type, n.lo, n.hi) for i, n in enumerate(module.nodes)]
    lines: list[str] = []
    registers: list[str] = []
    tables: dict[tuple, str] = {}
    widths: tuple[int, ...]
    entries: Sequence[int]
    for port in module.inputs:
        low = 0
        for ref in port.refs:
            node = module.nodes[ref]
            if not node.constant:
                lines.append(
                    _wire(node, signals[ref], f"{port.name}{_slice(low, node.type.width, _width(module, port))}")
                )
                low += node.type.width
    for i, node in enumerate(module.nodes):
        if node.constant or node.op == "input":
            continue
        arguments = [signals[arg] for arg in node.args]
        if node.op == "register":
            lines.append(f"  reg {_vector(node.type.width)}n{i};{_comment(node)}")
            registers.append(f"    n{i} <= {arguments[0].low(node.type.width)};")
            continue
        if node.op in ("lookup", "table", "table_sum"):
            if node.op == "lookup":
                widths, (lowest, *entries) = (arguments[0].type.width,), node.params
            else:
                kind, shifts, params = (
                    table_sum_params(node.params) if node.op == "table_sum" else ("", (), node.params)
                )
                (widths, entries), lowest = table_params(params), 0
            lo, hi = min(entries), max(entries)
            made = FixedType.holding(lo, hi, 0) if node.op == "table_sum" else node.type
            key = (lowest, *entries), sum(widths), made.width
            if key not in tables:
                tables[key] = f"table__{len(tables)}"  # no port has two underscores in its name
                lines += _table(tables[key], *key)
            index = _join([a.low(width) for a, width in zip(arguments[-len(widths) :], widths, strict=True)])
            if node.op == "table_sum":
                # Two lines: Verilog takes no slices of what a function returns.
                addend = Signal(f"n{i}_table", made, lo, hi)
                signals.append(addend)
                lines.append(f"  wire {_vector(made.width)}{addend.name} = {tables[key]}({index});")
                rule = OPS[kind].verilog
                assert rule is not None
                lines.append(_wire(node, signals[i], rule(shifts, node.type, arguments[0], addend)))
            else:
                lines.append(_wire(node, signals[i], f"{tables[key]}({index})"))
            continue
        if node.op == "add3":
            lines += _add3(
                node, add3_start(node.args, node.params[:3], node.params[3:], zeros), signals[i], arguments, top[i]
            )
            continue
        rule = OPS[node.op].verilog
        assert rule is not None
        lines.append(_wire(node, signals[i], rule(node.params, node.type, *arguments)))
    if registers:
        lines += ["", "  always @(posedge clk) begin", *registers, "  end"]
    lines.append("")
    for port in module.outputs:
        elements = [signals[ref] for ref in port.refs if signals[ref].name is not None]
        if elements:  # a port without bits is none
            lines.append(f"  assign {port.name} = {_concat(s.low(s.type.width) for s in elements)};")
    unused = [bits for s in signals if s.name is not None for bits in s.unread()]
    empty = [port.name for port in module.inputs if not _width(module, port)]
    return template("rtl/module.v.j2").render(
        name=module.name,
        version=version,
        latency=module.latency(),
        uses=uses,
        apart=uses >= APART,
        clocked=bool(registers),
        inputs=[(p.name, _vector(_width(module, p))) for p in module.inputs if p.name not in empty],
        outputs=[(p.name, _vector(_width(module, p))) for p in module.outputs if _width(module, p)],
        lines=lines,
        unused=unused,
    )


def _top(design: Design, inputs: list[Port], outputs: list[Port], clock_ns: float, version: str) -> str:
    lines: list[str] = []
    clocked: list[str] = []
    in_width, out_width = bus_width(inputs), bus_width(outputs)
    source = "in_data"
    if design.register_inputs:
        source = "in_data_r"
        lines.append(f"  reg {_vector(in_width)}in_data_r;")
        clocked.append("    in_data_r <= in_data;")
    low = 0
    read = 0
    for name, port in zip(design.inputs, inputs, strict=True):
        if port.width:
            lines.append(f"  wire {_vector(port.width)}{name} = {source}{_slice(low, port.width, in_width)};")
            low += port.width
            read += port.width
    delayed: dict[tuple[str, int], str] = {}

    buses = {name: _Bus(wire) for name, wire in design.wires.items()}
    joined: set[str] = set()

    def whole(name: str) -> str:
        """Wire `name` as one vector."""
        if buses[name].parts and name not in joined:
            joined.add(name)
            pieces = _concat(piece for piece, _, _ in buses[name].parts)
            lines.append(f"  wire {_vector(design.wires[name].width)}{name} = {pieces};")
        return name

    def after(name: str, cycles: int) -> str:
        """Wire `name`, `cycles` clocks later."""
        if not cycles:
            return name
        if (name, cycles) not in delayed:
            before = after(name, cycles - 1) if cycles > 1 else whole(name)
            delayed[name, cycles] = f"{name}_d{cycles}"
            lines.append(f"  reg {_vector(design.wires[name].width)}{name}_d{cycles};")
            clocked.append(f"    {name}_d{cycles} <= {before};")
        return delayed[name, cycles]

    read_bits: dict[str, int] = {}
    made: set[str] = set(design.inputs)
    for count, one in enumerate(_alive(design)):
        module = design.modules[one.module]
        if not made.issuperset(one.outputs):
            lines.append("")
        made.update(one.outputs)
        for made_port, (wire, part) in zip(module.outputs, one.output_elements(), strict=True):
            if _width(module, made_port):
                name = wire if part is None else buses[wire].add(part)
                lines.append(f"  wire {_vector(_width(module, made_port))}{name};")
        pins = [".clk(clk)"] if any(n.op == "register" for n in module.nodes) else []
        for pin, (wire, part), cycles in zip(module.inputs, one.input_elements(), one.delays, strict=True):
            if _width(module, pin):
                name = after(wire, cycles)
                pins.append(f".{pin.name}({_join(buses[wire].slices(name, part))})")
                read_bits[name] = read_bits.get(name, 0) | buses[wire].mask(part)
        for pin, (wire, part) in zip(module.outputs, one.output_elements(), strict=True):
            if _width(module, pin):
                pins.append(f".{pin.name}({_join(buses[wire].slices(wire, part))})")
        lines.append(f"  {module.name} u{count} ({', '.join(pins)});")
    elements: list[str] = []
    unused: list[str] = []
    for name, port, cycles in zip(design.outputs, outputs, design.output_delays, strict=True):
        bus = (after(name, cycles) if cycles else whole(name)) if design.wires[name].width else ""
        elements += _elements(design.wires[name], port, bus)
    lines.append("")
    if design.register_outputs:
        lines.append(f"  reg {_vector(out_width)}out_data_r;")
        clocked.append(f"    out_data_r <= {_concat(elements)};")
        lines.append("  assign out_data = out_data_r;")
    else:
        lines.append(f"  assign out_data = {_concat(elements)};")
    if not read:
        unused.append(source)
    if not design.latency and not clocked:
        unused.append("clk")
    for name, cycles in [(name, 0) for name in design.wires if name in made and design.wires[name].width] + list(
        delayed
    ):
        bus = after(name, cycles)
        if (name, cycles + 1) in delayed or (name, cycles) in zip(design.outputs, design.output_delays, strict=True):
            continue  # the whole wire is read
        unused += buses[name].unread(bus, read_bits.get(bus, 0))
    return template("rtl/top.v.j2").render(
        name=design.name,
        version=version,
        clock_ns=f"{clock_ns:g}",
        latency=design.latency,
        registered=_registered(design),
        in_vector=_vector(in_width),
        out_vector=_vector(out_width),
        inputs=inputs,
        outputs=outputs,
        lines=lines,
        clocked=clocked,
        unused=unused,
    )


def _alive(design: Design) -> list[Instance]:
    """The instances that have anything to say: a module whose outputs are all constant is not emitted."""
    said = {name: any(_width(module, port) for port in module.outputs) for name, module in design.modules.items()}
    return [one for one in design.instances if said[one.module]]


class _Bus:
    """Where the elements of a wire lie in its bits.

    A wire that many instances make is a vector for each of them: simulators are slow on slices of very wide ones.
    """

    def __init__(self, wire: Wire):
        self.name = wire.name
        self.parts: list[tuple[str, int, int]] = []  # name, lowest bit, end; in order
        widths = [0 if lo == hi else FixedType.holding(lo, hi, frac).width for lo, hi, frac in wire.elements]
        self.low = [0, *accumulate(widths)]

    def _runs(self, part: Iterable[int] | None) -> list[tuple[int, int]]:
        """The bits of the elements as (low, end), neighbours joined."""
        runs: list[tuple[int, int]] = []
        for i in range(len(self.low) - 1) if part is None else part:
            low, end = self.low[i], self.low[i + 1]
            if runs and runs[-1][1] == low:
                runs[-1] = runs[-1][0], end
            elif end > low:
                runs.append((low, end))
        return runs

    def add(self, part: Iterable[int]) -> str:
        """The name of the vector that holds the next elements."""
        ((low, end),) = self._runs(part)  # neighbours: what one position makes lies side by side
        self.parts.append((f"{self.name}__{len(self.parts)}", low, end))  # no other name has two underscores
        return self.parts[-1][0]

    def slices(self, name: str, part: Iterable[int] | None) -> list[str]:
        """The elements as slices of the vector `name`, or of those that the wire consists of."""
        if name == self.name and self.parts:
            starts = [low for _, low, _ in self.parts]
            found = []
            for low, end in self._runs(part):
                for piece, first, last in self.parts[bisect_right(starts, low) - 1 : bisect_left(starts, end)]:
                    at = max(low, first)
                    found.append(f"{piece}{_slice(at - first, min(end, last) - at, last - first)}")
            return found
        return [f"{name}{_slice(low, end - low, self.low[-1])}" for low, end in self._runs(part)]

    def mask(self, part: Iterable[int] | None) -> int:
        """The bits of the elements, as a bit mask."""
        return sum(((1 << end - low) - 1) << low for low, end in self._runs(part))

    def unread(self, name: str, read: int) -> list[str]:
        """What of the vector `name` is not in the mask `read`, as slices."""
        missing = [i for i in range(len(self.low) - 1) if self.low[i + 1] > self.low[i] and not read >> self.low[i] & 1]
        return self.slices(name, missing)


def _registered(design: Design) -> str:
    kinds = [k for k, on in (("inputs", design.register_inputs), ("outputs", design.register_outputs)) if on]
    return " and ".join(kinds) + " registered" if kinds else "neither inputs nor outputs registered"


def _elements(wire: Wire, port: Port, bus: str) -> list[str]:
    """The elements of `wire`, each extended to its width at the port."""
    parts, low = [], 0
    for (lo, hi, frac), t in zip(wire.elements, port.types, strict=True):
        assert t is not None
        if lo == hi:
            parts.append(literal(lo, t.width))
            continue
        inner = FixedType.holding(lo, hi, frac)
        bits = f"{bus}{_slice(low, inner.width, wire.width)}"
        fill = t.width - inner.width
        if fill:
            top = f"{bus}{_slice(low + inner.width - 1, 1, wire.width)}" if inner.signed else "1'd0"
            bits = f"{{{{{fill}{{{top}}}}}, {bits}}}"
        parts.append(bits)
        low += inner.width
    return parts


def _width(module: Module, port: ModulePort) -> int:
    return sum(module.nodes[ref].type.width for ref in port.refs if not module.nodes[ref].constant)


def _vector(width: int) -> str:
    return f"[{width - 1}:0] "


def _slice(low: int, width: int, whole: int) -> str:
    return "" if width == whole else f"[{low + width - 1}:{low}]" if width > 1 else f"[{low}]"


def _concat(parts: Iterable[str]) -> str:
    """Element 0 in the low bits: Verilog writes the highest first."""
    listed = list(parts)[::-1]
    if len(listed) == 1:
        return listed[0]
    rows = [", ".join(listed[i : i + 8]) for i in range(0, len(listed), 8)]
    return "{" + ",\n      ".join(rows) + "}"


def _join(parts: list[str]) -> str:
    """As `_concat`, on one line."""
    return parts[0] if len(parts) == 1 else "{" + ", ".join(parts[::-1]) + "}"


def _wire(node: Node, signal: Signal, expression: str) -> str:
    return f"  wire {_vector(node.type.width)}{signal.name} = {expression};{_comment(node)}"


def _add3(node: Node, start: tuple[int, int], out: Signal, arguments: list[Signal], top: int) -> list[str]:
    """An instance of hgq_add3 for the bits from the first that needs logic to the last that anything reads."""
    shifts, signs = node.params[:3], node.params[3:]
    first, lowest = start
    low, high = min(first, node.type.width), min(top, node.type.width)
    terms = [f"{'+' if sign > 0 else '-'} {a.name or a.lo}{f' << {by}' if by else ''}"
             for a, by, sign in zip(arguments, shifts, signs, strict=True)]  # fmt: skip
    lines = [f"  wire {_vector(node.type.width)}{out.name};{_comment(node)}: {' '.join(terms).removeprefix('+ ')}"]
    if low:
        lines.append(
            f"  assign {out.name}{_slice(0, low, node.type.width)} = {arguments[lowest].extend(low, shifts[lowest])};"
        )
    if high > low:
        pins = [
            f".{pin}({a.extend(high - low, by - low) if by >= low else a.slice(low - by, high - low)})"
            for pin, a, by in zip("abc", arguments, shifts, strict=True)
        ]
        negate = "".join(str(int(sign < 0)) for sign in signs[::-1])
        lines.append(
            f"  hgq_add3 #(.WIDTH({high - low}), .NEGATE(3'b{negate})) {out.name}_sum "
            f"({', '.join(pins)}, .sum({out.name}{_slice(low, high - low, node.type.width)}));"
        )
    if node.type.width > max(high, low):
        unread = node.type.width - max(high, low)
        lines.append(
            f"  assign {out.name}{_slice(max(high, low), unread, node.type.width)} = {unread}'d0;  // nobody reads them"
        )
    return lines


def _table(name: str, params: tuple[int, ...], reads: int, width: int) -> list[str]:
    """A Verilog function that holds a table; arguments with the same entry stand in one line."""
    lowest, *entries = params
    places: dict[int, list[str]] = {}
    for n, entry in enumerate(entries):
        places.setdefault(entry, []).append(literal(lowest + n, reads))
    lines = [f"  function {_vector(width)}{name}(input {_vector(reads)}in__);", "    case (in__)"]
    for entry, arguments in places.items():
        rows = [", ".join(arguments[i : i + 12]) for i in range(0, len(arguments), 12)]
        lines.append(f"      {(',' + chr(10) + '      ').join(rows)}: {name} = {literal(entry, width)};")
    return [*lines, f"      default: {name} = {literal(0, width)};", "    endcase", "  endfunction"]


def _comment(node: Node) -> str:
    return f"  // {node.type} {node.origin}"
