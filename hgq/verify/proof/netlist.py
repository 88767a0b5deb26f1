"""The text as Yosys reads it: modules of word-level cells, each cell after those that drive it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hgq.errors import VerificationError

Bit = int | str
"""A net of a module, or "0", "1", "x", "z"."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One cell. pins: its connections. params: whole numbers where they are given in bits, else text."""

    name: str
    type: str
    params: Mapping[str, Any]
    pins: Mapping[str, list[Bit]]
    outputs: tuple[str, ...]

    def flag(self, name: str) -> bool:
        return bool(self.params.get(name, 0))


class Netlist:
    """One module. inputs, outputs: bits of each port, lowest first. wires: bits of each named wire."""

    def __init__(self, name: str, data: Mapping[str, Any], directions: Mapping[str, Mapping[str, str]]):
        self.name = name
        ports = data["ports"]
        self.inputs: dict[str, list[Bit]] = {n: p["bits"] for n, p in ports.items() if p["direction"] == "input"}
        self.outputs: dict[str, list[Bit]] = {n: p["bits"] for n, p in ports.items() if p["direction"] == "output"}
        self.wires: dict[str, list[Bit]] = {n: w["bits"] for n, w in data["netnames"].items()}
        self.cells: list[Cell] = []
        self.memories: dict[str, list[Cell]] = {}
        for name_, cell in data["cells"].items():
            way = cell.get("port_directions") or directions.get(cell["type"], {})
            outputs = tuple(pin for pin in cell["connections"] if way.get(pin) == "output")
            params = {key: _number(value) for key, value in cell["parameters"].items()}
            made = Cell(name_, cell["type"], params, cell["connections"], outputs)
            if made.type.startswith("$meminit"):
                self.memories.setdefault(made.params["MEMID"], []).append(made)
            elif made.type != "$scopeinfo":
                self.cells.append(made)
        for made in self.cells:
            if made.type.startswith("$memwr"):  # what it holds at the start is not what it holds
                self.memories.pop(made.params["MEMID"], None)

    @cached_property
    def driver(self) -> dict[Bit, int]:
        """For each net, the number of the cell that drives it.

        Raises:
            VerificationError: something else drives it too: another cell, a constant, or the outside.
        """
        found: dict[Bit, int] = {}
        outside = {bit for bits in self.inputs.values() for bit in bits}
        for number, cell in enumerate(self.cells):
            for pin in cell.outputs:
                for bit in cell.pins[pin]:
                    if bit in found or bit in outside or bit in ("0", "1"):
                        raise VerificationError(
                            f"proof: module {self.name}: a net has two drivers, one of them a cell of type {cell.type}"
                        )
                    found[bit] = number
        return found

    def behind(self, bits: Iterable[Bit]) -> list[int]:
        """The cells on the way to `bits`, by number, each after those that drive it; a loop is cut where it closes."""
        driver = self.driver
        order: list[int] = []
        seen: set[int] = set()
        for start in {driver[bit]: None for bit in bits if bit in driver}:
            if start in seen:
                continue
            seen.add(start)
            stack = [(start, iter(self._before(start)))]
            while stack:
                number, rest = stack[-1]
                following = next((n for n in rest if n not in seen), None)
                if following is None:
                    order.append(number)
                    stack.pop()
                else:
                    seen.add(following)
                    stack.append((following, iter(self._before(following))))
        return order

    def _before(self, number: int) -> list[int]:
        cell, driver = self.cells[number], self.driver
        return list(
            dict.fromkeys(
                driver[bit]
                for pin, bits in cell.pins.items()
                if pin not in cell.outputs
                for bit in bits
                if bit in driver
            )
        )


def off_clock(netlist: Netlist, register: Cell) -> str:
    """What is wrong with the clock of a register; empty where it is the rising edge of the port clk."""
    if not register.flag("CLK_POLARITY"):
        return "a register on the falling edge"
    return "" if register.pins["CLK"] == netlist.inputs.get("clk") else "a register on another clock than clk"


def netlists(data: Mapping[str, Any]) -> dict[str, Netlist]:
    """Every module of what ``write_json`` wrote.

    Raises:
        VerificationError: a net has two drivers, or the text says itself what a cell of the FPGA does.
    """
    modules = data["modules"]
    ways = {name: {pin: port["direction"] for pin, port in m["ports"].items()} for name, m in modules.items()}
    ways |= {
        "LUT6_2": {"O5": "output", "O6": "output"},
        "CARRY8": {"O": "output", "CO": "output"},
        "CARRY4": {"O": "output", "CO": "output"},
    }
    made = {name: Netlist(name, module, ways) for name, module in modules.items()}
    for name in {"LUT6_2", "CARRY4", "CARRY8"} & set(made):
        raise VerificationError(f"proof: the Verilog defines {name}, which is a cell of the FPGA")
    for netlist in made.values():
        _ = netlist.driver  # also of modules whose cells are not walked
    return made


def _number(value: Any) -> Any:
    """Parameters come as text of bits, which may be very long."""
    if isinstance(value, str) and value and not value.strip("01"):
        return int(value, 2)
    return value
