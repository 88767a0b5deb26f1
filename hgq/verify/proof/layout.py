"""What the proof is told beside the text: which wire of the top level carries which tensor. Nothing of it is trusted.

A layout names the claim that is to be proven for each wire; a wrong one makes the proof fail, never succeed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import FixedArray, FixedType
from hgq.netlist.design import Design
from hgq.ports import Port


@dataclass(frozen=True, slots=True, eq=False)
class Bus:
    """A wire of the top level: the elements of IR tensor `tensor` in C order, element 0 in the low bits.

    types: of each element; width 0 where the wire has no bits for it, as the element can only be one integer, or as
        nothing reads it: these are in `unread`.
    """

    tensor: str
    types: FixedArray
    unread: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """top: name of the top module. latency: clock cycles that the design promises.

    inputs, outputs: how tensors lie on in_data and out_data. wires: by name; inputs have one too.
    """

    top: str
    latency: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    wires: Mapping[str, Bus]

    @classmethod
    def of(cls, design: Design, inputs: list[Port], outputs: list[Port]) -> Layout:
        """The layout of a design as it is emitted."""
        wires = {wire.name: Bus(wire.tensor, _types(wire.elements), wire.unread) for wire in design.wires.values()}
        return cls(design.name, design.latency, tuple(inputs), tuple(outputs), wires)

    @classmethod
    def from_json(cls, ports: Mapping[str, Any]) -> Layout:
        """The layout that ports.json of a project holds.

        Raises:
            ValueError: a project made by a version that did not write it.
        """
        if "wires" not in ports:
            raise ValueError(
                "ports.json has no map of the wires, which the proof needs: convert the model again, or leave "
                "the proof out (--no-proof)"
            )
        wires = {
            name: Bus(wire["tensor"], FixedArray.parse(wire["types"]), frozenset(wire.get("unread", ())))
            for name, wire in ports["wires"].items()
        }
        inputs, outputs = (tuple(Port.from_json(port) for port in ports[key]) for key in ("inputs", "outputs"))
        return cls(ports["top"], ports["latency"], inputs, outputs, wires)

    def wires_json(self) -> dict[str, dict[str, Any]]:
        """The wires as ports.json has them, below ``wires``."""
        return {
            name: {"tensor": bus.tensor, "types": str(bus.types)}
            | ({"unread": sorted(bus.unread)} if bus.unread else {})
            for name, bus in self.wires.items()
        }


def _types(elements: tuple[tuple[int, int, int], ...]) -> FixedArray:
    held = [FixedType.holding(lo, hi, frac) if lo != hi else None for lo, hi, frac in elements]
    rows = [(t.signed, t.width, t.frac) if t else (0, 0, 0) for t in held]
    return FixedArray(*np.array(rows, np.int64).reshape(-1, 3).T)
