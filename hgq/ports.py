"""How the elements of tensors lie on the packed buses of a design.

Element 0 of the first tensor sits in the low bits; then C order, each element at its own width; then the next tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.fixed import FixedArray, FixedType, Overflow, Rounding, as_objects


@dataclass(frozen=True, slots=True, eq=False)
class Port:
    """A tensor on a bus.

    name: the Keras name of the input or output.
    types: of the elements. Elements of width 0 take no bits.
    rounding, overflow: for an input, how the host turns real numbers into these integers.
    """

    name: str
    types: FixedArray
    rounding: Rounding | None = None
    overflow: Overflow | None = None

    @property
    def width(self) -> int:
        return int(self.types.width.sum())

    @classmethod
    def output(cls, name: str, types: FixedArray) -> Port:
        """A port on which every element is kept: the constant 0 takes one bit."""
        zero = types.width == 0
        return cls(name, FixedArray(types.signed, np.where(zero, 1, types.width), types.frac))

    def to_json(self, low: int) -> dict:
        """The map of this port for ports.json; its lowest bit is bit `low` of the bus."""
        elements: list[dict | None] = []
        for t in self.types:
            elements.append({"type": str(t), "low": low} if t else None)
            low += t.width if t else 0
        return {
            "name": self.name,
            "shape": list(self.types.shape),
            **({"rounding": str(self.rounding), "overflow": str(self.overflow)} if self.rounding else {}),
            "elements": elements,
        }

    @classmethod
    def from_json(cls, data: dict) -> Port:
        types = [FixedType.parse(e["type"]) if e else None for e in data["elements"]]
        rows = np.array([(t.signed, t.width, t.frac) if t else (0, 0, 0) for t in types], np.int64).reshape(-1, 3)
        shaped = FixedArray(*(rows[:, i].reshape(data["shape"]) for i in range(3)))
        if "rounding" not in data:
            return cls(data["name"], shaped)
        return cls(data["name"], shaped, Rounding(data["rounding"]), Overflow(data["overflow"]))


def bus_width(ports: list[Port]) -> int:
    """Bits of the bus; at least 1, because Verilog has no empty vectors."""
    return max(sum(port.width for port in ports), 1)


def pack(ports: list[Port], tensors: list[np.ndarray]) -> np.ndarray:
    """Integers of each port, arrays of shape ``(samples, *shape)``, as words of the bus.

    Returns:
        uint32 of shape ``(samples, ceil(bits / 32))``; word 0 holds the low bits, bits above the bus are 0.
    """
    samples = len(tensors[0])
    words = np.zeros((samples, -(-bus_width(ports) // 32)), np.uint32)
    low = 0
    for port, tensor in zip(ports, tensors, strict=True):
        columns = np.asarray(tensor).reshape(samples, -1)
        for position, t in enumerate(port.types):
            if t:
                _put(words, columns[:, position], low, t.width)
                low += t.width
    return words


def unpack(ports: list[Port], words: np.ndarray) -> list[np.ndarray]:
    """The inverse of `pack`: int64 arrays, or Python integers where an element has more than 62 bits."""
    tensors, low = [], 0
    for port in ports:
        wide = bool(port.types.size) and int(port.types.width.max()) > 62
        columns = np.zeros((len(words), port.types.size), object if wide else np.int64)
        for position, t in enumerate(port.types):
            if t:
                columns[:, position] = _get(words, low, t)
                low += t.width
        tensors.append(columns.reshape(len(words), *port.types.shape))
    return tensors


def _put(words: np.ndarray, values: np.ndarray, low: int, width: int) -> None:
    """Writes the low `width` bits of `values` at bit `low`, 32 bits of the bus at a time."""
    done = 0
    while done < width:
        word, at = divmod(low + done, 32)
        take = min(32 - at, width - done)
        chunk = (values >> done) & ((1 << take) - 1)
        words[:, word] |= (chunk.astype(np.uint64) << np.uint64(at)).astype(np.uint32)
        done += take


def _get(words: np.ndarray, low: int, t: FixedType) -> np.ndarray:
    """The element of type `t` at bit `low`."""
    wide = t.width > 62
    value = as_objects(np.zeros(len(words), np.int64)) if wide else np.zeros(len(words), np.int64)
    done = 0
    while done < t.width:
        word, at = divmod(low + done, 32)
        take = min(32 - at, t.width - done)
        chunk = (words[:, word].astype(np.int64) >> at) & ((1 << take) - 1)
        value = value + ((as_objects(chunk) if wide else chunk) << done)
        done += take
    if not t.signed:
        return value
    negative = value > t.hi
    return value - (as_objects(negative) if wide else negative) * (1 << t.width)
