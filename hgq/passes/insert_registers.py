"""Combinational design to pipeline: registers wherever a clock period is full."""

from __future__ import annotations

from dataclasses import replace

from hgq.errors import ConversionError
from hgq.netlist.delays import REGISTER_NS, delay
from hgq.netlist.design import Design, Instance
from hgq.netlist.module import Module, rebuild

Arrival = dict[str, tuple[int, list[float]]]
"""For each wire: the cycle in which it is there, and the time of each element in that cycle, in ns."""


def insert_registers(
    design: Design, clock_ns: float, *, register_inputs: bool = True, register_outputs: bool = True
) -> Design:
    """The pipeline of `design` for a clock of `clock_ns`, by the delay model of hgq/netlist/delays.py.

    Each op starts as soon as its operands are there; one that would end after the clock edge starts a cycle later.
    All outputs of a module leave in the same cycle, but not at the same time in it: the next module goes on from there.
    A value that several later cycles need runs down one chain of registers.

    Raises:
        ConversionError: a single op takes longer than the period.
    """
    budget = clock_ns - REGISTER_NS
    arrival: Arrival = {
        name: (int(register_inputs), [0.0] * len(design.wires[name].elements)) for name in design.inputs
    }
    modules: dict[str, Module] = {}
    instances: list[Instance] = []
    for layer in design.layers():
        names = layer[0].inputs
        start = max(arrival[name][0] for name in names)
        delays = tuple(start - arrival[name][0] for name in names)
        times = {
            name: [0.0] * len(arrival[name][1]) if wait else arrival[name][1]
            for name, wait in zip(names, delays, strict=True)
        }
        latest: dict[str, list[list[float]]] = {}
        for one in layer:
            arriving = [
                times[name] if part is None else [times[name][i] for i in part] for name, part in one.input_elements()
            ]
            known = latest.setdefault(one.module, arriving)
            if known is not arriving:  # a module with several instances is scheduled once, for the latest arrival
                latest[one.module] = [[*map(max, a, b)] for a, b in zip(known, arriving, strict=True)]
        schedules = {
            name: _schedule(design.modules[name], arriving, budget, clock_ns) for name, arriving in latest.items()
        }
        # All modules of a layer take as long as its slowest: the parts of a wire come together.
        cycles = max(_last(design.modules[name], cycle) for name, (cycle, _) in schedules.items())
        ends = {}
        for name, (cycle, end) in schedules.items():
            modules[name], ends[name] = _pipeline(design.modules[name], cycle, end, cycles)
        for name in layer[0].outputs:
            arrival[name] = (start + cycles, [0.0] * len(design.wires[name].elements))
        for one in layer:
            instances.append(replace(one, delays=delays))
            for (name, part), end in zip(one.output_elements(), ends[one.module], strict=True):
                for place, time in zip(range(len(end)) if part is None else part, end, strict=True):
                    arrival[name][1][place] = time
    last = max((arrival[name][0] for name in design.outputs), default=0)
    return replace(
        design,
        modules=modules,
        instances=tuple(instances),
        output_delays=tuple(last - arrival[name][0] for name in design.outputs),
        register_inputs=register_inputs,
        register_outputs=register_outputs,
        latency=last + register_outputs,
    )


def _last(module: Module, cycle: list[int]) -> int:
    """The cycle in which the last output is there."""
    return max((cycle[ref] for port in module.outputs for ref in port.refs), default=0)


def _pipeline(module: Module, cycle: list[int], end: list[float], last: int) -> tuple[Module, list[list[float]]]:
    """The module with registers, all outputs in the cycle `last`, and when in it each output element is there."""
    builder, new = rebuild(module)
    chains: dict[tuple[int, int], int] = {}

    def at(ref: int, when: int) -> int:
        """Node `ref` as it is seen `when` cycles after the module's start."""
        if module.nodes[ref].constant or when == cycle[ref]:
            return new[ref]
        if (ref, when) not in chains:
            before = at(ref, when - 1)
            builder.origin = module.nodes[ref].origin
            chains[ref, when] = builder.register(before)
        return chains[ref, when]

    for i, node in enumerate(module.nodes):
        if i not in new:
            new[i] = builder.copy(node, tuple(at(arg, cycle[i]) for arg in node.args))
    # Chains are grown from the near end, so that the recursion above stays shallow.
    for port in module.outputs:
        for ref in port.refs:
            for when in range(cycle[ref] + 1, last):
                at(ref, when)
    outputs = {port.name: [at(ref, last) for ref in port.refs] for port in module.outputs}
    ends = [[end[ref] if cycle[ref] == last else 0.0 for ref in port.refs] for port in module.outputs]
    return builder.module(outputs), ends


def _schedule(
    module: Module, times: list[list[float]], budget: float, clock_ns: float
) -> tuple[list[int], list[float]]:
    """For each node, the cycle in which it is computed and when in that cycle it is there (ns)."""
    cycle, end = [0] * len(module.nodes), [0.0] * len(module.nodes)
    for port, ns in zip(module.inputs, times, strict=True):
        for ref, t in zip(port.refs, ns, strict=True):
            end[ref] = t
    for i, node in enumerate(module.nodes):
        if node.constant or node.op == "input":
            continue
        takes = delay(module, node)
        if takes > budget:
            raise ConversionError(
                [
                    f"  - {node.origin}: a {node.type.width}-bit {node.op} takes {takes:.2f} ns by the delay model, "
                    f"which does not fit a clock of {clock_ns:g} ns\n"
                    f"      Fix: use a clock of at least {takes + REGISTER_NS:.2f} ns, or narrower types."
                ]
            )
        waits = [arg for arg in node.args if not module.nodes[arg].constant]
        cycle[i] = max((cycle[arg] for arg in waits), default=0)
        ready = max((end[arg] for arg in waits if cycle[arg] == cycle[i]), default=0.0)
        if ready + takes > budget:
            cycle[i] += 1
            ready = 0.0
        end[i] = ready + takes
    return cycle, end
