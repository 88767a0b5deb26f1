"""A second simulator, where it is installed: Icarus Verilog on some of the vectors, by a bench in plain Verilog."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hgq.emit.templates import template
from hgq.errors import ToolError, VerificationError
from hgq.sim import simulator
from hgq.sim.simulator import RtlDesign
from hgq.sim.toolchain import hgq_errors

VECTORS = 1000
"""How many vectors are run at most: Icarus interprets, some thousand times slower than Verilator."""
CHARACTERS = 20_000_000
"""Of Verilog times vectors, for a spot check: some seconds."""
CELLS = 20
"""How much slower text is that names LUTs and carry chains, which have models of their own."""


def icarus_installed() -> bool:
    """Whether Icarus Verilog is on the path: it is no package of PyPI, so it is never required."""
    return shutil.which("iverilog") is not None and shutil.which("vvp") is not None


def spot_check(sources: Iterable[Path]) -> int:
    """How many vectors a spot check of these Verilog files takes: the fewer, the larger they are, but eight."""
    sizes = {path: path.stat().st_size for path in sources}
    models = any(path.parent.name == "sim" for path in sizes)
    return min(VECTORS, max(8, CHARACTERS // (max(sum(sizes.values()), 1) * (CELLS if models else 1))))


def simulate_icarus(design: RtlDesign, words_in: np.ndarray) -> np.ndarray:
    """The outputs of the design, one row per input row, without gaps; every output is read `latency` clocks after.

    Unlike Verilator, Icarus has four states: a register that was never set shows as x, and x is an error.

    Args:
        words_in: uint32 words of shape (n, ceil(in_width / 32)), lowest word first, unused high bits zero.

    Raises:
        VerificationError: out_valid is not high at the promised clock, or an output bit is x.
        ToolError: Icarus is missing or refuses the sources.
    """
    if not icarus_installed():
        raise ToolError("Icarus Verilog is not installed", fix="apt install iverilog, or leave this engine out")
    columns = -(-design.out_width // 32)
    with hgq_errors(), tempfile.TemporaryDirectory(prefix="icarus-") as folder:
        work = Path(folder)
        lines = ["".join(f"{int(word):08x}" for word in row[::-1]) for row in words_in]
        (work / "in.hex").write_text("\n".join(lines) + "\n")
        bench = template("rtl/icarus.v.j2").render(design=design, count=len(words_in), padded=32 * words_in.shape[1])
        (work / "bench.v").write_text(bench, encoding="utf-8")
        sources = [str(source) for source in design.sources]
        program = str(work / "bench.vvp")
        command = ["iverilog", "-g2005", "-s", "hgq_icarus", "-o", program, str(work / "bench.v"), *sources]
        simulator.execute(f"Icarus refuses the sources of '{design.top}'", command, work / "iverilog.log")
        run = ["vvp", "-n", program, f"+in={work / 'in.hex'}"]
        printed = simulator.execute(f"Icarus stopped on '{design.top}'", run, work / "vvp.log").split()
    if len(printed) != len(words_in):
        raise VerificationError(
            f"RTL '{design.top}' in Icarus: {len(printed)} of {len(words_in)} outputs are valid {design.latency} "
            "clock(s) after their inputs"
        )
    unknown = next((i for i, text in enumerate(printed) if set(text.lower()) & set("xz")), None)
    if unknown is not None:
        got = f"vector {unknown} gives {printed[unknown]}, with unknown bits"
        raise VerificationError(f"RTL '{design.top}' in Icarus: {got}")
    numbers = [int(text, 16) for text in printed]
    shifts = [32 * column for column in range(columns)]
    return np.array([[number >> low & 0xFFFFFFFF for low in shifts] for number in numbers], np.uint32)
