"""A design: modules, and how a top level wires them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hgq.fixed import FixedType
from hgq.netlist.module import Module
from hgq.netlist.targets import GENERIC, Target

Element = tuple[int, int, int]
"""One scalar on a wire: its lowest and highest integer, and its fractional bits."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A tensor between modules: the elements in C order. Constant elements (lo == hi) take no bits.

    tensor: the IR node that it carries.
    unread: elements that nothing makes since nothing reads them: constants here, whatever the IR says of them.
    """

    name: str
    elements: tuple[Element, ...]
    tensor: str
    unread: frozenset[int] = frozenset()

    @property
    def width(self) -> int:
        """Bits of the packed bus."""
        return sum(FixedType.holding(lo, hi, frac).width for lo, hi, frac in self.elements if lo != hi)


@dataclass(frozen=True, slots=True)
class Instance:
    """One use of a module. inputs, outputs: wire names, in the order of the module's ports.

    delays: how many cycles each input waits in registers of the top level, so that all arrive together.
    reads, makes: for each input and output, which elements of the wire go to the module's port, in its order; None
        stands for all. A convolution has one module and an instance of it at every position.
    """

    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    delays: tuple[int, ...] = ()
    reads: tuple[tuple[int, ...] | None, ...] = ()
    makes: tuple[tuple[int, ...] | None, ...] = ()

    def input_elements(self) -> list[tuple[str, tuple[int, ...] | None]]:
        """Each input wire and the elements of it that are read."""
        return list(zip(self.inputs, self.reads or (None,) * len(self.inputs), strict=True))

    def output_elements(self) -> list[tuple[str, tuple[int, ...] | None]]:
        """Each output wire and the elements of it that are made here."""
        return list(zip(self.outputs, self.makes or (None,) * len(self.outputs), strict=True))


@dataclass(frozen=True, slots=True)
class Design:
    """What is emitted as Verilog.

    wires: every tensor of the top level. inputs, outputs: the wires at its ports.
    output_delays: cycles that each output waits in the top level.
    register_inputs, register_outputs: whether the packed ports are registered.
    target: what the modules may hold beside the ops that every FPGA has.
    latency: clock cycles from the edge that samples in_valid to the edge at which out_valid can be sampled.
    """

    name: str
    modules: Mapping[str, Module]
    instances: tuple[Instance, ...]
    wires: Mapping[str, Wire]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_delays: tuple[int, ...] = ()
    register_inputs: bool = False
    register_outputs: bool = False
    latency: int = field(default=0)
    target: Target = field(default=GENERIC)

    def cycles(self) -> dict[str, int]:
        """The cycle in which each wire is there, counted from the edge that samples in_valid; 0 before that edge."""
        found = dict.fromkeys(self.inputs, int(self.register_inputs))
        taken = {name: module.latency() for name, module in self.modules.items()}
        for one in self.instances:
            come = [found[name] + wait for name, wait in zip(one.inputs, one.delays, strict=True)]
            there = max(come, default=int(self.register_inputs)) + taken[one.module]
            # A module whose outputs are all constant has no latency of its own.
            found |= {name: max(found.get(name, 0), there) for name in one.outputs}
        return found

    def layers(self) -> list[list[Instance]]:
        """The instances in order; those that make the same wires together stand in one list."""
        groups: dict[tuple[str, ...], list[Instance]] = {}
        for one in self.instances:
            groups.setdefault(one.outputs, []).append(one)
        return list(groups.values())

    def count(self, *ops: str) -> int:
        """How many nodes of these ops all instances have together."""
        nodes = (node for one in self.instances for node in self.modules[one.module].nodes)
        return sum(node.op in ops for node in nodes)
