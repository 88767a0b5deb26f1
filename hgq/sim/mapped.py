"""Simulates a netlist of FPGA cells: the value of every net for all vectors at once, and the clock it arrives in.

A pipeline without feedback needs no clock: a register passes its input on, one clock later. That all inputs of a cell
arrive in the same clock is checked, cell by cell, so that the latency of every output bit is proven and not sampled.
A net is a Python integer whose bit i belongs to vector i; thousands of vectors cost no more than a few. The models
below are our own, written from the data sheets, so that they do not repeat an error of the mapper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.errors import ToolError, VerificationError


@dataclass(slots=True)
class _Pins:
    """One cell as its model sees it. `ones`: every vector's bit set."""

    type: str
    parameters: Mapping[str, str]
    values: Mapping[str, list[int]]
    ones: int

    def __getitem__(self, pin: str) -> int:
        """A one-bit input; 0 where it is not connected."""
        return self.values.get(pin, [0])[0]

    def text(self, name: str) -> str:
        return self.parameters.get(name, "").strip()

    def init(self, name: str) -> int:
        """A parameter given in bits; x counts as 0."""
        return int(self.text(name).replace("x", "0") or "0", 2)

    def table(self, init: int, inputs: list[int]) -> int:
        """Truth table `init` of `inputs`, the first of which is the low bit of the index."""
        if not inputs:
            return self.ones if init & 1 else 0
        half = 1 << len(inputs) - 1
        low, high = init & (1 << half) - 1, init >> half & (1 << half) - 1
        if low == high:
            return self.table(low, inputs[:-1])
        return self.choose(inputs[-1], self.table(high, inputs[:-1]), self.table(low, inputs[:-1]))

    def choose(self, select: int, one: int, zero: int) -> int:
        return (select & one) | (self.ones & ~select & zero)


Outputs = dict[str, list[int]]


def _lut(p: _Pins) -> Outputs:
    """LUT1 to LUT6 of Xilinx (I0 ... to O), of Gowin (I0 ... to F) and LUT4 of Lattice (A B C D to Z)."""
    names = "ABCD" if "A" in p.values else [f"I{i}" for i in range(int(p.type[3]))]
    value = p.table(p.init("INIT"), [p[name] for name in names])
    return {"O": [value], "F": [value], "Z": [value]}


def _lut6_2(p: _Pins) -> Outputs:
    inputs, init = [p[f"I{i}"] for i in range(6)], p.init("INIT")
    return {"O6": [p.table(init, inputs)], "O5": [p.table(init & 0xFFFFFFFF, inputs[:5])]}


def _carry(p: _Pins) -> Outputs:
    """CARRY4 and CARRY8."""
    carry = p["CI"] | p["CYINIT"]
    sums, carries = [], []
    for s, d in zip(p.values["S"], p.values["DI"], strict=True):
        sums.append(s ^ carry)
        carry = p.choose(s, carry, d)
        carries.append(carry)
    return {"O": sums, "CO": carries}


def _fd(p: _Pins) -> Outputs:
    """FDRE, FDSE."""
    d, clear = p["D"], p["S" if p.type == "FDSE" else "R"]
    for name in ("IS_D_INVERTED", "IS_R_INVERTED", "IS_S_INVERTED", "IS_C_INVERTED"):
        _refuse(p, p.init(name) != 0, f"{name}=1")
    _refuse(p, p["CE"] != p.ones, "its clock enable is in use")
    return {"Q": [p.choose(clear, p.ones if p.type == "FDSE" else 0, d)]}


def _trellis_ff(p: _Pins) -> Outputs:
    _refuse(p, p.text("CEMUX") not in ("1", "") and p["CE"] != p.ones, "its clock enable is in use")
    _refuse(p, p.text("CLKMUX") == "INV" or p.text("LSRMUX") == "INV", "it works on an inverted clock or reset")
    _refuse(p, p.text("SRMODE") == "ASYNC" and p["LSR"] != 0, "its reset is asynchronous")
    return {"Q": [p.choose(p["LSR"], p.ones if p.text("REGSET") == "SET" else 0, p["DI"])]}


def _ccu2c(p: _Pins) -> Outputs:
    carry, sums = p["CIN"], []
    for half in "01":
        inputs, init = [p[pin + half] for pin in "ABCD"], p.init(f"INIT{half}")
        full, generate = p.table(init, inputs), p.table(init & 15, inputs[:2])
        injected = p.text(f"INJECT1_{half}") == "YES"
        sums.append(full if injected else full ^ carry)
        carry = p.choose(full, carry, 0 if injected else generate)
    return {"S0": [sums[0]], "S1": [sums[1]], "COUT": [carry]}


