"""The Verilator engine: all vectors of a design at full speed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hgq.emit import templates
from hgq.sim import simulator
from hgq.sim.simulator import RtlDesign
from hgq.sim.toolchain import hgq_errors

__all__ = ["RtlDesign", "simulate"]


def simulate(
    design: RtlDesign,
    words_in: np.ndarray,
    gaps: np.ndarray | None = None,
    *,
    progress: Callable[[str], None] = simulator.logger.info,
    threads: int | None = None,
) -> np.ndarray:
    """The outputs of the design, one row per input row; latency and number of outputs are checked on the way.

    cocotb starts the simulator and hands the NumPy buffers to a loop in C++ within the same process (bulk.cpp).

    Args:
        words_in: uint32 words of shape (n, ceil(in_width / 32)), lowest word first, unused high bits zero.
        gaps: idle clocks before each vector, shape (n,); none by default.
        progress: told what is being done and how long it took.
        threads: copies of the design that share the vectors; by default as many as pay.

    Raises:
        VerificationError: out_valid came early, late, not at all or unasked for.
        ToolError: a tool is missing or failed.
    """
    with hgq_errors():
        return simulator.bulk(
            design, words_in, gaps, folder=templates.folder() / "tb", progress=progress, threads=threads
        )
