"""Cells without a rule that depend on few bits: their function is found by trying every pattern of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.netlist import Bit, Cell
from hgq.verify.proof.tables import MOST_BITS, reachable

WIDEST = 60
"""Bits of a word that are tried as one integer of 64 bits."""


def by_trial(
    space: Space, cell: Cell, bit: Callable[[Bit], Form | None], memories: Mapping[str, list[Cell]]
) -> tuple[Form, Form] | None:
    """What a cell makes, as a number without and with a sign; None if it depends on too many bits or has no rule.

    Args:
        bit: the form of a net, 0 or 1; None where it is undefined.
    """
    kind = cell.type
    if kind not in TRIED and not kind.startswith("$memrd"):
        return None
    pins = [pin for pin in ("A", "B", "S", "ADDR") if pin in cell.pins]
    known = {pin: [bit(net) for net in cell.pins[pin]] for pin in pins}
    undefined = {pin for pin, column in known.items() if any(form is None for form in column)}
    if undefined - ({"A"} if kind == "$pmux" else set()):
        return None
    forms = {pin: [form or space.constant(0) for form in column] for pin, column in known.items()}
    atoms: set[int] = set()
    for column in forms.values():
        for form in column:
            if not _bits_of(space, form, atoms) or len(atoms) > MOST_BITS:
                return None
    bits = sorted(atoms)
    patterns = np.flatnonzero(reachable(space, bits))
    values = {atom: (patterns >> i & 1) * (-1 if space.atoms[atom].lo < 0 else 1) for i, atom in enumerate(bits)}
    tried = {pin: [_trial(space, form, values, bits, patterns) for form in column] for pin, column in forms.items()}
    if kind.startswith("$memrd"):
        result = _memory(cell, tried["ADDR"], memories)
    else:
        if any(len(column) > WIDEST for pin, column in tried.items() if (kind, pin) != ("$pmux", "B")):
            return None
        if undefined and (np.sum(tried["S"], axis=0) == 0).any():
            return None  # $pmux without a default, and no case for some pattern
        result = TRIED[kind](cell, tried)
    width = sum(len(cell.pins[pin]) for pin in cell.outputs)
    if result is None or width > WIDEST:
        return None
    plain = result % (1 << width)
    signed = np.where(plain >> width - 1 == 1, plain - (1 << width), plain)
    return _table(space, bits, patterns, plain), _table(space, bits, patterns, signed)


def _table(space: Space, bits: list[int], patterns: np.ndarray, values: np.ndarray) -> Form:
    entries: list[int | None] = [None] * (1 << len(bits))
    for pattern, value in zip(patterns.tolist(), values.tolist(), strict=True):
        entries[pattern] = value
    return space.table(tuple(bits), entries)


def _bits_of(space: Space, form: Form, found: set[int]) -> bool:
    """Adds the atoms of two values that a form depends on; False if it depends on others."""
    for atom in form.terms:
        one = space.atoms[atom]
        if one.kind == "table":
            found.update(one.args[0])
        elif one.kind == "product":
            if not all(_bits_of(space, Form(0, {factor: 1}, 0, 0), found) for factor in one.args):
                return False
        elif (one.lo, one.hi) in ((0, 1), (-1, 0)):
            found.add(atom)
        else:
            return False
    return True


def _trial(
    space: Space, form: Form, values: dict[int, np.ndarray], bits: list[int], patterns: np.ndarray
) -> np.ndarray:
    """The values of a form for every pattern."""
    total = np.full(len(patterns), form.const, np.int64)
    for atom, c in form.terms.items():
        one = space.atoms[atom]
        if one.kind == "table":
            index = sum((patterns >> bits.index(b) & 1) << i for i, b in enumerate(one.args[0]))
            total += c * np.array([e or 0 for e in one.args[1]], np.int64)[index]
        elif one.kind == "product":
            part = np.full(len(patterns), c, np.int64)
            for factor in one.args:
                part *= _trial(space, Form(0, {factor: 1}, 0, 0), values, bits, patterns)
            total += part
        else:
            total += c * values[atom]
    return total


def _joined(column: list[np.ndarray]) -> np.ndarray:
    return np.sum([v << i for i, v in enumerate(column)], axis=0)


def _signed(cell: Cell, pin: str, column: list[np.ndarray]) -> np.ndarray:
    value = _joined(column)
    return value - (column[-1] << len(column)) if cell.flag(f"{pin}_SIGNED") else value


def _memory(cell: Cell, address: list[np.ndarray], memories: Mapping[str, list[Cell]]) -> np.ndarray | None:
    """A read port without a clock, of a memory that is written nowhere but at its start, the last value being valid."""
    if cell.flag("CLK_ENABLE") or cell.pins.get("EN", ["1"]) not in (["1"], ["x"]):
        return None
    width, content = len(cell.pins["DATA"]), {}
    for start in sorted(memories.get(cell.params["MEMID"], []), key=lambda one: one.params["PRIORITY"]):
        data, first, words = start.pins["DATA"], start.pins["ADDR"], start.params["WORDS"]
        whole = set(start.pins.get("EN", "1")) == {"1"}  # else it sets some bits of a word, and leaves the others
        if not whole or any(b not in ("0", "1") for b in (*data, *first)) or start.params["WIDTH"] != width:
            return None
        low = sum(int(b) << i for i, b in enumerate(first))
        for n in range(words):
            content[low + n] = sum(int(b) << i for i, b in enumerate(data[n * width : (n + 1) * width]))
    where = _joined(address)
    if width > WIDEST or any(n not in content for n in np.unique(where).tolist()):
        return None
    return np.array([content.get(n, 0) for n in range(max(content) + 1)], np.int64)[where]


Tried = dict[str, list[np.ndarray]]


def _chosen(cell: Cell, x: Tried) -> np.ndarray | None:
    """$pmux: A, or the word of B whose bit in S is 1; undefined where there are several."""
    if (np.sum(x["S"], axis=0) > 1).any():
        return None
    width = len(x["A"])
    result = _joined(x["A"])
    for i, selected in enumerate(x["S"]):
        result = np.where(selected == 1, _joined(x["B"][i * width : (i + 1) * width]), result)
    return result


def _pairwise(op: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Cell, Tried], np.ndarray]:
    return lambda cell, x: op(_signed(cell, "A", x["A"]), _signed(cell, "B", x["B"])).astype(np.int64)


TRIED: dict[str, Callable[[Cell, Tried], np.ndarray | None]] = {
    "$pmux": _chosen,
    "$mux": lambda cell, x: np.where(x["S"][0] == 1, _joined(x["B"]), _joined(x["A"])),
    "$eq": _pairwise(lambda a, b: a == b),
    "$ne": _pairwise(lambda a, b: a != b),
    "$and": _pairwise(lambda a, b: a & b),
    "$or": _pairwise(lambda a, b: a | b),
    "$xor": _pairwise(lambda a, b: a ^ b),
    "$xnor": _pairwise(lambda a, b: ~(a ^ b)),
    "$logic_and": _pairwise(lambda a, b: (a != 0) & (b != 0)),
    "$logic_or": _pairwise(lambda a, b: (a != 0) | (b != 0)),
    "$logic_not": lambda cell, x: (_joined(x["A"]) == 0).astype(np.int64),
    "$reduce_or": lambda cell, x: (_joined(x["A"]) != 0).astype(np.int64),
    "$reduce_bool": lambda cell, x: (_joined(x["A"]) != 0).astype(np.int64),
    "$reduce_and": lambda cell, x: (np.sum(x["A"], axis=0) == len(x["A"])).astype(np.int64),
    "$reduce_xor": lambda cell, x: np.sum(x["A"], axis=0) % 2,
}
"""Cells by what they make of the integers at their pins."""