def _alu(p: _Pins) -> Outputs:
    a, b = p["I0"], p["I1"]
    mode = p.init("ALU_MODE")
    _refuse(p, mode > 5, f"ALU_MODE={mode}")
    if mode == 2:  # I3 chooses between adding and subtracting
        b = p.choose(p["I3"], b, p.ones & ~b)
    other = b if mode in (0, 2) else p.ones & ~b
    generate = {3: p.ones, 5: b}.get(mode, a)
    return {"SUM": [a ^ other ^ p["CIN"]], "COUT": [p.choose(a ^ other, p["CIN"], generate)]}


def _dff(p: _Pins) -> Outputs:
    """DFF, DFFR, DFFS of Gowin; SB_DFF, SB_DFFSR, SB_DFFSS of iCE40."""
    if p.type in ("DFFR", "SB_DFFSR"):
        return {"Q": [p.choose(p["RESET" if p.type == "DFFR" else "R"], 0, p["D"])]}
    if p.type in ("DFFS", "SB_DFFSS"):
        return {"Q": [p.choose(p["SET" if p.type == "DFFS" else "S"], p.ones, p["D"])]}
    return {"Q": [p["D"]]}


def _srl(p: _Pins) -> Outputs:
    _refuse(p, p["CE"] != p.ones or p.init("IS_CLK_INVERTED") != 0, "its clock enable or inverted clock is in use")
    return {"Q": [p["D"]], "Q31": [p["D"]]}


def _refuse(p: _Pins, when: bool, why: str) -> None:
    if when:
        raise ToolError(f"the simulator of mapped netlists has no model for a {p.type}: {why}", fix=_FIX)


_FIX = "report it as a bug; hgq-report --no-simulate counts without simulating"

MODELS: dict[str, Callable[[_Pins], Outputs]] = {
    **{f"LUT{n}": _lut for n in range(1, 7)},
    "LUT6_2": _lut6_2,
    "INV": lambda p: {"O": [p.ones ^ p["I"]]},
    "MUXF7": lambda p: {"O": [p.choose(p["S"], p["I1"], p["I0"])]},
    "MUXF8": lambda p: {"O": [p.choose(p["S"], p["I1"], p["I0"])]},
    "CARRY4": _carry,
    "CARRY8": _carry,
    "FDRE": _fd,
    "FDSE": _fd,
    "SRL16E": _srl,
    "SRLC32E": _srl,
    "CCU2C": _ccu2c,
    "TRELLIS_FF": _trellis_ff,
    "PFUMX": lambda p: {"Z": [p.choose(p["C0"], p["ALUT"], p["BLUT"])]},
    "L6MUX21": lambda p: {"Z": [p.choose(p["SD"], p["D1"], p["D0"])]},
    "SB_LUT4": lambda p: {"O": [p.table(p.init("LUT_INIT"), [p[f"I{i}"] for i in range(4)])]},
    "SB_CARRY": lambda p: {"CO": [(p["I0"] & p["I1"]) | ((p["I0"] | p["I1"]) & p["CI"])]},
    "ALU": _alu,
    "GND": lambda p: {"G": [0]},
    "VCC": lambda p: {"V": [p.ones]},
    **{f"MUX2_LUT{n}": lambda p: {"O": [p.choose(p["S0"], p["I1"], p["I0"])]} for n in range(5, 9)},
    **dict.fromkeys(("DFF", "DFFR", "DFFS", "SB_DFF", "SB_DFFSR", "SB_DFFSS"), _dff),
}
"""A model per cell: its output pins from its input pins."""

REGISTERS = {"FDRE", "FDSE", "TRELLIS_FF", "DFF", "DFFR", "DFFS", "SB_DFF", "SB_DFFSR", "SB_DFFSS"}


