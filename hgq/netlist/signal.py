"""How an operand reads in Verilog, at the width that an expression needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from hgq.fixed import FixedType


@dataclass(slots=True)
class Signal:
    """A named vector (all are unsigned in Verilog; the sign is extended by hand) or a constant.

    name: identifier; None for a constant, whose value is then `lo`.
    read: which bits have been read so far, as a bit mask, for the sink of unused bits.
    """

    name: str | None
    type: FixedType
    lo: int
    hi: int
    read: int = field(default=0)

    def extend(self, width: int, shift: int = 0) -> str:
        """``value << shift`` in exactly `width` bits, two's complement; upper bits are cut if they do not fit."""
        if self.name is None:
            return f"{width}'d{(self.lo << shift) % (1 << width)}"
        have = min(self.type.width, width - shift)
        if have <= 0:
            return f"{width}'d0"
        parts = [self._bits(have - 1, 0)]
        fill = width - shift - have
        if fill:
            top = self.bit(self.type.width - 1) if self.type.signed else None
            parts.insert(0, (f"{{{fill}{{{top}}}}}" if fill > 1 else top) if top else f"{fill}'d0")
        if shift:
            parts.append(f"{shift}'d0")
        return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"

    def low(self, width: int) -> str:
        """The value in `width` bits; the sign is extended where it is longer than the signal."""
        return self.extend(width)

    def slice(self, drop: int, width: int) -> str:
        """Bits ``drop .. drop + width - 1``; above the signal's top bit the sign (or zero) is repeated."""
        if self.name is None:
            return f"{width}'d{(self.lo >> drop) % (1 << width)}"
        have = min(self.type.width - drop, width)
        if have <= 0:
            return f"{{{width}{{{self.bit(self.type.width - 1)}}}}}" if self.type.signed else f"{width}'d0"
        bits = self._bits(drop + have - 1, drop)
        fill = width - have
        if not fill:
            return bits
        top = f"{{{fill}{{{self.bit(self.type.width - 1)}}}}}" if self.type.signed else f"{fill}'d0"
        return f"{{{top}, {bits}}}"

    def bit(self, index: int) -> str:
        """One bit."""
        return self._bits(index, index)

    def less_than(self, bound: int) -> str:
        """Whether the value is below the constant."""
        return self._compare("<", bound)

    def greater_than(self, bound: int) -> str:
        """Whether the value is above the constant."""
        return self._compare(">", bound)

    def _compare(self, sign: str, bound: int) -> str:
        whole = self._bits(self.type.width - 1, 0)
        if not self.type.signed:
            return f"({whole} {sign} {self.type.width}'d{bound})"
        number = f"{self.type.width}'sd{bound}" if bound >= 0 else f"-{self.type.width}'sd{-bound}"
        return f"($signed({whole}) {sign} {number})"

    def _bits(self, high: int, low: int) -> str:
        assert self.name is not None
        self.read |= ((1 << high - low + 1) - 1) << low
        if low == 0 and high == self.type.width - 1:
            return self.name
        return f"{self.name}[{high}]" if high == low else f"{self.name}[{high}:{low}]"

    def unread(self) -> list[str]:
        """The bits that nothing has read, as slices, lowest first."""
        missing, out, bit = ((1 << self.type.width) - 1) & ~self.read, [], 0
        while missing >> bit:
            if missing >> bit & 1:
                high = bit
                while missing >> high + 1 & 1:
                    high += 1
                read = self.read
                out.append(self._bits(high, bit))
                self.read = read
                bit = high
            bit += 1
        return out
