"""Netlist to netlist. Each pass is one function in one file and leaves what every output computes unchanged.

README.md says how to write one, and why they stand in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from hgq.netlist.delays import DEFAULT, DelayModel
from hgq.netlist.design import Design
from hgq.netlist.module import Module
from hgq.netlist.targets import GENERIC, Target
from hgq.passes.absorb_constants import absorb_constants
from hgq.passes.fuse_adders import fuse_adders, fused_estimate
from hgq.passes.hoist_rounding import hoist_rounding
from hgq.passes.insert_registers import fewest_cycles, insert_registers, shortest_clock
from hgq.passes.join_tables import join_tables
from hgq.passes.merge_constants import merge_constants

PIPELINE: list[Callable[[Module], Module]] = [
    hoist_rounding,  # first: moves the half of a rounding next to the bias ...
    merge_constants,  # ... so that one adder adds both ...
    absorb_constants,  # ... and then into the sum
    join_tables,  # last: other passes know sums and tables
]
"""What `optimise` runs on every module, in this order; adders of three operands are made before the last one."""


def optimise(design: Design, target: Target = GENERIC, clock_ns: float = inf, model: DelayModel = DEFAULT) -> Design:
    """`design` after every pass of PIPELINE, and of those that `target` allows, which mind the clock period."""
    modules = dict(design.modules)
    for one in PIPELINE:
        if one is join_tables and target.carry:  # no pass before it meets an adder of three operands
            modules = {name: fuse_adders(module, clock_ns, model) for name, module in modules.items()}
        modules = {name: one(module) for name, module in modules.items()}
    return replace(design, modules=modules, target=target)


__all__ = [
    "PIPELINE",
    "absorb_constants",
    "fewest_cycles",
    "fuse_adders",
    "fused_estimate",
    "hoist_rounding",
    "insert_registers",
    "join_tables",
    "merge_constants",
    "optimise",
    "shortest_clock",
]
