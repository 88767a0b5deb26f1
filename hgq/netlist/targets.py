"""FPGA families whose Verilog may be more than generic, by the part that the user names.

A part that is not listed gets generic Verilog, which every tool maps; nothing is guessed from a name that looks alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """What netlist and Verilog may use.

    device: for people. carry: bits of a carry cell beside which each LUT has two outputs, so that three operands are
        added with one LUT a bit (LUT6_2 and CARRY4 or CARRY8); 0: generic Verilog.
    family: the name that ``hgq-report`` knows it by; "" where it has none.
    """

    name: str
    device: str
    carry: int = 0
    family: str = ""


GENERIC = Target("generic", "any FPGA")
TARGETS = {
    target.name: target
    for target in (
        GENERIC,
        Target("7series", "Xilinx 7 series", 4, "xc7"),
        Target("ultrascale", "Xilinx UltraScale or UltraScale+", 8, "xcup"),
    )
}
PARTS = {
    "xc7[aksvz]": "7series",
    "xa7[asz]": "7series",
    "xq7[akvz]": "7series",
    "xc[aksv]u": "ultrascale",
    "xczu|xa[ak]?zu|xqzu": "ultrascale",
    "xa[ak]u": "ultrascale",
    "xq[kv]u": "ultrascale",
    "xck2[46]": "ultrascale",
}
"""Beginnings of part names, as regular expressions. Versal (xcvc, xcvm, ...) has other carry cells and is generic."""


def target_of(part: str | None) -> Target:
    """What a part allows; generic without a part, and for one that PARTS does not know.

    >>> target_of("xcvu13p-flga2577-2-e").name, target_of("xc7z020clg400-1").name, target_of("xcvc1902").name
    ('ultrascale', '7series', 'generic')
    """
    for beginning, name in PARTS.items():
        if part and re.match(beginning, part.lower()):
            return TARGETS[name]
    return GENERIC
