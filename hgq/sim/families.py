"""FPGA families that Yosys maps to: the script of each, and how its cells add up to what a slice really holds.

The scripts differ from Yosys' own ``synth_*`` in three places, on purpose and for every design alike. Chains of adders
are not merged into carry-save trees of LUTs (``alumacc``): on devices with carry chains that costs about half as much
again, and no vendor tool does it. ``abc`` maps what lies between carry chains instead of ``abc9``: 2-5 % fewer LUTs
here in a tenth of the time, and its result is not proven by a ``&verify`` that does not end on adder networks. And
registers in front of a table stay there (``-nordff``): as read ports of a ROM they would move behind it, once for each
table that reads them, and into the middle of sums.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Cells = Mapping[str, Mapping[str, Any]]
"""The cells of a flat netlist as ``write_json`` has them: type, port_directions, connections."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    device: its name. inputs: of its widest plain LUT.
    library: the Yosys command that reads its cells.
    mapping: Yosys commands from coarse logic to cells; ``{top}`` stands for the top module.
    luts: LUT sites that the cells occupy, and how many of these Yosys' own count leaves out (route-throughs).
    kinds: column of the report -> regular expression of cell types.
    """

    device: str
    inputs: int
    library: str
    mapping: tuple[str, ...]
    luts: Callable[[Cells, set[int]], tuple[int, int]]
    kinds: Mapping[str, str]

    def script(self, sources: list[str], top: str) -> list[str]:
        """The Yosys commands that turn `sources` into one flat module of cells called `top`."""
        common = (
            f"read_verilog {' '.join(sources)}",
            self.library,
            f"hierarchy -check -top {top}",
            "proc",
            "flatten",
            "opt_expr",
            "opt_clean",
            "check -assert",
            "opt -nodffe -nosdff",
            "wreduce",
            "peepopt",
            "opt_clean",
            f"techmap -map +/cmp2lut.v -map +/cmp2lcu.v -D LUT_WIDTH={self.inputs}",
            "opt",
            "memory -nomap -nordff",
            "opt_clean",
        )
        return [*common, *(line.format(top=top) for line in self.mapping)]


def count(cells: Cells, outputs: set[int], family: Family) -> dict[str, Any]:
    """What a flat netlist occupies.

    Args:
        outputs: the net numbers of the module's output ports.

    Returns:
        luts: LUT sites, route-throughs included. route_through: those of them that Yosys does not count.
        one number for each of ``family.kinds``. cells: how many there are of each type.
    """
    types = Counter(cell["type"] for cell in cells.values() if not cell["type"].startswith("$"))
    luts, extra = family.luts(cells, outputs)
    kinds = {kind: sum(n for t, n in types.items() if re.fullmatch(p, t)) for kind, p in family.kinds.items()}
    return {"luts": luts, "route_through": extra, **kinds, "cells": dict(sorted(types.items()))}


def _readers(cells: Cells, outputs: set[int]) -> dict[int, set[str]]:
    """For each net, the kinds of pins that read it, as ``TYPE.PORT``; ``out`` is a port of the module."""
    found: dict[int, set[str]] = {net: {"out"} for net in outputs}
    for cell in cells.values():
        for port, nets in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for net in nets:
                    if isinstance(net, int):
                        found.setdefault(net, set()).add(f"{cell['type']}.{port}")
    return found


def _xilinx_luts(cells: Cells, outputs: set[int]) -> tuple[int, int]:
    """LUTs and shift registers, inverters, and carry bits whose select input no LUT of their own drives.

    The select input of a carry bit can only be reached through the LUT beside it, so a plain net there occupies that
    LUT, and so does a LUT that drives the select inputs of several bits, once for each further bit. An inverter that
    feeds nothing but the data input of a carry bit is the second output of the same LUT.
    """
    readers = _readers(cells, outputs)
    luts = inverters = routed = 0
    driven: set[int] = set()  # LUT outputs that drive no select input yet
    for cell in cells.values():
        if re.fullmatch(r"LUT\d(_2)?|SRL.*", cell["type"]):
            luts += 1
            driven.update(n for p in ("O", "O5", "O6") for n in cell["connections"].get(p, ()) if isinstance(n, int))
        elif cell["type"] == "INV":
            net = cell["connections"]["O"][0]
            driven.add(net)
            inverters += not readers.get(net, set()) <= {"CARRY4.DI", "CARRY8.DI"}
    for cell in cells.values():
        if cell["type"] in ("CARRY4", "CARRY8"):
            pins = cell["connections"]
            carried, sums = pins.get("CO", []), pins.get("O", [])
            used = [i for i, s in enumerate(pins["S"]) if {*carried[i : i + 1], *sums[i : i + 1]} & readers.keys()]
            top = max(used, default=-1)
            for net in pins["S"][: top + 1]:
                if isinstance(net, int):
                    routed += net not in driven
                    driven.discard(net)
    return luts + inverters + routed, routed


def _ecp5_luts(cells: Cells, _: set[int]) -> tuple[int, int]:
    """A CCU2C is two LUT4 and the carry logic between them."""
    types = Counter(cell["type"] for cell in cells.values())
    return types["LUT4"] + 2 * types["CCU2C"], 0


def _ice40_luts(cells: Cells, _: set[int]) -> tuple[int, int]:
    """Logic cells: a carry shares one with the LUT that reads the same operands; without one it occupies its own."""
    luts = [cell["connections"] for cell in cells.values() if cell["type"] == "SB_LUT4"]
    sums = {tuple(p[pin][0] for pin in ("I1", "I2", "I3")) for p in luts}
    carries = [cell["connections"] for cell in cells.values() if cell["type"] == "SB_CARRY"]
    alone = sum(tuple(p[pin][0] for pin in ("I0", "I1", "CI")) not in sums for p in carries)
    return len(luts) + alone, alone


def _gowin_luts(cells: Cells, _: set[int]) -> tuple[int, int]:
    """An ALU cell is a LUT4 in another mode; a RAM16 or a wide multiplexer has no LUT of its own here."""
    return sum(bool(re.fullmatch(r"LUT\d|ALU", cell["type"])) for cell in cells.values()), 0


def _xilinx(device: str, name: str) -> Family:
    synth = f"synth_xilinx -family {name} -top {{top}} -noiopad -noclkbuf -nodsp"
    return Family(
        device=device,
        inputs=6,
        library="read_verilog -lib -specify +/xilinx/cells_sim.v",
        mapping=(
            f"{synth} -run map_memory:map_luts",
            "opt_expr -mux_undef -noclkinv",
            "abc -luts 2:2,3,6:5,10,20",
            "clean",
            "xilinx_srl -fixed -minlen 3",
            "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
            "xilinx_dffopt",
            "opt_lut_ins -tech xilinx",
            "clean",
        ),
        luts=_xilinx_luts,
        kinds={
            **{f"lut{n}": f"LUT{n}" for n in range(1, 7)},
            "lut6_2": "LUT6_2",
            "inv": "INV",
            "carry": "CARRY[48]",
            "muxf": r"MUXF\d",
            "ff": "FD[RSCP]E(_1)?",
            "srl": "SRL.*",
            "bram": "RAMB.*|URAM.*",
            "dsp": "DSP.*",
        },
    )


FAMILIES: dict[str, Family] = {
    "xcup": _xilinx("Xilinx UltraScale+", "xcup"),
    "xc7": _xilinx("Xilinx 7 series", "xc7"),
    "ecp5": Family(
        device="Lattice ECP5",
        inputs=4,
        library="read_verilog -lib -specify +/lattice/cells_sim_ecp5.v +/lattice/cells_bb_ecp5.v",
        mapping=(
            "synth_lattice -family ecp5 -top {top} -noiopad -nodsp -run map_ram:map_luts",
            "abc -lut 4",
            "clean",
            "synth_lattice -family ecp5 -top {top} -noiopad -nodsp -run map_cells:check",
        ),
        luts=_ecp5_luts,
        kinds={
            "lut4": "LUT4",
            "carry": "CCU2C",
            "muxf": "PFUMX|L6MUX21",
            "ff": "TRELLIS_FF",
            "bram": "DP16KD|PDPW16KD",
            "dsp": "MULT18X18D|ALU54B",
        },
    ),
    "ice40": Family(
        device="Lattice iCE40",
        inputs=4,
        library="read_verilog -D ICE40_HX -lib -specify +/ice40/cells_sim.v",
        mapping=(
            "synth_ice40 -top {top} -run map_ram:map_luts",
            "abc -lut 4",
            "ice40_wrapcarry -unwrap",
            "techmap -map +/ice40/ff_map.v",
            "clean",
            "opt_lut -tech ice40",
            "synth_ice40 -top {top} -run map_cells:check",
        ),
        luts=_ice40_luts,
        kinds={"lut4": "SB_LUT4", "carry": "SB_CARRY", "ff": "SB_DFF.*", "bram": "SB_RAM40.*", "dsp": "SB_MAC16"},
    ),
    "gowin": Family(
        device="Gowin GW1N",
        inputs=4,
        library="read_verilog -lib -specify +/gowin/cells_sim.v",
        mapping=(
            "synth_gowin -top {top} -noiopads -nodsp -run map_ram:map_luts",
            "abc -lut 4",
            "clean",
            "synth_gowin -top {top} -noiopads -nodsp -run map_cells:check",
        ),
        luts=_gowin_luts,
        kinds={
            **{f"lut{n}": f"LUT{n}" for n in range(1, 5)},
            "carry": "ALU",
            "muxf": r"MUX2_LUT\d",
            "ff": "DFF.*",
            "bram": "SDPB?.*|SPX?9?|DPX?9?B?",
            "dsp": "MULT.*",
        },
    ),
}
"""By the name that ``hgq-report --family`` takes."""
