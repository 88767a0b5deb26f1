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
from hgq.passes.drop_unread import drop_unread
from hgq.passes.fuse_adders import fuse_adders, fused_estimate
from hgq.passes.hoist_rounding import hoist_rounding
from hgq.passes.insert_registers import fewest_cycles, insert_registers, shortest_clock
from hgq.passes.join_tables import join_tables
from hgq.passes.merge_constants import merge_constants
from hgq.passes.tabulate import tabulate

PIPELINE: list[Callable[[Module], Module]] = [
    hoist_rounding,  # first: moves the half of a rounding next to the bias ...
    merge_constants,  # ... so that one adder adds both ...
    absorb_constants,  # ... and then into the sum
    tabulate,  # late, since it weighs what is left against tables
    join_tables,  # last: other passes know sums and tables
]
"""What `optimise` runs on every module, in this order; adders of three operands are made before the last two."""


def optimise(
    design: Design,
    target: Target = GENERIC,
    clock_ns: float = inf,
    model: DelayModel = DEFAULT,
    known: dict[Module, Module] | None = None,
) -> Design:
    """`design` after every pass of PIPELINE, and of those that `target` allows, which mind the clock period.

    What nothing reads goes before them, so that they need not weigh it, and once more after them, for tables need not
    read every bit of what they stand for.

    Args:
        known: what modules became before under the same target, clock and model; more is added.
    """
    known = {} if known is None else known
    design = drop_unread(design)
    for module in design.modules.values():
        if module not in known:
            known[module] = _optimised(module, target, clock_ns, model)
    modules = {name: known[module] for name, module in design.modules.items()}
    return drop_unread(replace(design, modules=modules, target=target))


def _optimised(module: Module, target: Target, clock_ns: float, model: DelayModel) -> Module:
    for one in PIPELINE:
        if one is tabulate and target.carry:  # no pass before it meets an adder of three operands
            module = fuse_adders(module, clock_ns, model)
        module = one(module)
    return module


__all__ = [
    "PIPELINE",
    "absorb_constants",
    "drop_unread",
    "fewest_cycles",
    "fuse_adders",
    "fused_estimate",
    "hoist_rounding",
    "insert_registers",
    "join_tables",
    "merge_constants",
    "optimise",
    "shortest_clock",
    "tabulate",
]
