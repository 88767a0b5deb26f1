"""Combinational design to pipeline: the fewest cycles that a clock period allows, then the fewest registers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from hgq.errors import ConversionError
from hgq.netlist.delays import DEFAULT, DelayModel
from hgq.netlist.design import Design
from hgq.netlist.module import Module, Node, rebuild
from hgq.passes.flat import Flat, flatten
from hgq.passes.schedule import SLACK, earliest, fewest_registers

MOST_NODES = 200_000
"""Designs of more nodes keep the earliest schedule: finding the fewest registers would take minutes."""


def insert_registers(
    design: Design,
    clock_ns: float,
    *,
    model: DelayModel = DEFAULT,
    latency: int | None = None,
    register_inputs: bool = True,
    register_outputs: bool = True,
) -> Design:
    """The pipeline of `design` for a clock of `clock_ns`, by a delay model.

    It has the fewest cycles that the clock allows, and of all pipelines of so many cycles the fewest register bits. All
    inputs of a module come in one cycle and all outputs leave in one, but not at the same time in it: the next module
    goes on from there. A value that several later cycles need runs down one chain of registers.

    Args:
        latency: cycles in all, port registers included, where more than the clock needs are wished for.

    Raises:
        ConversionError: a single op takes longer than the period, or `latency` is too short for it.
    """
    budget = clock_ns - model.register
    _refuse_slow_ops(design, budget, clock_ns, model)
    flat = flatten(design, model.delay, budget)
    first = int(register_inputs)
    cycle, _ = earliest(flat, budget, first)
    last = max(cycle, default=first)
    if latency is not None:
        if latency < last + register_outputs:
            raise ConversionError(
                [
                    f"  - a clock of {clock_ns:g} ns needs {last + register_outputs} cycles, not {latency}\n"
                    "      Fix: a longer clock period, or more cycles"
                ]
            )
        last = latency - register_outputs
    if last > first and len(cycle) <= MOST_NODES:
        cycle = fewest_registers(flat, cycle, budget, first, last)
    return _pipelined(design, flat, cycle, first, last, register_inputs, register_outputs)


def fewest_cycles(design: Design, clock_ns: float, *, model: DelayModel = DEFAULT) -> int:
    """The cycles of `insert_registers`, ports registered, without the search for the fewest registers.

    An op that takes longer than a cycle counts as one; `insert_registers` refuses it.
    """
    budget = clock_ns - model.register
    return max(earliest(flatten(design, model.delay, budget), budget, 1)[0], default=1) + 1


def shortest_clock(
    design: Design,
    latency: int,
    *,
    model: DelayModel = DEFAULT,
    register_inputs: bool = True,
    register_outputs: bool = True,
) -> float:
    """The shortest clock period, in whole ps, for which `design` has no more than `latency` cycles.

    Raises:
        ConversionError: no period is short, or long, enough; says which numbers of cycles are possible.
    """
    delays = [model.delay(*node) for node in _logic(design)]
    ports = int(register_inputs) + int(register_outputs)

    def cycles(ps: int) -> int:
        budget = ps / 1000 - model.register
        return max(earliest(flatten(design, model.delay, budget), budget, 0)[0], default=0) + ports

    # Nothing is faster than its slowest op, and nothing slower than all ops in a row.
    low = _picoseconds(max(delays, default=0.0) + model.register)
    high = max(_picoseconds(sum(delays) + model.register), low)
    # Not the ports alone: time steps that share a module take a cycle each, however long it is.
    least, most = cycles(high), cycles(low)
    if not least <= latency <= most:
        raise ConversionError(
            [
                f"  - latency={latency}: this model can have {least} to {most} cycles, port registers included, by the "
                f"delay model of {model.name}; {most} reach {low / 1000:g} ns\n"
                f"      Fix: latency={min(max(latency, least), most)}, or clock_ns= in place of latency="
            ]
        )
    if latency == most:
        # ... cycles may be had at a longer period too, but none of these is shorter.
        return low / 1000
    while low < high:
        middle = (low + high) // 2
        if cycles(middle) <= latency:
            high = middle
        else:
            low = middle + 1
    return low / 1000


def _picoseconds(ns: float) -> int:
    """Rounded up."""
    return -int(-ns * 1000 // 1)


def _logic(design: Design) -> Iterator[tuple[Module, Node]]:
    """The nodes of every instance that take time."""
    for one in design.instances:
        module = design.modules[one.module]
        yield from ((module, node) for node in module.nodes if not node.constant and node.op != "input")


def _refuse_slow_ops(design: Design, budget: float, clock_ns: float, model: DelayModel) -> None:
    takes, node = max(
        ((model.delay(m, n), n) for m, n in _logic(design)), key=lambda pair: pair[0], default=(0.0, None)
    )
    if budget < -SLACK and (node is None or takes <= 0.0):  # wires alone: no op says that the clock is too fast
        raise ConversionError(
            [
                f"  - a clock of {clock_ns:g} ns is shorter than the {model.register:g} ns that a register takes by "
                f"the delay model of {model.name}\n      Fix: use a clock of at least {_digits(model.register):.2f} ns."
            ]
        )
    if node is None or takes <= budget + SLACK:
        return
    least = _digits(takes + model.register)
    raise ConversionError(
        [
            f"  - {node.origin}: a {node.width}-bit {node.op} takes {takes:.2f} ns by the delay model of "
            f"{model.name}, which does not fit a clock of {clock_ns:g} ns\n"
            f"      Fix: use a clock of at least {least:.2f} ns, or narrower types."
        ]
    )


def _digits(ns: float) -> float:
    """With two digits, and never below `ns`."""
    return math.ceil(ns * 100 - SLACK) / 100


def _pipelined(
    design: Design,
    flat: Flat,
    cycle: list[int],
    first: int,
    last: int,
    register_inputs: bool,
    register_outputs: bool,
) -> Design:
    """The design with registers where the schedule puts them."""
    leaves = dict.fromkeys(design.inputs, first)
    modules: dict[str, Module] = {}
    instances = []
    for layer, start, end in zip(design.layers(), flat.start, flat.end, strict=True):
        begin, done = cycle[start], cycle[end]
        for name in dict.fromkeys(one.module for one in layer):
            if name in flat.fixed:
                modules[name] = _with_registers(design.modules[name], flat.fixed[name].cycle, done - begin)
                continue
            # Constants are there at any time.
            cycles = [cycle[v] - begin if v >= 0 else 0 for v in flat.place[name]]
            modules[name] = _with_registers(design.modules[name], cycles, done - begin)
        delays = tuple(begin - leaves[name] for name in layer[0].inputs)
        instances += [replace(one, delays=delays) for one in layer]
        leaves |= dict.fromkeys(layer[0].outputs, done)
    return replace(
        design,
        modules=modules,
        instances=tuple(instances),
        output_delays=tuple(last - leaves[name] for name in design.outputs),
        register_inputs=register_inputs,
        register_outputs=register_outputs,
        latency=last + register_outputs,
    )


def _with_registers(module: Module, cycle: list[int], last: int) -> Module:
    """The module with its nodes in the cycles given, counted from its inputs, and all outputs in the cycle `last`."""
    builder, new = rebuild(module)
    chains: dict[tuple[int, int], int] = {}

    def at(ref: int, when: int) -> int:
        """Node `ref` as it is seen in the cycle `when`."""
        if module.nodes[ref].constant or when == cycle[ref]:
            return new[ref]
        for c in range(cycle[ref] + 1, when + 1):
            if (ref, c) not in chains:
                before = chains.get((ref, c - 1), new[ref])
                builder.origin = module.nodes[ref].origin
                chains[ref, c] = builder.register(before)
        return chains[ref, when]

    for i, node in enumerate(module.nodes):
        if i not in new:
            new[i] = builder.copy(node, tuple(at(arg, cycle[i]) for arg in node.args))
    return builder.module({port.name: [at(ref, last) for ref in port.refs] for port in module.outputs})
