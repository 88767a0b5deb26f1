"""From an integer graph to the best design for an FPGA: the ways that are tried, and how they are priced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
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

    def price(design: Design) -> tuple[float, int]:
        """The clock, or the cycles, then LUTs."""
        if latency is None:
            first: float = fewest_cycles(design, options["clock_ns"], model=model)
        else:
            first = shortest_clock(design, latency, model=model)
        copies = Counter(one.module for one in design.instances)
        return first, sum(count * lut_estimate(design.modules[name]) for name, count in copies.items())

    target = target_from(options)
    clock_ns = options["clock_ns"] if latency is None else inf  # it follows from the latency
    if not target.carry:
        return optimise(_lowered(graph, top, options, cmvm.Trials()), target, clock_ns, model), pipeline
    trials = cmvm.Trials(fused_estimate, measures=2)
    known: dict[Module, Module] = {}
    ways: list[Design] = []
    prices: list[tuple[float, int]] = []
    for measure, deeper in WAYS:
        lowered = _lowered(graph, top, options, trials, measure, deeper)
        if deeper and latency is None and fewest_cycles(lowered, clock_ns, model=model) > min(prices)[0] + SAVED:
            continue
        design = optimise(lowered, target, clock_ns, model, known)
        if design not in ways:
            ways.append(design)
            prices.append(price(design))
    return ways[prices.index(min(prices))], pipeline


PLAIN, FUSED = 0, 1
"""The measures of `fused_estimate`: LUTs with adders of two operands, and of three."""
WAYS = ((FUSED, 0), (PLAIN, 0), (FUSED, 1))
"""The measure by which adders are weighed against tables, and adder levels beyond the least, where adders may have
three operands. Two levels of adders of two operands are one of three, so a level more may still be no cycle more; and
tables that only pay beside adders of two operands may be what saves a cycle."""
SAVED = 1
"""Cycles that passes are expected to save. A design with more levels that would need more than these to come down to
the best is given up before them: a fifth of the time, and rarely (seen at 3.3 and 7 ns, not at 2.5, 5, 10, 20) 2 % of
the LUTs."""


def target_from(options: Mapping[str, Any]) -> Target:
    """What the FPGA allows, by the options in a report."""
    return TARGETS[options.get("target", GENERIC.name)]


def _lowered(
    graph: Graph, top: str, options: Mapping[str, Any], trials: cmvm.Trials, measure: int = 0, deeper: int = 0
) -> Design:
    """The design as the adder-graph optimiser makes it under these options."""
    objective = cmvm.OBJECTIVES[options.get("objective", "lut")]
    if objective == cmvm.Objective.LUT and target_from(options).carry:
        objective = cmvm.Objective.LUT3
    with cmvm.using(cmvm.Options(options.get("effort", 1), objective), trials, measure, deeper):
        return lower(graph, top)
