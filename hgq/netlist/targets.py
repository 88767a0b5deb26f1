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
SILICON = {
    r"xc[akv]u\d+p|xcsu\d+p|xa[ak]u\d+p|xq[kv]u\d+p|xczu|xa[ak]?zu|xqzu|xck2[46]": "UltraScale+",
    r"xc[kv]u|xq[kv]u": "UltraScale",
    r"x[cq]7(k|v|z0(30|35|45)|z100)|xa7k": "Kintex-7 and Virtex-7",
    r"x[caq]7[asz]": "Artix-7 and Spartan-7",
}
"""Beginnings of part names, as regular expressions, and the silicon; the first that fits counts.

Small Zynq-7000 are Artix-7 inside. Versal (xcvc, xcvm, ...) has other carry cells and is not here.
"""


def silicon_of(part: str | None) -> str | None:
    """What a Xilinx part is made of; None for one that is not known.

    >>> silicon_of("xcvu13p-flga2577-2-e"), silicon_of("xcku040"), silicon_of("xc7z045"), silicon_of("xcvc1902")
    ('UltraScale+', 'UltraScale', 'Kintex-7 and Virtex-7', None)
    """
    return next((name for beginning, name in SILICON.items() if part and re.match(beginning, part.lower())), None)


def target_of(part: str | None) -> Target:
    """What a part allows; generic without a part, and for one that is not known.

    >>> target_of("xcvu13p-flga2577-2-e").name, target_of("xc7z020clg400-1").name, target_of("xcvc1902").name
    ('ultrascale', '7series', 'generic')
    """
    silicon = silicon_of(part)
    if silicon is None:
        return GENERIC
    return TARGETS["ultrascale" if silicon.startswith("UltraScale") else "7series"]


FAMILIES = {r"lfe5u": "ecp5", r"ice(40|5lp)": "ice40", r"gw[12]": "gowin"}
"""Beginnings of the names of parts that Yosys maps to and whose Verilog is generic, and the families."""


def family_of(part: str | None) -> str:
    """The name that ``hgq-report`` has for the family of a part; "" without a part, and for one that is not known.

    >>> family_of("xc7z020clg400-1"), family_of("LFE5U-85F-6BG381C"), family_of("iCE40UP5K"), family_of("xcvc1902")
    ('xc7', 'ecp5', 'ice40', '')
    """
    if target_of(part).family:
        return target_of(part).family
    return next((family for beginning, family in FAMILIES.items() if part and re.match(beginning, part.lower())), "")
