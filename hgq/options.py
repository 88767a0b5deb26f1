"""The options of a conversion: what they may be, and what follows from them."""

from __future__ import annotations

import math
import re
from typing import Any

from hgq.emit.constraints import PART_NAME
from hgq.emit.hls4ml import BACKENDS, IO_TYPES, PART
from hgq.errors import ConversionError
from hgq.fixed import FixedType
from hgq.lower.cmvm.options import MAX_EFFORT, OBJECTIVES
from hgq.netlist.targets import target_of

DEFAULT_CLOCK_NS = 5.0


def checked_options(
    clock_ns: float | None,
    latency: int | None,
    backend: str,
    io_type: str,
    part: str | None,
    input_type: str | None,
    effort: int,
    objective: str,
) -> dict[str, Any]:
    """The options as ``report.json`` has them, defaults filled in.

    Raises:
        ConversionError: naming every option that cannot be.
    """
    problems = []
    if clock_ns is not None and latency is not None:
        problems.append(
            f"  - clock_ns={clock_ns} and latency={latency}: each follows from the other\n      Fix: give one of them"
        )
    if latency is not None and (not isinstance(latency, int) or isinstance(latency, bool) or latency < 0):
        problems.append(f"  - latency={latency!r}: clock cycles are a whole number\n      Fix: latency=5")
    clock_ns = DEFAULT_CLOCK_NS if clock_ns is None else clock_ns
    if not (isinstance(clock_ns, int | float) and math.isfinite(clock_ns) and clock_ns > 0):
        problems.append(f"  - clock_ns={clock_ns}: a clock period in ns is a number above 0\n      Fix: clock_ns=5")
    if backend not in BACKENDS:
        problems.append(f"  - backend={backend!r} is not supported\n      Fix: choose one of {', '.join(BACKENDS)}")
    if io_type not in IO_TYPES:
        problems.append(f"  - io_type={io_type!r} is not supported\n      Fix: choose one of {', '.join(IO_TYPES)}")
    if input_type is not None:
        try:
            FixedType.parse(input_type)
        except (ValueError, TypeError) as reason:
            problems.append(f"  - input_type: {reason}\n      Fix: input_type='s16f8'")
    if not (isinstance(effort, int) and not isinstance(effort, bool) and 0 <= effort <= MAX_EFFORT):
        problems.append(
            f"  - effort={effort!r}: how hard to look for few LUTs is an integer from 0 to {MAX_EFFORT}\n"
            "      Fix: effort=1; 2 takes seconds for a layer, each further level 4 times as long"
        )
    if objective not in OBJECTIVES:
        problems.append(
            f"  - objective={objective!r} is nothing that can be made small\n"
            f"      Fix: choose one of {', '.join(OBJECTIVES)}"
        )
    if part is not None and not re.fullmatch(PART_NAME, part):
        problems.append(f"  - part={part!r} is no FPGA part\n      Fix: write it as the vendor does, e.g. {PART!r}")
    if problems:
        raise ConversionError(problems)
    return {
        "clock_ns": float(clock_ns),
        "latency": latency,
        "backend": backend,
        "io_type": io_type,
        "part": part or PART,
        "target": target_of(part).name,
        "input_type": input_type,
        "effort": effort,
        "objective": objective,
    }
