"""Exact types of other libraries, as quantizers of ours that hold them and can be trained on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.quantizers import FracQuantizer, Quantizer, WidthQuantizer
from hgq.quantizers.base import LARGEST_BITS


@dataclass(frozen=True)
class Types:
    """What a quantizer of another library rounds a tensor to.

    signed, bits, frac: sign flag, magnitude bits (without the sign), fractional bits; whole numbers, in an array with
        an axis for each of the tensor (no batch axis), of size 1 where all elements share a type.
    """

    signed: np.ndarray
    bits: np.ndarray
    frac: np.ndarray
    rounding: Rounding
    overflow: Overflow

    @classmethod
    def from_kif(cls, k: Any, i: Any, f: Any, rounding: Rounding, overflow: Overflow) -> Types:
        """From sign flag, integer bits without the sign, fractional bits; ``k + i + f <= 0`` is the constant 0."""
        k, i, f = (np.asarray(a).astype(np.int64) for a in np.broadcast_arrays(k, i, f))
        live = k + i + f > 0
        return cls(np.where(live, k, 0), np.where(live, i + f, 0), np.where(live, f, 0), rounding, overflow)

    @classmethod
    def of(cls, types: FixedArray) -> Types:
        """Types that a tensor is known to have: rounding to them changes nothing."""
        signed = types.signed.astype(np.int64)
        return cls(signed, types.width - signed, types.frac, Rounding.RND, Overflow.WRAP)

    def fixed(self, shape: tuple[int, ...]) -> FixedArray:
        """The same for each element of a tensor of `shape`."""
        return FixedArray(self.signed > 0, self.bits + self.signed, self.frac).broadcast_to(shape)

    def shared(self) -> Types:
        """One type for each index of the last axis, which holds those of all others."""
        rows = [FixedArray(*(np.moveaxis(a, -1, 0) for a in self.fixed(self.bits.shape)._arrays()))]
        covers = [FixedArray(*(a[n] for a in rows[0]._arrays())).cover() for n in range(self.bits.shape[-1])]
        shape = (1,) * (self.bits.ndim - 1) + (-1,)
        signed, width, frac = (
            np.array([getattr(t, name) if t else 0 for t in covers], np.int64).reshape(shape)
            for name in ("signed", "width", "frac")
        )
        return Types(signed, width - signed, frac, self.rounding, self.overflow)

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Types:
        """The same with its arrays changed alike, as with axes in another order."""
        return Types(change(self.signed), change(self.bits), change(self.frac), self.rounding, self.overflow)

    @property
    def granularity(self) -> str:
        if self.bits.size == 1:
            return "tensor"
        return "channel" if self.bits.size == self.bits.shape[-1] else "element"

    def quantizer(self, *, constant: bool = False) -> Quantizer:
        """A template for a layer; `store` fills in the types once the layer is built.

        A saturating type becomes a `WidthQuantizer`, whose width and range are trained. One that wraps, or one whose
        elements differ in sign, becomes a `FracQuantizer`: of a constant it has whatever range the values need.
        """
        if (self.bits > LARGEST_BITS).any() and not constant:
            raise Unconvertible(
                f"it rounds to {int(self.bits.max())} bits besides the sign; float32 holds {LARGEST_BITS:.0f}",
                "train with fewer bits",
            )
        if (np.abs(self.frac) > 60).any():
            raise Unconvertible(
                f"it rounds to {int(self.frac.flat[np.abs(self.frac).argmax()])} fractional bits; -60 to 60 is "
                "supported",
                "train with other types",
            )
        how: dict[str, Any] = {"rounding": self.rounding, "overflow": self.overflow, "granularity": self.granularity}
        if self._saturates:
            return WidthQuantizer(signed=bool(self.signed[self.bits > 0].all()), **how)
        return FracQuantizer(**how)

    @property
    def _saturates(self) -> bool:
        live = self.signed[self.bits > 0]
        sign_alone = ((self.bits == 0) & (self.signed > 0)).any() and self.overflow == Overflow.SAT
        alike = live.size == 0 or (live == live.flat[0]).all()
        return bool(self.overflow != Overflow.WRAP and alike and not sign_alone and (self.bits <= LARGEST_BITS).all())

    def store(self, quantizer: Quantizer | None) -> None:
        """Puts the types into the layer's own quantizer."""
        signed, bits, frac = (np.broadcast_to(a, quantizer.group) for a in (self.signed, self.bits, self.frac))
        if isinstance(quantizer, WidthQuantizer):
            quantizer.b.assign(bits.astype(np.float64))
            quantizer.i.assign((bits - frac).astype(np.float64))
        elif isinstance(quantizer, FracQuantizer):
            quantizer.f.assign(frac.astype(np.float64))
            if quantizer.tracks_data:
                hi = (1 << bits) - 1
                lo = np.where(signed > 0, -hi if self.overflow == Overflow.SAT_SYM else -hi - 1, 0)
                quantizer.lo.assign(np.ldexp(lo.astype(np.float64), -frac))
                quantizer.hi.assign(np.ldexp(hi.astype(np.float64), -frac))
                quantizer.seen.assign(np.ones(()))


def store_constant(layer: Any, what: str, variable: Any, latent: np.ndarray, wanted: np.ndarray) -> None:
    """Gives a variable of a layer values whose quantised form, as the layer computes it, is `wanted`.

    The values are `latent`, which training goes on from, but `wanted` itself where our rounding makes something else
    of them (ties, values that wrapped).

    Raises:
        Unconvertible: no value of the variable has that form.
    """
    variable.assign(latent)
    made = layer.constants()[what][0]
    if not np.array_equal(made, wanted):
        variable.assign(np.where(made == wanted, latent, wanted))
        made = layer.constants()[what][0]
    if not np.array_equal(made, wanted):
        where = tuple(int(n) for n in np.argwhere(made != wanted)[0])
        raise Unconvertible(
            f"its {what} is {wanted[where]} at {where}, which its type does not hold: the nearest is {made[where]}",
            "train with a type that holds it",
        )
