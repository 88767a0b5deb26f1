"""The cocotb engine: the ports of a design, clock by clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hgq.emit import templates
from hgq.sim import simulator
from hgq.sim.simulator import PROTOCOL, RtlDesign
from hgq.sim.toolchain import hgq_errors

__all__ = ["PROTOCOL", "RtlDesign", "check_protocol"]


def check_protocol(
    design: RtlDesign,
    words_in: np.ndarray,
    words_expected: np.ndarray,
    *,
    progress: Callable[[str], None] = simulator.logger.info,
    checks: Sequence[str] = PROTOCOL,
    seed: int = 1,
) -> None:
    """Checks values, latency, interval 1, idle clocks between vectors, reset in mid-stream and power-up.

    About 1e5 vectors per second: a few thousand vectors are enough here, `hgq.sim.verilator.simulate` takes the rest.

    Args:
        words_in, words_expected: uint32 words of shape (n, ceil(width / 32)), lowest first, unused high bits zero.
        checks: which tests of hls_templates/tb/bench.py to run.
        seed: of idle clocks, idle data and the registers at power-up.

    Raises:
        VerificationError: with check, clock, vector, stimulus, expected and got.
        ToolError: a tool is missing or failed.
    """
    with hgq_errors():
        simulator.protocol(
            design,
            words_in,
            words_expected,
            folder=templates.folder() / "tb",
            progress=progress,
            checks=checks,
            seed=seed,
        )
