"""Verilog with a mutant in it, and Verilog with all mutants in it, of which a number at the top level chooses one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hgq.verify.selftest.mutants import ADDER, ENTRY, REGISTER, VALID, WIRE, Mutant

TOP = "hgq_selftest"
SELECT = "mutant__"
CONTROL = 18
"""Low bits of in_data of `TOP`: 16 for the mutant (0: none), in_valid, rst."""


def mutated(text: str, mutant: Mutant) -> str:
    """The file of the mutant, with the fault."""
    lines = text.split("\n")
    for n, target, right, wrong in _edits(mutant):
        line = lines[n]
        if REGISTER.match(line):
            declared = next(i for i, one in enumerate(lines) if re.match(rf"^  reg \[\d+:0\] {target};", one))
            lines[declared] = (
                lines[declared].replace("  reg ", "  wire ", 1).replace(f"{target};", f"{target} = {wrong};", 1)
            )
            lines[n] = ""
        elif mutant.condition:
            lines[n] = _entry_without(line, mutant)
        else:
            lines[n] = _replaced(line, target, right, wrong)
    return "\n".join(lines)


def selectable(files: Mapping[str, str], mutants: Sequence[Mutant]) -> dict[str, str]:
    """The files with all mutants: number k (from 1) is chosen by `SELECT` of the top level `TOP`."""
    by_place: dict[tuple[str, int], list[tuple[int, Mutant, tuple[str, str, str]]]] = {}
    for k, mutant in enumerate(mutants, 1):
        for n, *rest in _edits(mutant):
            by_place.setdefault((mutant.file, n), []).append((k, mutant, tuple(rest)))  # type: ignore[arg-type]
    result = {}
    for name, text in files.items():
        lines = text.split("\n")
        touched = False
        for n in range(len(lines)):
            if (name, n) in by_place:
                _select(lines, n, by_place[name, n])
                touched = True
        if touched:
            end = lines.index(");")
            lines[end] += f"\n  wire [15:0] {SELECT} = {TOP}.{SELECT};"
        result[name] = "\n".join(lines)
    return result


def top_level(design: str, in_width: int, out_width: int, latency: int) -> str:
    """`TOP`: hands mutant, in_valid and rst of the design over as data, and gives out_valid as data.

    So one stream of vectors holds all mutants and the whole protocol. Bit 0 of out_data is the design's out_valid.
    """
    valid = [f"    valid[{n}] <= {f'valid[{n - 1}]' if n else 'in_valid'} & ~rst;" for n in range(latency)]
    return "\n".join(
        [
            f"module {TOP} (",
            "  input wire clk,\n  input wire rst,\n  input wire in_valid,",
            f"  input wire [{in_width + CONTROL - 1}:0] in_data,",
            f"  output wire out_valid,\n  output wire [{out_width}:0] out_data\n);",
            f"  wire [15:0] {SELECT} = in_data[15:0];",
            f"  {design} dut (.clk(clk), .rst(rst | in_data[17]), .in_valid(in_data[16]), "
            f".in_data(in_data[{in_width + CONTROL - 1}:{CONTROL}]), .out_valid(out_data[0]), "
            f".out_data(out_data[{out_width}:1]));",
            *([f"  reg [{latency - 1}:0] valid;", "  always @(posedge clk) begin", *valid, "  end"] if latency else []),
            f"  assign out_valid = {f'valid[{latency - 1}]' if latency else 'in_valid & ~rst'};",
            "endmodule\n",
        ]
    )


def unread_modules(files: Mapping[str, str], top: str) -> set[str]:
    """The modules of which no value reaches out_data of `top`."""
    body = re.sub(r"^  wire unused = .*?;", "", files[f"{top}.v"], flags=re.MULTILINE | re.DOTALL)
    reads: dict[str, set[str]] = {}
    for name, text in re.findall(
        r"^ +(?:wire \[\d+:0\] |assign )?(\w+) (?:<?=) (.*?);", body, re.MULTILINE | re.DOTALL
    ):
        reads.setdefault(name, set()).update(_names(text))
    instances = []
    for module, pins in re.findall(r"^  (\w+) u\d+ \((.*)\);", body, re.MULTILINE):
        outputs = set(re.findall(r"^  output wire \[\d+:0\] (\w+)", files[f"{module}.v"], re.MULTILINE))
        ends: tuple[set[str], set[str]] = set(), set()
        for pin, wires in re.findall(r"\.(\w+)\(([^()]*)\)", pins):
            ends[pin in outputs].update(_names(wires))
        instances.append((module, *ends))
    alive, live, todo = set[str](), set[str](), ["out_data"]
    while todo:
        name = todo.pop()
        if name in alive:
            continue
        alive.add(name)
        todo += reads.get(name, ())
        for module, read, made in instances:
            if name in made:
                live.add(module)
                todo += read
    return {module for module, _, _ in instances} - live


def _names(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w'])[A-Za-z]\w*", text))


def _edits(mutant: Mutant) -> list[tuple[int, str, str, str]]:
    first = (mutant.line, mutant.target, mutant.right, mutant.wrong)
    return [first, mutant.other] if mutant.other else [first]


def _replaced(line: str, target: str, right: str, wrong: str) -> str:
    """A line with another expression for its target."""
    if ADDER.match(line):
        pin = target.rsplit(".", 1)[1]
        return line.replace(f".{pin}({right})", f".{pin}({wrong})", 1)
    found = WIRE.match(line) or VALID.match(line)
    assert found is not None, line
    group = next(n for n in range(len(found.groups()), 0, -1) if found[n] == right)
    return line[: found.start(group)] + wrong + line[found.end(group) :]


def _entry_without(line: str, mutant: Mutant) -> str:
    """A table's line without the argument of the mutant, which gets a line of its own."""
    found = ENTRY.match(line)
    assert found is not None, line
    left = [one for one in found[1].split(", ") if one != mutant.condition]
    own = f"      {mutant.condition}: {mutant.target} = {mutant.wrong};"
    return own if not left else f"      {', '.join(left)}: {mutant.target} = {mutant.right};\n{own}"


