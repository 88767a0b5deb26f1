"""The waveform of one sample: the Verilog in Verilator with every signal written to a VCD file."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np

from hgq.disk import full_disk
from hgq.emit.templates import text
from hgq.sim import simulator
from hgq.sim.simulator import RtlDesign
from hgq.sim.toolchain import hgq_errors

_RUNTIME = ("verilated.cpp", "verilated_vcd_c.cpp", "verilated_threads.cpp")
_DEFINES = (
    "VERILATOR=1",
    "VM_COVERAGE=0",
    "VM_SC=0",
    "VM_TIMING=0",
    "VM_TRACE=1",
    "VM_TRACE_VCD=1",
    "VM_TRACE_FST=0",
    "VL_USER_FATAL",
)


def write_waveform(design: RtlDesign, words: np.ndarray, file: Path) -> None:
    """Writes a VCD file: reset, the sample, and clocks until its output has left. One clock is 10 time units.

    Args:
        words: the sample, uint32 of shape (ceil(in_width / 32),), lowest word first.

    Raises:
        ToolError: a tool is missing or failed.
        OSError: the disk is full.
    """
    with hgq_errors(), tempfile.TemporaryDirectory(prefix="waveform-") as folder:
        root, compiler, work = simulator.verilator_root(), simulator.cxx(), Path(folder)
        options = ("--cc", "--trace", "--no-timing", "--prefix", "Vtop", "-Wno-fatal", "-Wno-lint", "-Wno-style")
        command = [*simulator.verilator(root), *options, "--Mdir", str(work), "--top-module", design.top]
        sources = [str(source) for source in design.sources]
        simulator.execute(
            f"Verilator refuses the sources of '{design.top}'", command + sources, work / "v.log", root=root
        )
        main = work / "waveform.cpp"
        main.write_text(text("rtl/waveform.cpp"), encoding="utf-8")
        units = [*sorted(work.glob("Vtop*.cpp")), *(root / "include" / name for name in _RUNTIME), main]
        flags = ["-O0", "-std=gnu++17", "-pthread", "-w", f"-I{work}", f"-I{root}/include", f"-I{root}/include/vltstd"]
        program = work / "waveform"
        line = [*compiler, *flags, *(f"-D{one}" for one in _DEFINES), "-o", str(program), *map(str, units)]
        simulator.execute("compiling the waveform's simulator failed", line, work / "g++.log")
        arguments = [str(file), str(design.latency), *(f"{int(word):x}" for word in words)]
        try:
            simulator.execute("the waveform's simulator failed", [str(program), *arguments], work / "run.log")
        except simulator.SimulationError as failed:
            if full_disk(file.parent):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from failed
            raise
