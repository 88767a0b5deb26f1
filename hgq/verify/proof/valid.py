"""How many registers stand between in_valid and out_valid."""

from __future__ import annotations

from hgq.verify.proof.netlist import Bit, Cell, Netlist, off_clock


def valid_latency(netlist: Netlist) -> int | None:
    """Clocks from in_valid to out_valid, past the gates with which rst clears it; None: it is built in another way.

    What rst does to it is shown in simulation (cocotb), not here.
    """
    clear = set(netlist.inputs.get("rst", []))
    start = netlist.inputs.get("in_valid", [None])[0]
    inverted = {
        bit for cell in netlist.cells if cell.type == "$not" and cell.pins["A"][0] in clear for bit in cell.pins["Y"]
    }
    (bit,) = netlist.outputs.get("out_valid", ["x"])
    clocks = 0
    for _ in range(3 * len(netlist.cells) + 3 * max(len(c.pins.get("Q", [])) for c in netlist.cells or [_NONE])):
        if bit == start:
            return clocks
        number = netlist.driver.get(bit)
        if number is None:
            return None
        cell = netlist.cells[number]
        if cell.type == "$dff" and not off_clock(netlist, cell):
            bit, clocks = cell.pins["D"][cell.pins["Q"].index(bit)], clocks + 1
        elif cell.type == "$mux" and set(cell.pins["S"]) <= clear and set(cell.pins["B"]) == {"0"}:
            bit = cell.pins["A"][cell.pins["Y"].index(bit)]
        elif cell.type in ("$and", "$logic_and") and len(cell.pins["Y"]) == 1:
            others: list[Bit] = [b for pin in "AB" for b in cell.pins[pin] if b not in inverted]
            if len(others) != 1:
                return None
            (bit,) = others
        else:
            return None
    return None


_NONE = Cell("", "", {}, {}, ())