def _select(lines: list[str], n: int, here: Sequence[tuple[int, Mutant, tuple[str, str, str]]]) -> None:
    """Line n with a choice between its own expression and those of its mutants."""
    line = lines[n]
    if found := REGISTER.match(line):
        target = found[1]
        declared = next(i for i, one in enumerate(lines) if re.match(rf"^  reg \[\d+:0\] {target};", one))
        vector = re.match(r"^  reg (\[\d+:0\])", lines[declared])[1]  # type: ignore[index]
        chosen = _choice(f"{target}__r", [(k, edit[2]) for k, _, edit in here])
        lines[declared] = f"  reg {vector} {target}__r;\n  wire {vector} {target} = {chosen};"
        lines[n] = f"    {target}__r <= {found[2]};"
        return
    if found := ENTRY.match(line):
        choice = f"{found[3]}'d{found[4]}"
        for k, mutant, (_, _, wrong) in here:
            choice = f"({SELECT} == 16'd{k} && in__ == {mutant.condition}) ? {wrong} : ({choice})"
        lines[n] = line.replace(f"= {found[3]}'d{found[4]};", f"= {choice};")
        return
    for target, right in dict.fromkeys((edit[0], edit[1]) for _, _, edit in here):
        faults = [(k, edit[2]) for k, _, edit in here if edit[0] == target]
        lines[n] = _replaced(lines[n], target, right, _choice(right, faults))


def _choice(right: str, wrong: Sequence[tuple[int, str]]) -> str:
    choice = f"({right})"
    for k, expression in wrong:
        choice = f"({SELECT} == 16'd{k}) ? ({expression}) : {choice}"
    return choice
