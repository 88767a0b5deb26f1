"""Mutants: small faults in the text of emitted Verilog, each of one kind and on one line.

A mutant replaces the expression of a wire (or table entry, register, pin, output) by a wrong one of the same width, so
that all of them can stand in one text beside the right ones (see text.py).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

KINDS = {
    "constant": "one bit of a constant is flipped",
    "weight": "an adder's operand is left out, which is a bit of a weight",
    "sign": "+ and - are swapped",
    "shift": "an adder's operand is shifted by one bit more",
    "register": "a register is left out",
    "table": "one bit of a table's entry is flipped",
    "narrow": "the highest bit of a wire is lost",
    "neuron": "an output of a layer is 0",
    "inputs": "two inputs of a layer are swapped",
    "valid": "out_valid comes a cycle early, or late, or survives a reset",
}
"""Kind -> what is wrong."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault in the line `line` (from 0) of a file.

    kind: of `KINDS`. target: the wire, table, register, instance pin or port that is wrong. wrong: the expression in
    place of `right`. condition: for a table, the argument for which it holds, else "". other: the second line of a
    swap, as (line, target, right, wrong).
    """

    kind: str
    file: str
    line: int
    target: str
    right: str
    wrong: str
    condition: str = ""
    other: tuple[int, str, str, str] | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line + 1}"
        at = f" at {self.condition}" if self.condition else ""
        return f"{where}: {self.target}{at}: {_short(self.wrong)} in place of {_short(self.right)}"


WIRE = re.compile(r"^  wire \[(\d+):0\] (\w+) = (.*);(  // .*)?$")
REGISTER = re.compile(r"^    (\w+) <= (.*);$")
ENTRY = re.compile(r"^ {6}(?:(.*): )?(table__\d+) = (\d+)'d(\d+);$")
PIN = re.compile(r"\.([abc])\(((?:[^()]|\([^()]*\))*)\)")
ADDER = re.compile(r"^  hgq_add3 #\(\.WIDTH\((\d+)\), \.NEGATE\(3'b([01]+)\)\) (\w+) \((.*), \.sum\((.*)\)\);$")
VALID = re.compile(r"^  (?:always @\(posedge clk\) valid <= (.*)|assign out_valid = (.*));$")
LITERAL = re.compile(r"(\d+)'d(\d+)")


def mutants_of(files: Mapping[str, str], top: str) -> list[Mutant]:
    """Every mutant of the modules in `files` (file name -> text), the top level ``top.v`` included."""
    found: list[Mutant] = []
    for name, text in sorted(files.items()):
        if "sim/" in name or name == "hgq_add3.v":
            continue
        lines = text.split("\n")
        leaving = set(re.findall(r"\bn\d+\b", " ".join(re.findall(r"^  assign [^;]*;", text, re.MULTILINE))))
        for n, line in enumerate(lines):
            parts = _of_line(line, name == f"{top}.v", leaving)
            found += [Mutant(part[0], name, n, *part[1:]) for part in parts if part[2] != part[3]]
        found += [Mutant("inputs", name, *one, "", other) for one, other in _swaps(lines)]
    return found


def sample(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them, as many of each kind as there are, in turn."""
    dice = random.Random(seed)
    kinds: dict[str, list[Mutant]] = {kind: [] for kind in KINDS}
    for mutant in mutants:
        kinds[mutant.kind].append(mutant)
    for group in kinds.values():
        dice.shuffle(group)
    chosen: list[Mutant] = []
    while len(chosen) < count and any(kinds.values()):
        for group in kinds.values():
            if group and len(chosen) < count:
                chosen.append(group.pop())
    return chosen


Part = tuple[str, str, str, str] | tuple[str, str, str, str, str]


def _of_line(line: str, is_top: bool, leaving: set[str]) -> Iterator[Part]:
    """(kind, target, right, wrong, condition) of each mutant of a line, but for swaps. leaving: what outputs read."""
    if found := WIRE.match(line):
        if not is_top and found[2] != "unused":
            yield from _of_wire(int(found[1]) + 1, found[2], found[3])
            if found[2] in leaving:
                yield "neuron", found[2], found[3], f"{int(found[1]) + 1}'d0"
    elif found := ADDER.match(line):
        yield from _of_adder(found)
    elif found := REGISTER.match(line):
        if found[2] != found[1]:
            yield "register", found[1], found[1], found[2]
    elif found := ENTRY.match(line):
        yield from _of_entry(found)
    elif (found := VALID.match(line)) and is_top:
        yield from _of_valid(found[1], found[2])


