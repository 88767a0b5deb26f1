"""A module: the nodes of one layer in topological order, and the builder that adds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hgq.errors import IRError
from hgq.fixed import FixedType, width_of
from hgq.netlist.ops import OPS, Range, keep_type

_holding = lru_cache(maxsize=1 << 16)(FixedType.holding)  # asked for many times for each node


@dataclass(slots=True, unsafe_hash=True)
class Node:
    """One integer: `op` applied to earlier nodes of the module, named by position. Never changed once made.

    Not declared frozen, for Python takes four times as long to make one that is, and a design has many.

    params: what the op needs beside its arguments (shifts, bounds ...), as OPS says.
    lo, hi: the result is in ``lo..hi``, inclusive: the op's rule, or tighter where whoever added the node has a proof
        (an exact range of a sum whose terms share an input, say).
    frac: fractional bits of what the integer stands for. For comments and messages, without meaning for the logic.
    origin: the layer and output that it belongs to; likewise.
    """

    op: str
    args: tuple[int, ...]
    params: tuple[int, ...]
    lo: int
    hi: int
    frac: int = field(default=0, compare=False)
    origin: str = field(default="", compare=False)

    @property
    def type(self) -> FixedType:
        """The narrowest type for the range."""
        return _holding(self.lo, self.hi, self.frac)

    @property
    def width(self) -> int:
        """Bits of `type`."""
        return width_of(self.lo, self.hi)

    @property
    def constant(self) -> bool:
        return self.lo == self.hi


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor at the edge of a module: the node of each element, in C order. Constant elements take no bits."""

    name: str
    refs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """Nodes in topological order and the tensors that enter and leave."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def readers(self) -> list[int]:
        """For each node, how many operands and output elements read it."""
        count = [0] * len(self.nodes)
        for node in self.nodes:
            for arg in node.args:
                count[arg] += 1
        for port in self.outputs:
            for ref in port.refs:
                count[ref] += 1
        return count

    def latency(self) -> int:
        """Registers on the way from the inputs to each output; the same on every way.

        Raises:
            IRError: two ways of different length meet.
        """
        depth: list[int | None] = []
        for i, node in enumerate(self.nodes):
            if node.constant:
                depth.append(None)  # a constant is there at any time
                continue
            known = {d for arg in node.args if (d := depth[arg]) is not None}
            if len(known) > 1:
                raise IRError(f"module {self.name}, node {i} ({node.origin}): its operands come {known} cycles late")
            if node.op != "input" and not known:
                depth.append(None)  # so is what reads constants only, such as a state that `extend` states to be wider
                continue
            depth.append(max(known, default=0) + (node.op == "register"))
        out = {d for port in self.outputs for ref in port.refs if (d := depth[ref]) is not None}
        if len(out) > 1:
            raise IRError(f"module {self.name}: its outputs come {out} cycles late")
        return max(out, default=0)


class Builder:
    """Adds nodes; equal nodes are made once, constants are folded, ops that do nothing are left out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.origin = ""
        self._known: dict[tuple, int] = {}
        self._inputs: list[Port] = []

    def input(self, name: str, elements: Iterable[tuple[int, int, int]]) -> tuple[int, ...]:
        """An input tensor from its elements' ``(lo, hi, frac)``. Constant elements become constants."""
        refs = []
        for lo, hi, frac in elements:
            if lo == hi:
                refs.append(self.const(lo, frac))
            else:
                self.nodes.append(Node("input", (), (lo, hi), lo, hi, frac, self.origin))
                refs.append(len(self.nodes) - 1)
        self._inputs.append(Port(name, tuple(refs)))
        return self._inputs[-1].refs

    def const(self, value: int, frac: int = 0) -> int:
        return self._node("const", (), (value,), frac)

    def add(self, a: int, b: int, sa: int = 0, sb: int = 0, frac: int = 0, bound: Range | None = None) -> int:
        """``(a << sa) + (b << sb)``, which the caller has proven to lie within `bound`."""
        if self._is(a, 0) and sb == 0:
            return b
        if self._is(b, 0) and sa == 0:
            return a
        ordered = ((a, b), (sa, sb)) if (a, sa) <= (b, sb) else ((b, a), (sb, sa))
        return self._node("add", *ordered, frac, bound)

    def sub(self, a: int, b: int, sa: int = 0, sb: int = 0, frac: int = 0, bound: Range | None = None) -> int:
        """``(a << sa) - (b << sb)``, which the caller has proven to lie within `bound`."""
        if self._is(b, 0) and sa == 0:
            return a
        if self._is(a, 0) and sb == 0:
            return self.neg(b, frac)
        return self._node("sub", (a, b), (sa, sb), frac, bound)

    def concat(self, a: int, b: int, shift: int, frac: int = 0, bound: Range | None = None) -> int:
        """``(a << shift) + b`` for b in ``0 .. 2**shift - 1``: wires side by side, no logic."""
        if self._is(b, 0):
            lo, hi = self.nodes[a].lo << shift, self.nodes[a].hi << shift
            return self.keep(a, -shift, FixedType.holding(lo, hi, frac))
        if self._is(a, 0):
            return b
        return self._node("concat", (a, b), (shift,), frac, bound)

    def add3(
        self,
        args: tuple[int, ...],
        shifts: tuple[int, ...],
        signs: tuple[int, ...],
        frac: int = 0,
        bound: Range | None = None,
    ) -> int:
        """The sum of three ``sign * (arg << shift)``, not all signs -1; proven to lie within `bound`.

        Only for targets that have an adder of three operands; an operand 0 is left out.
        """
        operands = sorted(x for x in zip(args, shifts, signs, strict=True) if not self._is(x[0], 0))
        if len(operands) == 3:
            args, shifts, signs = (tuple(column) for column in zip(*operands, strict=True))
            if 1 not in signs:
                raise IRError(f"{self.origin}: an adder of three operands cannot subtract all of them")
            return self._node("add3", args, (*shifts, *signs), frac, bound)
        operands.sort(key=lambda x: -x[2])
        operands += [(self.const(0), 0, 1)] * (2 - len(operands))
        (a, sa, pa), (b, sb, pb) = operands
        if pa < 0:
            raise IRError(f"{self.origin}: nothing is left that the operand could be subtracted from")
        return self.add(a, b, sa, sb, frac, bound) if pb > 0 else self.sub(a, b, sa, sb, frac, bound)

    def neg(self, a: int, frac: int = 0) -> int:
        return self._node("neg", (a,), (), frac)

    def relu(self, a: int) -> int:
        """``max(a, 0)``."""
        return a if self.nodes[a].lo >= 0 else self._node("relu", (a,), (), self.nodes[a].frac)

    def clamp(self, a: int, lo: int, hi: int) -> int:
        """The nearest integer in ``lo..hi``."""
        if lo <= self.nodes[a].lo and self.nodes[a].hi <= hi:
            return a
        if lo == 0 and self.nodes[a].hi <= hi:
            return self.relu(a)
        return self._node("clamp", (a,), (lo, hi), self.nodes[a].frac)

    def maximum(self, a: int, b: int, sa: int = 0, sb: int = 0, frac: int = 0) -> int:
        """The larger of ``a << sa`` and ``b << sb``."""
        return self._select("max", a, b, sa, sb, frac)

    def minimum(self, a: int, b: int, sa: int = 0, sb: int = 0, frac: int = 0) -> int:
        """The smaller of ``a << sa`` and ``b << sb``."""
        return self._select("min", a, b, sa, sb, frac)

    def _select(self, op: str, a: int, b: int, sa: int, sb: int, frac: int) -> int:
        if (a, sa) > (b, sb):
            a, b, sa, sb = b, a, sb, sa
        (a_lo, a_hi), (b_lo, b_hi) = (
            (self.nodes[ref].lo << by, self.nodes[ref].hi << by) for ref, by in ((a, sa), (b, sb))
        )
        if op == "min":
            a_lo, a_hi, b_lo, b_hi = -a_hi, -a_lo, -b_hi, -b_lo
        # The other operand can never win: no comparison, unless appending zero bits is all that is left to do.
        for ref, by, low, other_high in ((a, sa, a_lo, b_hi), (b, sb, b_lo, a_hi)):
            if low >= other_high and by == 0:
                return ref
        return self._node(op, (a, b), (sa, sb), frac)

    def mul(self, a: int, b: int) -> int:
        """``a * b``."""
        a, b = min(a, b), max(a, b)
        frac = self.nodes[a].frac + self.nodes[b].frac
        for one, other in ((a, b), (b, a)):
            if self._is(one, 1):
                return other
        node = self.nodes[a]
        square = (0, max(node.lo * node.lo, node.hi * node.hi)) if a == b else None
        return self._node("mul", (a, b), (), frac, square)

    def lookup(self, a: int, entries: list[int], frac: int) -> int:
        """``entries[a - lowest a]``: one entry for each integer that `a` can be."""
        lo, hi = self.nodes[a].lo, self.nodes[a].hi
        if len(entries) != hi - lo + 1:
            raise IRError(f"a table of {len(entries)} entries for an argument in {lo}..{hi}")
        if lo == hi:
            return self.const(entries[0], frac)
        return self._node("lookup", (a,), (lo, *entries), frac)

    def table(self, args: list[int], entries: list[int], frac: int) -> int:
        """A function of all bits of a few narrow nodes: entry number i where their bits, the first lowest, spell i."""
        widths = [self.nodes[a].width for a in args]
        if len(entries) != 1 << sum(widths):
            raise IRError(f"a table of {len(entries)} entries for arguments of {sum(widths)} bits")
        return self._node("table", tuple(args), (len(args), *widths, *entries), frac)

    def table_sum(
        self, a: int, args: tuple[int, ...], params: tuple[int, ...], frac: int = 0, bound: Range | None = None
    ) -> int:
        """``(a << sa) + (t << sb)``, or minus, for a table t that shares the LUTs of the sum; within `bound`.

        Args:
            args, params: arguments of the table; and 1 or -1, the two shifts and the params of the table.
        """
        return self._node("table_sum", (a, *args), params, frac, bound)

    def keep(self, a: int, drop: int, t: FixedType) -> int:
        """Drops the `drop` low bits (negative: appends zeros), then wraps into `t`."""
        if drop == 0 and t.lo <= self.nodes[a].lo and self.nodes[a].hi <= t.hi:
            return a
        return self._node("keep", (a,), (drop, int(t.signed), t.width), t.frac)

    def bit(self, a: int, at: int, frac: int = 0) -> int:
        """One bit, as an integer."""
        known = self._known.get(("keep", (a,), (at, 0, 1)))
        return self.keep(a, at, FixedType(False, 1, frac)) if known is None else known

    def extend(self, a: int, lo: int, hi: int) -> int:
        """`a`, as a number of which nothing is known but that it lies in ``lo..hi``, which holds its range."""
        node = self.nodes[a]
        if node.lo < lo or hi < node.hi:
            raise IRError(f"{node.origin}: {node.lo}..{node.hi} cannot be extended to {lo}..{hi}")
        return a if (node.lo, node.hi) == (lo, hi) else self._node("extend", (a,), (lo, hi), node.frac)

    def register(self, a: int) -> int:
        """`a`, one clock later. A constant needs no register."""
        return a if self.nodes[a].constant else self._node("register", (a,), (), self.nodes[a].frac)

    def copy(self, node: Node, args: tuple[int, ...]) -> int:
        """`node` on other arguments, through the same simplifications."""
        self.origin = node.origin
        match node.op:
            case "const":
                return self.const(node.params[0], node.frac)
            case "add" | "sub":
                return getattr(self, node.op)(*args, *node.params, node.frac, (node.lo, node.hi))
            case "concat":
                return self.concat(args[0], args[1], node.params[0], node.frac, (node.lo, node.hi))
            case "add3":
                return self.add3(args, node.params[:3], node.params[3:], node.frac, (node.lo, node.hi))
            case "max" | "min":
                return self._select(node.op, args[0], args[1], node.params[0], node.params[1], node.frac)
            case "mul":
                return self.mul(*args)
            case "lookup":
                lowest, *entries = node.params
                lo, hi = self.nodes[args[0]].lo, self.nodes[args[0]].hi
                return self.lookup(args[0], entries[lo - lowest : hi - lowest + 1], node.frac)
            case "table_sum":
                return self.table_sum(args[0], args[1:], node.params, node.frac, (node.lo, node.hi))
            case "table":
                return self._node("table", args, node.params, node.frac)
            case "neg":
                return self.neg(args[0], node.frac)
            case "relu" | "register":
                return getattr(self, node.op)(*args)
            case "clamp" | "extend":
                return getattr(self, node.op)(args[0], *node.params)
            case "keep":
                t = keep_type((node.params[0], node.params[1], node.params[2]))
                return self.keep(args[0], node.params[0], FixedType(t.signed, t.width, node.frac))
        raise IRError(f"no rule to copy the op {node.op!r}")

    def module(self, outputs: Mapping[str, Iterable[int]]) -> Module:
        """The finished module, without nodes that no output needs. Inputs stay: they are the module's ports."""
        ports = [Port(name, tuple(refs)) for name, refs in outputs.items()]
        live = [False] * len(self.nodes)
        for port in (*ports, *self._inputs):
            for ref in port.refs:
                live[ref] = True
        for i in range(len(self.nodes) - 1, -1, -1):
            if live[i]:
                for arg in self.nodes[i].args:
                    live[arg] = True
        if all(live):
            return Module(self.name, tuple(self.nodes), tuple(self._inputs), tuple(ports))
        new = [-1] * len(live)
        nodes: list[Node] = []
        for i, n in enumerate(self.nodes):
            if live[i]:
                new[i] = len(nodes)
                args = tuple([new[a] for a in n.args])
                nodes.append(Node(n.op, args, n.params, n.lo, n.hi, n.frac, n.origin))
        moved = [tuple(Port(p.name, tuple(new[r] for r in p.refs)) for p in ports) for ports in (self._inputs, ports)]
        return Module(self.name, tuple(nodes), *moved)

    def _is(self, ref: int, value: int) -> bool:
        return self.nodes[ref].lo == self.nodes[ref].hi == value

    def _node(
        self, op: str, args: tuple[int, ...], params: tuple[int, ...], frac: int, bound: Range | None = None
    ) -> int:
        key = (op, args, params)
        if key in self._known:
            return self._known[key]
        lo, hi = OPS[op].infer(params, *[(self.nodes[a].lo, self.nodes[a].hi) for a in args])
        if bound is not None:
            lo, hi = max(lo, bound[0]), min(hi, bound[1])
        if lo == hi and op != "const":
            ref = self.const(lo, frac)
        else:
            self.nodes.append(Node(op, args, params, lo, hi, frac, self.origin))
            ref = len(self.nodes) - 1
        self._known[key] = ref
        return ref


def rebuild(module: Module) -> tuple[Builder, dict[int, int]]:
    """A builder that holds the inputs of `module`, and where they are: how a pass starts."""
    builder = Builder(module.name)
    new: dict[int, int] = {}
    for port in module.inputs:
        builder.origin = module.nodes[port.refs[0]].origin if port.refs else ""
        elements = [(module.nodes[r].lo, module.nodes[r].hi, module.nodes[r].frac) for r in port.refs]
        new.update(zip(port.refs, builder.input(port.name, elements), strict=True))
    return builder, new
