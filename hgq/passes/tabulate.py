"""relu(a - 2b + 1), cut  ->  table(a, b), where all that matters is a few bits."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_

import numpy as np

from hgq.fixed import FixedType
from hgq.netlist.cost import Price, absorbed, trailing_zeros
from hgq.netlist.module import Builder, Module, Node, rebuild
from hgq.netlist.ops import OPS

MOST_BITS = 8
"""Input bits of a table. Each above six doubles its LUTs."""
LONE_BITS = 6
"""Input bits of a table in place of a single op that has no more LUTs than its result has bits."""
_EXACT = 1 << 61
"""Integers beyond this are not evaluated on int64."""
_WALLS = ("input", "extend")
"""Ops of which nothing is known but their range."""

Bit = tuple[int, int]
"""An input, and the place of a bit in it."""
Cut = frozenset[Bit]
Table = tuple[list[Bit], list[int]]
"""Bits, the first lowest, and an entry for each pattern of them."""


def tabulate(module: Module) -> Module:
    """Makes one table of logic that depends on few bits of the inputs where that takes fewer LUTs.

    So a neuron of up to six input bits, with its bias, its activation and its quantizer, is a LUT for each bit that
    leaves it, whatever its weights. What is saved is what nothing else reads (a maximum fanout-free cone), by
    hgq/netlist/cost.py; from the outputs on, so that whole neurons come first.
    """
    return _Search(module).run()


class _Search:
    def __init__(self, module: Module) -> None:
        self.module, self.nodes = module, module.nodes
        self.readers = module.readers()
        self.widths = [node.width for node in module.nodes]

    def run(self) -> Module:
        cuts = self._cuts()
        if not any(cut and node.op not in ("input", "keep") for node, cut in zip(self.nodes, cuts, strict=True)):
            return self.module
        self.price, shared = Price(self.module), absorbed(self.module)
        self.luts = cache(lambda i: self.price(i, flat=shared.get(i)))
        tables: dict[int, Table] = {}
        for i in range(len(self.nodes) - 1, -1, -1):
            cut = cuts[i]
            if cut and self.readers[i] and self.nodes[i].op != "input" and (found := self._table(i, cut)) is not None:
                tables[i] = found
        if not tables:
            return self.module
        builder, new = rebuild(self.module)
        for i, node in enumerate(self.nodes):
            if i in tables:
                builder.origin = node.origin
                new[i] = _made(builder, new, node.frac, *tables[i])
            elif i not in new and (self.readers[i] or node.op == "const"):
                new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
        outputs = {}
        for port in self.module.outputs:
            # Other modules know the range of an output, which a table may find to be tighter.
            ends = [(self.nodes[ref].lo, self.nodes[ref].hi) for ref in port.refs]
            outputs[port.name] = [builder.extend(new[ref], *end) for ref, end in zip(port.refs, ends, strict=True)]
        return builder.module(outputs)

    def _cuts(self) -> list[Cut | None]:
        """For each node, the few bits of inputs that it is a function of; None if there are more."""
        cuts: list[Cut | None] = []
        for i, node in enumerate(self.nodes):
            if node.op == "input" and self.widths[i] <= MOST_BITS:
                cut: Cut | None = frozenset([(i, at) for at in range(self.widths[i])])
            elif node.op in _WALLS or node.lo < -_EXACT or node.hi > _EXACT:
                cut = None
            elif node.op == "keep" and self._cuts_wide_input(node):
                bits = self._bits(node)
                cut = frozenset([bit for bit in bits if bit is not None])
            else:
                cut = frozenset()
                for arg in node.args:
                    below = cuts[arg]
                    if below is None:
                        cut = None
                        break
                    cut |= below
            cuts.append(cut if cut is None or len(cut) <= MOST_BITS else None)
        return cuts

    def _cuts_wide_input(self, node: Node) -> bool:
        """Whether a `keep` reads a few bits of an input of many."""
        return self.nodes[node.args[0]].op == "input" and self.widths[node.args[0]] > MOST_BITS

    def _table(self, i: int, cut: Cut) -> Table | None:
        """A table in place of node `i`, if it saves LUTs; then nodes that nothing reads any more have no readers."""
        gone = self._released(i)
        paid = [one for one in gone if self.luts(one)]
        saved = sum(self.luts(one) for one in paid)
        if len(paid) > 1 or (paid and (len(cut) <= LONE_BITS or self.price.bits(i) < saved)):
            bits = sorted(cut)
            entries = self._entries(i, bits)
            if self.price.table(i, len(bits), entries) < saved:
                return bits, entries
        for one in gone:
            for arg in self.nodes[one].args:
                self.readers[arg] += 1
        return None

    def _released(self, i: int) -> list[int]:
        """Node `i` and what only it reads; the operands of all these lose a reader each."""
        gone, todo = [], [i]
        while todo:
            gone.append(todo.pop())
            for arg in self.nodes[gone[-1]].args:
                self.readers[arg] -= 1
                if not self.readers[arg]:
                    todo.append(arg)
        return gone

    def _entries(self, i: int, bits: list[Bit]) -> list[int]:
        """What node `i` is for every pattern of the bits."""
        patterns = np.arange(1 << len(bits))
        values = {bit: patterns >> n & 1 for n, bit in enumerate(bits)}
        known: dict[int, np.ndarray] = {}
        for ref in {ref for ref, _ in bits}:
            if self.widths[ref] <= MOST_BITS:
                places = [values[ref, at] for at in range(self.widths[ref])]
                known[ref] = _within(self.nodes[ref], _spelled(places, self.nodes[ref].lo < 0))
        return np.broadcast_to(self._value(i, values, known), patterns.shape).tolist()

    def _value(self, i: int, values: dict[Bit, np.ndarray], known: dict[int, np.ndarray]) -> np.ndarray:
        """What node `i` is, by the bits of `values` and the nodes of `known`, to which it is added."""
        if i not in known:
            node = self.nodes[i]
            if node.lo == node.hi:
                known[i] = np.array([node.lo])
            elif node.op == "keep" and self._cuts_wide_input(node):
                places = [_NONE if b is None else values[b] for b in self._bits(node)]
                known[i] = _within(node, _spelled(places, bool(node.params[1])))
            else:
                args = [self._value(arg, values, known) for arg in node.args]
                known[i] = _within(node, np.asarray(OPS[node.op].evaluate(node.params, *args)))
        return known[i]

    def _bits(self, node: Node) -> list[Bit | None]:
        """Which bit of its operand each bit of a `keep` is; None: always 0."""
        drop, _, width = node.params
        (ref,) = node.args
        top, signed = self.widths[ref] - 1, self.nodes[ref].lo < 0
        places = range(drop, drop + width)
        return [(ref, min(at, top)) if at >= 0 and (at <= top or signed) else None for at in places]


_NONE = np.array([0])


def _within(node: Node, values: np.ndarray) -> np.ndarray:
    """A pattern of bits that the inputs never have may do anything but leave the range that other ops rely on."""
    return np.minimum(np.maximum(values, node.lo), node.hi)


def _spelled(bits: list[np.ndarray], signed: bool) -> np.ndarray:
    """The integer of some bits, the first lowest."""
    total = sum(bit << at for at, bit in enumerate(bits))
    return np.asarray(total - (bits[-1] << len(bits)) if signed else total)


def _made(builder: Builder, new: dict[int, int], frac: int, bits: list[Bit], entries: list[int]) -> int:
    """The node of a table of bits of inputs, without those that make no difference."""
    args: list[int] = []
    for n in range(len(bits) - 1, -1, -1):
        low = [entry for p, entry in enumerate(entries) if not p >> n & 1]
        high = [entry for p, entry in enumerate(entries) if p >> n & 1]
        if low == high:
            entries = low
        else:
            args.insert(0, builder.bit(new[bits[n][0]], bits[n][1]))
    shift = trailing_zeros(reduce(or_, entries)) if any(entries) else 0
    entries = [entry >> shift for entry in entries]
    made = args[0] if entries == [0, 1] else builder.table(args, entries, frac - shift) if args else -1
    if made < 0:
        return builder.const(entries[0] << shift, frac)
    if not shift:
        return made
    return builder.keep(made, -shift, FixedType.holding(min(entries) << shift, max(entries) << shift, frac))
