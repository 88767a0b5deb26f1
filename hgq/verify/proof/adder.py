"""The adder of three operands: that its LUTs and carry chain add, place by place, for the width at hand.

With the cells' meaning (UltraScale and 7 series libraries guides): in place i, O6 is the parity of a, b, c and m[i], O5
the majority of a, b, c, which counts in place i + 1 and is m[i + 1]; the chain adds parity and m, as its carry is the
old one where they differ, and m where they do not. Since a + b + c = parity + 2 * majority in each place, the sum is
a + b + c + m[0] + the first carry. An operand that the LUTs invert is ``-x - 1``, modulo ``2**width``.
"""

from __future__ import annotations

from hgq.verify.proof.netlist import Bit, Cell, Netlist

Rule = tuple[tuple[int, int, int], int]
"""Signs of the operands, and what is added to them."""


def three_operands(netlist: Netlist) -> Rule | str:
    """What the module adds, modulo ``2**width``; or what is wrong with it."""
    ports = [netlist.inputs.get(pin, []) for pin in "abc"]
    total = netlist.outputs.get("sum", [])
    if set(netlist.outputs) != {"sum"}:
        return "it has other outputs than sum"
    if not total or any(len(port) != len(total) for port in ports):
        return "its ports differ in width"
    luts = {cell.pins["I0"][0]: cell for cell in netlist.cells if cell.type == "LUT6_2"}
    inverted: tuple[int, int, int] | None = None
    places: list[Bit] = []
    parity: list[Bit] = []
    for i, (a, b, c) in enumerate(zip(*ports, strict=True)):
        cell = luts.get(a)
        if cell is None or cell.pins["I1"] != [b] or cell.pins["I2"] != [c]:
            return f"place {i} has no LUT of its own three bits"
        if cell.pins["I4"] != ["0"] or cell.pins["I5"] != ["1"]:
            return f"the LUT of place {i} is not split"
        found = _inversions(cell.params["INIT"])
        if found is None or inverted not in (None, found):
            return f"the LUT of place {i} is no parity and majority"
        inverted = found
        if i == 0:
            places = [cell.pins["I3"][0]]
        elif cell.pins["I3"][0] != places[-1]:
            return f"place {i} does not read the majority of the one below"
        places.append(cell.pins["O5"][0])
        parity.append(cell.pins["O6"][0])
    first = _chain(netlist, parity, places, total)
    if isinstance(first, str):
        return first
    assert inverted is not None
    if places[0] not in ("0", "1"):
        return "the lowest place reads something else"
    signs = tuple(-1 if one else 1 for one in inverted)
    return signs, int(places[0]) + first - sum(inverted)  # type: ignore[return-value]


def _inversions(init: int) -> tuple[int, int, int] | None:
    """Which of I0, I1, I2 a LUT inverts before it makes O6 = parity with I3 and O5 = majority; None: it does not."""
    for invert in range(8):
        flips = invert & 1, invert >> 1 & 1, invert >> 2 & 1
        fits = True
        for index in range(16):
            bits = [(index >> k & 1) ^ flips[k] for k in range(3)]
            fits &= init >> 32 + index & 1 == sum(bits) + (index >> 3) & 1
            fits &= init >> index & 1 == int(sum(bits) >= 2)
        if fits:
            return flips
    return None


def _chain(netlist: Netlist, parity: list[Bit], m: list[Bit], total: list[Bit]) -> int | str:
    """The first carry of the chain that adds parity and m; or what is wrong with it."""
    cells = {cell.pins["S"][0]: cell for cell in netlist.cells if cell.type in ("CARRY4", "CARRY8")}
    carry: Bit | None = None
    first = 0
    for i, s in enumerate(parity):
        cell = cells.get(parity[i - i % _size(cells)]) if cells else None
        if cell is None:
            return f"place {i} is on no carry chain"
        at = i % len(cell.pins["S"])
        if cell.pins["S"][at] != s or cell.pins["DI"][at] != m[i] or cell.pins["O"][at] != total[i]:
            return f"place {i} of the carry chain is connected otherwise"
        if at == 0:
            into = _into(cell)
            if carry is None:
                if into not in ("0", "1"):
                    return "the carry chain does not begin with a constant"
                first = int(into)
            elif into != carry:
                return f"the carry chain is cut at place {i}"
        carry = cell.pins["CO"][-1]
    return first


def _size(cells: dict[Bit, Cell]) -> int:
    return len(next(iter(cells.values())).pins["S"])


def _into(cell: Cell) -> Bit:
    """The carry that enters a CARRY8 as CI, or a CARRY4 as CI or CYINIT, the other of which is 0."""
    if cell.type == "CARRY8":
        return cell.pins["CI"][0] if cell.pins["CI_TOP"] == ["0"] and _single(cell) else "x"
    ways = [cell.pins["CI"][0], cell.pins["CYINIT"][0]]
    return next((way for way in ways if way != "0"), "0") if "0" in ways else "x"


def _single(cell: Cell) -> bool:
    return cell.params.get("CARRY_TYPE") == "SINGLE_CY8"
