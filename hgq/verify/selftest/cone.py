"""Mutants that change nothing: shown by trying all values of what the changed part of the module reads.

The part is the mutated wire, some readers after it and some makers before it. Where all that leaves it is the same for
every pattern of the bits that enter it, the mutant is equivalent: bits that later rounding drops, or a highest bit that
no sum ever sets. Parts that read more than `MOST_BITS` bits are not tried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgq.sim.verilator import RtlDesign, simulate
from hgq.verify.selftest.mutants import ADDER, REGISTER, WIRE, Mutant
from hgq.verify.selftest.text import mutated

MOST_BITS = 20
STEPS = ((0, 0), (1, 0), (0, 2), (1, 1), (2, 2), (3, 1), (4, 4), (8, 8))
"""How far a part reaches: readers after the mutated wire, makers before it."""


@dataclass(frozen=True, slots=True)
class _Body:
    """A module's text by wire. lines: what defines a wire; reads: the wires there; tables: functions, in lines."""

    lines: dict[str, list[str]]
    reads: dict[str, set[str]]
    widths: dict[str, int]
    tables: list[str]
    leaving: set[str]


def equivalent(
    files: Mapping[str, str], mutants: Sequence[Mutant], cells: Sequence[Path], folder: Path
) -> dict[Mutant, int]:
    """Those of `mutants` that are shown to change nothing, and how many patterns were tried.

    Args:
        cells: files with what the modules instantiate.
        folder: where the Verilog of the trial may be written.
    """
    parts: list[tuple[Mutant, str, int]] = []
    modules: list[str] = []
    for mutant in mutants:
        if mutant.kind in ("register", "valid", "inputs"):
            continue  # these change when, or several wires
        right, wrong = _body(files[mutant.file]), _body(mutated(files[mutant.file], mutant))
        tried = set()
        for after, before in STEPS:
            if (part := _part(right, mutant.target.split(".")[0], after, before)) is None or frozenset(part) in tried:
                continue
            tried.add(frozenset(part))
            name = f"part{len(parts)}"
            inputs = _inputs(right, part)
            bits = sum(right.widths[one] for one in inputs)
            if not bits or bits > MOST_BITS:
                continue
            for which, body in (("right", right), ("wrong", wrong)):
                modules.append(_module(f"{name}_{which}", body, part, inputs, _outputs(right, part)))
            parts.append((mutant, name, bits))
    if not parts:
        return {}
    most = max(bits for _, _, bits in parts)
    file = folder / "parts.v"
    file.write_text("\n".join([*modules, _top(parts, modules, most)]))
    patterns = np.arange(1 << most, dtype=np.uint32)[:, None]
    words = simulate(RtlDesign((file, *cells), "hgq_parts", most, len(parts), 0), patterns)
    found: dict[Mutant, int] = {}
    for k, (mutant, _, bits) in enumerate(parts):
        if not (words[:, k // 32] >> np.uint32(k % 32) & 1).any():
            found.setdefault(mutant, 1 << bits)
    return found


def _body(text: str) -> _Body:
    lines: dict[str, list[str]] = {}
    widths: dict[str, int] = {}
    tables: list[str] = []
    inside = False
    for whole in text.split("\n"):
        line = whole.split("  //")[0]  # comments hold names, too
        if line.startswith("  function") or inside:
            tables.append(line)
            inside = not line.startswith("  endfunction")
        elif port := re.match(r"^  input wire \[(\d+):0\] (\w+)", line):
            widths[port[2]] = int(port[1]) + 1
        elif wire := re.match(r"^  (?:wire|reg) \[(\d+):0\] (n\d+(?:_table)?)\b", line):
            widths[wire[2]] = int(wire[1]) + 1
            lines.setdefault(wire[2], []).append(line.replace("  reg ", "  wire ", 1))
        elif register := REGISTER.match(line):
            lines[register[1]].append(f"  assign {register[1]} = {register[2]};")  # its clock does not matter here
        elif adder := ADDER.match(line):
            lines[adder[3].removesuffix("_sum")].append(line)
        elif assign := re.match(r"^  assign (n\d+)\b.*;", line):
            lines[assign[1]].append(line)
    reads = {name: {one for one in _names(" ".join(own)) if one in widths} - {name} for name, own in lines.items()}
    for name, own in lines.items():  # elements of an input port are where a part begins
        found = WIRE.match(own[0])
        if found and re.fullmatch(r"([A-Za-z]\w*)(\[[\d:]+\])?", found[3]) and not re.match(r"n\d+\b", found[3]):
            reads[name] = set()
    outputs = " ".join(re.findall(r"^  assign (?!n\d+\b)[^;]*;", text, re.MULTILINE))
    return _Body(lines, reads, widths, tables, _names(outputs) & set(lines))


def _names(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.'])[A-Za-z]\w*", text))


def _part(body: _Body, start: str, after: int, before: int) -> set[str] | None:
    if start not in body.lines:
        return None
    part = {start}
    for _ in range(after):
        part |= {name for name, reads in body.reads.items() if reads & part}
    for _ in range(before):
        part |= {one for name in part for one in body.reads[name] if body.reads.get(one)}
    return part


def _inputs(body: _Body, part: set[str]) -> list[str]:
    read = {one for name in part for one in body.reads[name]}
    own = {name for name in part if not body.reads[name]}  # an element of a port stands for itself
    return sorted((read - part) | own)


def _outputs(body: _Body, part: set[str]) -> list[str]:
    outside = {one for name, reads in body.reads.items() if name not in part for one in reads}
    return sorted(name for name in part if name in outside or name in body.leaving)


def _module(name: str, body: _Body, part: set[str], inputs: Sequence[str], outputs: Sequence[str]) -> str:
    pins = [f"  input wire [{body.widths[one] - 1}:0] {one}" for one in inputs]
    width = sum(body.widths[one] for one in outputs)
    # In the order of the text, so that nothing is read before it is there.
    logic = [line for wire, lines in body.lines.items() if wire in part and wire not in inputs for line in lines]
    value = f"{{{', '.join(outputs)}}}" if outputs else "1'd0"
    head = ",\n".join([*pins, f"  output wire [{max(width, 1) - 1}:0] out__"])
    return "\n".join([f"module {name} (\n{head}\n);", *body.tables, *logic, f"  assign out__ = {value};", "endmodule"])


def _top(parts: Sequence[tuple[Mutant, str, int]], modules: Sequence[str], most: int) -> str:
    lines = []
    for k, (_, name, _) in enumerate(parts):
        text = modules[2 * k]
        width = re.search(r"output wire \[(\d+):0\] out__", text)[1]  # type: ignore[index]
        low, pins = 0, []
        for high, pin in re.findall(r"^  input wire \[(\d+):0\] (\w+)", text, re.MULTILINE):
            pins.append(f".{pin}(in_data[{low}+:{int(high) + 1}])")
            low += int(high) + 1
        for which in ("right", "wrong"):
            lines.append(f"  wire [{width}:0] {name}_{which}_y;")
            lines.append(f"  {name}_{which} {name}_{which}_u ({', '.join(pins)}, .out__({name}_{which}_y));")
        lines.append(f"  assign out_data[{k}] = {name}_right_y != {name}_wrong_y;")
    return "\n".join(
        [
            "module hgq_parts (",
            "  input wire clk,\n  input wire rst,\n  input wire in_valid,",
            f"  input wire [{most - 1}:0] in_data,",
            f"  output wire out_valid,\n  output wire [{len(parts) - 1}:0] out_data\n);",
            *lines,
            "  assign out_valid = in_valid & ~rst;",
            "endmodule\n",
        ]
    )
