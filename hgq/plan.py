"""From an integer graph to the best design for an FPGA: the ways that are tried, and how they are priced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

from hgq.ir.graph import Graph
from hgq.lower import cmvm, lower
from hgq.netlist.cost import lut_estimate
from hgq.netlist.delays import delay_model
from hgq.netlist.design import Design
from hgq.netlist.module import Module
from hgq.netlist.targets import GENERIC, TARGETS, Target
from hgq.passes import fewest_cycles, fused_estimate, insert_registers, optimise, shortest_clock


def plan(graph: Graph, top: str, options: Mapping[str, Any]) -> tuple[Design, Callable[[Design], Design]]:
    """The optimised combinational design of a graph, and what makes a pipeline of it under these options."""

    model, latency = delay_model(options["part"]), options.get("latency")

    def pipeline(design: Design) -> Design:
        return insert_registers(design, options["clock_ns"], model=model, latency=latency)

    target = target_from(options)
    clock_ns = options["clock_ns"] if latency is None else inf  # it follows from the latency
    luts = cache(lut_estimate)

    def price(design: Design) -> tuple[float, int]:
        """The clock, or the cycles, then LUTs."""
        if latency is None:
            first: float = fewest_cycles(design, clock_ns, model=model)
        else:
            first = shortest_clock(design, latency, model=model)
        copies = Counter(one.module for one in design.instances)
        return first, sum(count * luts(design.modules[name]) for name, count in copies.items())

    trials = cmvm.Trials(fused_estimate if target.carry else lambda module: (lut_estimate(module),))
    known: dict[Module, Module] = {}
    made: list[Design] = []
    tried: list[tuple[list[int], int]] = []
    for way in CARRY_WAYS if target.carry else WAYS:
        if made and (trials.limits(way), way.deeper) in tried:
            continue  # all its choices would be those of an earlier way
        lowered = _lowered(graph, top, options, trials, way)
        tried.append((trials.limits(way), way.deeper))
        if way.deeper and latency is None:
            best = min(fewest_cycles(design, clock_ns, model=model) for design in made)
            if fewest_cycles(lowered, clock_ns, model=model) > best + SAVED:
                continue
        made.append(optimise(lowered, target, clock_ns, model, known))
    made += [mixed for mixed in [_mixed(made, luts)] if mixed not in made]
    return (min(made, key=price) if len(made) > 1 else made[0]), pipeline


PLAIN, FUSED = 0, 1
"""The measures of `fused_estimate`: LUTs with adders of two operands, and of three."""
WAYS = (cmvm.Way(PLAIN),)
CARRY_WAYS = (cmvm.Way(FUSED), cmvm.Way(PLAIN), cmvm.Way(FUSED, deeper=1))
"""Where adders may have three operands. Two levels of adders of two operands are one of three, so a level more may
still be no cycle more; and tables that only pay beside adders of two operands may be what saves a cycle."""
SAVED = 1
"""Cycles that passes are expected to save. A design with more levels that would need more than these to come down to
the best is given up before them: a fifth of the time, and rarely (seen at 3.3 and 7 ns, not at 2.5, 5, 10, 20) 2 % of
the LUTs."""


def _mixed(designs: list[Design], luts: Callable[[Module], int]) -> Design:
    """The first design with the cheapest of the modules that stand in the same place in others."""
    first = designs[0]
    same = [design for design in designs if (design.wires, design.instances) == (first.wires, first.instances)]
    return replace(first, modules={name: min((d.modules[name] for d in same), key=luts) for name in first.modules})


def target_from(options: Mapping[str, Any]) -> Target:
    """What the FPGA allows, by the options in a report."""
    return TARGETS[options.get("target", GENERIC.name)]


def _lowered(graph: Graph, top: str, options: Mapping[str, Any], trials: cmvm.Trials, way: cmvm.Way) -> Design:
    """The design as the adder-graph optimiser makes it under these options."""
    objective = cmvm.OBJECTIVES[options.get("objective", "lut")]
    if objective == cmvm.Objective.LUT and target_from(options).carry:
        objective = cmvm.Objective.LUT3
    with cmvm.using(cmvm.Options(options.get("effort", 1), objective), trials, way):
        return lower(graph, top)
