"""Clock constraints and a Vivado script for the emitted Verilog, for those who have a vendor's tools.

None of these has been run here: no vendor tool is needed, or used, to build or verify a project.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from hgq.emit.templates import template

FOLDER = "syn"
PART_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def constraints(top: str, sources: Sequence[str], clock_ns: float, part: str) -> dict[str, str]:
    """Vivado Tcl (out of context: synthesis, placement, routing, reports), XDC, and SDC for other tools; path -> text.

    Args:
        top: name of the Verilog top module, whose clock port is ``clk``.
        sources: Verilog files relative to the project, as ``rtl/top.v``.
        clock_ns: clock period in ns.
        part: FPGA part, as ``xcvu13p-flga2577-2-e``.

    Raises:
        ValueError: an argument that Tcl could not take as it is.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", top):
        raise ValueError(f"top={top!r} is no Verilog module name")
    if not re.fullmatch(PART_NAME, part):
        raise ValueError(f"part={part!r} is no FPGA part; write it as the vendor does, e.g. 'xcvu13p-flga2577-2-e'")
    if not 0 < clock_ns < math.inf:
        raise ValueError(f"clock_ns={clock_ns} is no clock period; use a positive number of ns, as 5")
    for source in sources:
        if not re.fullmatch(r"[\w./ -]+", source, re.ASCII):
            raise ValueError(f"the path {source!r} holds characters that Tcl would interpret; rename the file")
    values = {"top": top, "sources": list(sources), "clock_ns": f"{clock_ns:.3f}", "part": part}
    files = ("vivado.tcl", "constraints.xdc", "constraints.sdc")
    return {f"{FOLDER}/{file}": template(f"tcl/{file}.j2").render(values) for file in files}
