"""Quant, IntQuant and BipolarQuant: what a node says, its integers as QONNX computes them, and our types for it.

``y = scale * clip(round(x / scale), lo, hi)``; source: qonnx 1.0.0, whose reference this computes in float32 as well.
QONNX clips before it rounds; with whole bounds that is the same. One signed bit is -1 or 1, by the sign of x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx.file import Node
from hgq.importers.types import Types

KINDS = ("Quant", "IntQuant", "BipolarQuant")
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)),
}
"""Rounding modes by the names that QONNX has for them; constants may have any of these."""
DATA_ROUNDINGS = ("ROUND", "HALF_EVEN", "FLOOR", "without sign ROUND_TO_ZERO", "DOWN", "HALF_UP")
"""Those that data may have, in words."""
POWERS = (
    "train with scales that are powers of two (Brevitas: restrict_scaling_type=RestrictValueType.POWER_OF_TWO, as the "
    "...FixedPoint quantizers have)"
)


@dataclass(frozen=True)
class Quant:
    """A Quant node. scale: float32, of the shape that the node gives it. lo, hi: of the integers, `zero` included.

    late_zero: whether the zero point is added once the quotient is rounded, as by QuantizeLinear. It decides ties.
    """

    node: Node
    scale: np.ndarray
    bits: int
    signed: bool
    narrow: bool
    rounding: str
    zero: int = 0
    late_zero: bool = False

    @property
    def bipolar(self) -> bool:
        return self.signed and self.bits == 1

    @property
    def lo(self) -> int:
        if self.bipolar or not self.signed:
            return -1 if self.bipolar else 0
        return -(1 << self.bits - 1) + self.narrow

    @property
    def hi(self) -> int:
        if self.bipolar:
            return 1
        return (1 << self.bits - 1) - 1 if self.signed else (1 << self.bits) - 1 - self.narrow

    @property
    def powers(self) -> bool:
        """Whether all scales are powers of two."""
        return bool((np.frexp(self.scale)[0] == 0.5).all())

    def integers(self, x: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
        """Of float32 values, the zero point taken away again; `scale` stands in place of the node's own."""
        y = x / (self.scale if scale is None else scale)
        if self.bipolar:
            return np.where(y >= 0, 1, -1).astype(np.float32)
        zero, lo, hi = (np.float32(n) for n in (self.zero, self.lo, self.hi))
        if self.late_zero:
            return ROUNDINGS[self.rounding](np.clip(y, lo - zero, hi - zero))
        return ROUNDINGS[self.rounding](np.clip(y + zero, lo, hi)) - zero

    def fracs(self, rank: int) -> np.ndarray:
        """Fractional bits of scales that are powers of two, with `rank` axes."""
        scale = self.scale.reshape((1,) * (rank - self.scale.ndim) + self.scale.shape)
        return (1 - np.frexp(scale)[1]).astype(np.int64)

    def types(self, rank: int, rounding: Rounding = Rounding.RND_CONV) -> Types:
        """What values of `rank` axes are rounded to; of bipolar ones, a type that holds -1 and 1."""
        fracs = self.fracs(rank) if self.powers else np.zeros((1,) * rank, np.int64)
        one = np.ones_like(fracs)
        symmetric = self.signed and (self.narrow or self.bipolar)
        bits = 1 if self.bipolar else self.bits - self.signed
        return Types(self.signed * one, bits * one, fracs, rounding, Overflow.SAT_SYM if symmetric else Overflow.SAT)

    def constant_types(self, rank: int) -> Types:
        """The same for constants, without the zero point."""
        types = self.types(rank)
        if not self.zero:
            return types
        one = np.ones_like(types.frac)
        return Types(one, (self.bits + 1) * one, types.frac, types.rounding, Overflow.SAT_SYM)

    def check_activation(self) -> None:
        """Refuses what a type of ours does not do to data (constants are computed here, and may be of any kind)."""
        if not self.signed and self.narrow:
            raise Unconvertible(f"it is unsigned and narrow: its largest integer is {self.hi}", "train with narrow=0")
        self.data_rounding()

    def data_rounding(self) -> Rounding:
        """How our types round as the node does: without sign, the modes that differ below 0 only are alike."""
        if self.bipolar or self.rounding == "FLOOR":
            return Rounding.TRN
        if self.rounding in ("ROUND", "HALF_EVEN"):
            return Rounding.RND_CONV
        if not self.signed and self.rounding in ("DOWN", "ROUND_TO_ZERO"):
            return Rounding.TRN
        if not self.signed and self.rounding == "HALF_UP":
            return Rounding.RND
        kind = "signed" if self.signed else "unsigned"
        raise Unconvertible(
            f"rounding_mode={self.rounding!r} of {kind} data is not supported", "train with ROUND or FLOOR"
        )


def quant_of(node: Node, constants: dict[str, np.ndarray]) -> Quant:
    """A node whose scale, zero point and width are constants."""
    bipolar = node.kind == "BipolarQuant"
    names = ["scale"] if bipolar else ["scale", "zero point", "bit width"]
    if len(node.inputs) != 1 + len(names):
        raise Unconvertible(f"it has {len(node.inputs)} inputs, not {1 + len(names)}", "export it again")
    held = []
    for what, name in zip(names, node.inputs[1:], strict=True):
        if name not in constants:
            raise Unconvertible(f"its {what} '{name}' is no constant", "export the model in evaluation mode")
        held.append(np.asarray(constants[name], np.float32))
    scale = held[0]
    if scale.size == 0 or not (np.isfinite(scale) & (scale > 0)).all():
        raise Unconvertible(f"its scale is {_some(scale)}", "train with scales above 0")
    if bipolar:
        return Quant(node, scale, 1, True, False, "ROUND")
    zero, bits = held[1:]
    if zero.size == 0 or (zero != zero.flat[0]).any() or zero.flat[0] != np.rint(zero.flat[0]):
        raise Unconvertible(
            f"its zero point is {_some(zero)}, or they differ: one whole number is supported",
            "train with symmetric quantizers, whose zero point is 0 (Brevitas: ZeroZeroPoint)",
        )
    if bits.size != 1 or bits.item() != np.rint(bits.item()) or not 1 <= bits.item() <= 64:
        raise Unconvertible(f"its bit width is {_some(bits)}", "use one whole number of bits, 1 to 64")
    rounding = str(node.get("rounding_mode", "ROUND")).upper()
    if rounding not in ROUNDINGS:
        raise Unconvertible(f"rounding_mode={rounding!r} is not known", f"use one of {', '.join(ROUNDINGS)}")
    signed, narrow = node.get("signed", 1), node.get("narrow", 0)
    quant = Quant(node, scale, int(bits.item()), bool(signed), bool(narrow), rounding, int(zero.flat[0]))
    if quant.zero and (quant.bipolar or not quant.lo <= quant.zero <= quant.hi):
        raise Unconvertible(f"its zero point {quant.zero} lies outside {quant.lo}..{quant.hi}", "export it again")
    return quant


def _some(values: Any) -> str:
    flat = np.asarray(values).ravel()
    return f"{flat[0]:g}" if flat.size else "missing"