def _of_wire(width: int, name: str, right: str) -> Iterator[Part]:
    for literal in LITERAL.finditer(right):
        bits, value = int(literal[1]), int(literal[2])
        if value or re.search(r"[-+?:] *$", right[: literal.start()]):  # not the zeros that fill a wire up
            for bit in range(bits):
                yield "constant", name, right, _spliced(right, literal, f"{bits}'d{value ^ 1 << bit}")
    if (terms := _sum(right)) is not None:
        a, sign, b = terms
        yield "sign", name, right, f"{a} {'-' if sign == '+' else '+'} {b}"
        yield "weight", name, right, b if sign == "+" else f"{width}'d0 - {b}"
        if not LITERAL.fullmatch(b):
            yield "weight", name, right, a
            yield "shift", name, right, f"{a} {sign} ({b} << 1)"
        if not LITERAL.fullmatch(a):
            yield "shift", name, right, f"({a} << 1) {sign} {b}"
    if width > 1 and not right.startswith("{1'd0"):
        # The bit below takes its place, as where a sign is extended from there.
        yield "narrow", name, right, f"({right}) & {width}'d{(1 << width - 1) - 1}"


def _of_adder(found: re.Match[str]) -> Iterator[Part]:
    width, name = int(found[1]), found[3].removesuffix("_sum")
    pins = PIN.findall(found[4])
    for pin, right in pins:
        target = f"{name}.{pin}"
        if literal := LITERAL.fullmatch(right):
            for bit in range(int(literal[1])):
                yield "constant", target, right, f"{literal[1]}'d{int(literal[2]) ^ 1 << bit}"
            continue
        yield "weight", target, right, f"{width}'d0"
        yield "sign", target, right, f"{width}'d0 - {right}"
        yield "shift", target, right, f"{right} << 1"


def _of_entry(found: re.Match[str]) -> Iterator[Part]:
    arguments, table, width, value = found[1], found[2], int(found[3]), int(found[4])
    if arguments and arguments != "default":
        for argument in arguments.split(", "):
            for bit in range(width):
                yield "table", table, f"{width}'d{value}", f"{width}'d{value ^ 1 << bit}", argument.strip()


def _of_valid(chain: str | None, end: str | None) -> Iterator[Part]:
    if chain:
        yield "valid", "valid", chain, re.sub(r"rst \? \d+'d0 : |& ~rst", "", chain).strip()
    elif end and (last := re.fullmatch(r"valid\[(\d+)\]", end)):
        yield "valid", "out_valid", end, f"valid[{int(last[1]) - 1}]"
        yield "valid", "out_valid", end, f"{end} | valid[0]"
    elif end:
        yield "valid", "out_valid", end, "in_valid" if "in_valid" in end else "1'b1"


Edit = tuple[int, str, str, str]


def _swaps(lines: list[str]) -> Iterator[tuple[Edit, Edit]]:
    """Two elements of an input port of the same width take each other's place: (line, target, right, wrong) of both."""
    ports: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for n, line in enumerate(lines):
        found = WIRE.match(line)
        port = re.fullmatch(r"([A-Za-z]\w*)\[\d+(?::\d+)?\]", found[3]) if found else None
        if found and port and re.fullmatch(r"n\d+", found[2]) and not re.fullmatch(r"n\d+", port[1]):
            ports.setdefault((port[1], found[1]), []).append((n, found[2], found[3]))
    for elements in ports.values():
        for (n, name, right), (m, second, other) in pairwise(elements):
            yield (n, name, right, other), (m, second, other, right)


def _sum(expression: str) -> tuple[str, str, str] | None:
    """The operands of an addition or subtraction, and its sign."""
    depth = 0
    for n, c in enumerate(expression):
        depth += (c in "({[") - (c in ")}]")
        if not depth and expression[n : n + 3] in (" + ", " - "):
            a, b = expression[:n], expression[n + 3 :]
            return None if "?" in expression else (a, expression[n + 1], b)
    return None


def _spliced(text: str, at: re.Match[str], new: str) -> str:
    return text[: at.start()] + new + text[at.end() :]


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