def simulate_mapped(module: Mapping[str, Any], inputs: np.ndarray, out_width: int, latency: int) -> np.ndarray:
    """out_data of a pipeline for `inputs`.

    Args:
        module: the top module as ``write_json`` has it, with the ports of an `RtlDesign`.
        inputs: uint32 words of shape (n, words of in_data), lowest word first.
        latency: clocks after which every bit of out_data, and out_valid, must come.

    Raises:
        VerificationError: an output comes in another clock, or cells are fed from different clocks.
        ToolError: the netlist holds a cell without a model, or a loop.
    """
    ports = {name: port["bits"] for name, port in module["ports"].items()}
    ones = (1 << len(inputs)) - 1
    bits = np.unpackbits(np.ascontiguousarray(inputs, "<u4").view(np.uint8), axis=1, bitorder="little")
    columns = np.packbits(bits.T, axis=1, bitorder="little")
    # clk and rst take part in no value: registers are passed through, and rst stays low.
    values: dict[Any, int] = {"0": 0, "1": ones, "x": 0, "z": 0, ports["clk"][0]: 0, ports["rst"][0]: 0}
    clock: dict[Any, int | None] = dict.fromkeys(values)
    for net, column in zip(ports["in_data"], columns, strict=False):
        values[net], clock[net] = int.from_bytes(column.tobytes(), "little"), 0
    values[ports["in_valid"][0]], clock[ports["in_valid"][0]] = ones, 0
    for name, cell in _ordered(module["cells"], set(values)):
        pins = {
            port: [values[net] for net in nets]
            for port, nets in cell["connections"].items()
            if cell["port_directions"][port] == "input"
        }
        if cell["type"] not in MODELS:
            raise ToolError(f"the simulator of mapped netlists has no model for a {cell['type']}", fix=_FIX)
        found = MODELS[cell["type"]](_Pins(cell["type"], cell["parameters"], pins, ones))
        for port, nets in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                when = _arrival(name, cell, port, clock)
                for net, value in zip(nets, found[port], strict=True):
                    values[net], clock[net] = value, when
    for port in ("out_valid", "out_data"):
        late = {clock[net] for net in ports[port]} - {latency, None}
        if late:
            raise VerificationError(f"the mapped netlist gives {port} after {late} clock(s), not after {latency}")
    if values[ports["out_valid"][0]] != ones:
        raise VerificationError("the mapped netlist does not raise out_valid for every vector")
    rows = [values[net].to_bytes(-(-len(inputs) // 8), "little") for net in ports["out_data"]]
    table = np.unpackbits(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1), axis=1, bitorder="little")
    table = np.pad(table[:, : len(inputs)].T, ((0, 0), (0, -out_width % 32)))
    return np.ascontiguousarray(np.packbits(table, axis=1, bitorder="little")).view("<u4").astype(np.uint32)


def _arrival(name: str, cell: Mapping[str, Any], output: str, clock: Mapping[Any, int | None]) -> int | None:
    """The clock in which an output of a cell is there; None: always, it is constant."""
    known = {
        when
        for port, nets in cell["connections"].items()
        if cell["port_directions"][port] == "input"
        for net in nets
        if (when := clock[net]) is not None
    }
    if len(known) > 1:
        raise VerificationError(
            f"mapped netlist: cell {name} ({cell['type']}) reads values of the clocks {sorted(known)}"
        )
    when = max(known, default=None)
    if when is None:
        return None
    if cell["type"] in REGISTERS:
        return when + 1
    if output == "Q31":  # the end of a shift register, whatever length is read at Q: the next one goes on from there
        return when + 32
    if cell["type"].startswith("SRL"):
        taps = (
            [cell["connections"].get(f"A{i}", ["0"])[0] for i in range(4)]
            if "A0" in cell["connections"]
            else (cell["connections"]["A"])
        )
        if any(tap not in ("0", "1") for tap in taps):
            raise ToolError(f"mapped netlist: the length of the shift register {name} is not constant", fix=_FIX)
        return when + 1 + sum((tap == "1") << i for i, tap in enumerate(taps))
    return when


def _ordered(cells: Mapping[str, Any], known: set[Any]) -> list[tuple[str, Any]]:
    """The cells, each after those that drive it."""
    real = {name: cell for name, cell in cells.items() if not cell["type"].startswith("$scopeinfo")}
    waiting: dict[str, int] = {}
    readers: dict[Any, list[str]] = {}
    for name, cell in real.items():
        nets = {
            net
            for port, all_nets in cell["connections"].items()
            if cell["port_directions"][port] == "input"
            for net in all_nets
            if net not in known
        }
        waiting[name] = len(nets)
        for net in nets:
            readers.setdefault(net, []).append(name)
    ready = [name for name, count in waiting.items() if not count]
    order = []
    while ready:
        name = ready.pop()
        order.append((name, real[name]))
        for port, nets in real[name]["connections"].items():
            if real[name]["port_directions"][port] == "output":
                for net in nets:
                    for reader in readers.pop(net, ()):
                        waiting[reader] -= 1
                        if not waiting[reader]:
                            ready.append(reader)
    if len(order) != len(real):
        stuck = sorted(set(real) - {name for name, _ in order})
        raise ToolError(
            f"mapped netlist: {len(stuck)} cells lie in a loop or are fed by none, {stuck[0]} first", fix=_FIX
        )
    return order
