"""What the user may ask of the adder-graph optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Objective(IntEnum):
    """What is made small; the numbers are those of core/graph.hpp."""

    LUT = 0
    """LUTs of two-operand adders on carry chains: what synthesis makes of generic Verilog."""
    LUT3 = 1
    """LUTs where two chained adds become one three-operand adder of one LUT6_2 a bit."""
    ADDERS = 2
    """The number of adders, whatever their width."""


OBJECTIVES = {"lut": Objective.LUT, "adders": Objective.ADDERS}
"""By the name that users give. Whether three operands fit one adder is not theirs to say: the FPGA decides."""
MAX_EFFORT = 6


@dataclass(frozen=True, slots=True)
class Options:
    """How hard to look for a small adder graph, and what small means. Same options, same graph.

    effort: 0: signed digits and balanced trees, nothing shared. 1: several greedy starts and a short search,
        milliseconds for a layer, up to 2 s for 64 x 64. 2: a long search, seconds for a layer, half a minute for
        64 x 64 of 8 bits. Each level above 2 takes 4 times as long as the one below.
    extra_depth: adder levels allowed beyond the least possible. One saves about 1 % of LUTs, and much more on dense
        matrices of one sign; more than three are of no use.
    depth_limit: adder levels allowed in total, in place of `extra_depth`.
    seed: of the search. Another number gives another graph of about the same size.
    """

    effort: int = 1
    objective: Objective = Objective.LUT
    extra_depth: int = 0
    depth_limit: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.effort <= MAX_EFFORT:
            raise ValueError(f"effort must be 0 to {MAX_EFFORT}, got {self.effort}")
        if not 0 <= self.extra_depth <= 20:
            raise ValueError(f"extra_depth must be 0 to 20 adder levels, got {self.extra_depth}")
        object.__setattr__(self, "objective", Objective(self.objective))
