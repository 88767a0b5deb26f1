"""Shifts and limits of sums of functions: each rule is an identity on integers, so that equal ones get equal names.

Of a function, a shift by a keeps what it is modulo ``2**a`` (`Function.near`) and lets the rest out. Bits that are
dropped go, as long as one term at most is odd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hgq.verify.proof.totals import Sum, Total


@dataclass(frozen=True, slots=True)
class Part:
    """What is no sum of functions, in ``lo..hi``. key: what it is, with parts and sums by number.

    shift: (s, a) where it is ``s >> a``. limit: (s, m) where it is ``min(max(s, 0), m)``, without m if that is None.
    inside: what a product, a largest one or a choice is made of, in the order of the key.
    """

    key: tuple
    lo: int
    hi: int
    shift: tuple[Total, int] | None = None
    limit: tuple[Total, int | None] | None = None
    inside: tuple[Total, ...] = ()


class Shifts:
    """All parts, and what makes shifts and limits of them. step: is called for each shift, and may raise."""

    def __init__(self, step: Callable[[], None]):
        self.step = step
        self.parts: list[Part] = []
        self._part_of: dict[tuple, int] = {}
        self._number_of: dict[tuple, int] = {}

    def part(self, part: Part) -> int:
        """The number of a part, the same for those of equal keys."""
        if part.key not in self._part_of:
            self._part_of[part.key] = len(self.parts)
            self.parts.append(part)
        return self._part_of[part.key]

    def number(self, total: Total) -> int:
        """The number of a total, the same for equal ones."""
        return self._number_of.setdefault(total.key, len(self._number_of))

    def bounds(self, total: Total) -> tuple[int, int]:
        lo = hi = total.const
        for one in total.functions.values():
            lo, hi = lo + one.lo, hi + one.hi
        for part, c in total.parts.items():
            ends = c * self.parts[part].lo, c * self.parts[part].hi
            lo, hi = lo + min(ends), hi + max(ends)
        return lo, hi

    def reach(self, total: Total) -> int:
        """The least a with the sum in ``-2**a .. 2**a - 1``: what lies above is its sign."""
        lo, hi = self.bounds(total)
        return max((~lo if lo < 0 else lo).bit_length(), (~hi if hi < 0 else hi).bit_length())

    def add_shift(self, to: Sum, total: Total, a: int, c: int) -> None:
        """Adds ``c * (total >> a)``."""
        self.step()
        if a == 0:
            to.add(total, c)
            return
        if self._add_known(to, total, a, c):
            return
        size = 1 << a
        rest = Sum(total.const % size)
        to.const += c * (total.const >> a)
        for leaf, one in total.functions.items():
            near, over = one.near(a)
            rest.function(leaf, near)
            to.function(leaf, over, c)
        for part, e in total.parts.items():
            left = (e + size // 2 - 1) % size - size // 2 + 1
            if left:
                rest.parts[part] = left
            if e != left:
                to.part(part, c * (e - left >> a))
        self._add_rest(to, rest.total(), a, c)

    def _add_known(self, to: Sum, total: Total, a: int, c: int) -> bool:
        """As `add_shift` where the bounds tell, or that a shift by less is enough; False where they do not."""
        lo, hi = self.bounds(total)
        if lo >> a == hi >> a:
            to.const += c * (lo >> a)
            return True
        if hi >> a == (lo >> a) + 1:  # one of two: a sign
            top = hi >> a
            moved = Total(total.const - (top << a), total.functions, total.parts)
            reach = self.reach(moved)
            if reach < a:
                to.const += c * top
                self.add_shift(to, moved, reach, c)
                return True
        return False

    def _add_rest(self, to: Sum, total: Total, a: int, c: int) -> None:
        """As `add_shift`, of what is left of a sum modulo ``2**a``."""
        if self._add_known(to, total, a, c):
            return
        low = min(total.low_zeros(), a)
        if low:
            less = Sum(total.const >> low)
            for leaf, one in total.functions.items():
                less.function(leaf, one.other(one.values >> low))
            less.parts = {part: e >> low for part, e in total.parts.items()}
            self.add_shift(to, less.total(), a - low, c)
            return
        leaves, odd = total.odd()
        if len(leaves) == 1 and not odd:  # floor((2 g + f) / 2) = g + floor(f / 2)
            half = Sum(total.const >> 1)
            for leaf, one in total.functions.items():
                values = one.values + (total.const & 1 if leaf == leaves[0] else 0)
                half.function(leaf, one.other(values >> 1))
            half.parts = {part: e >> 1 for part, e in total.parts.items()}
            self.add_shift(to, half.total(), a - 1, c)
            return
        inner = [part for part, e in total.parts.items() if e in (1, -1) and self.parts[part].shift]
        if len(inner) == 1:  # r + (f >> k) = (2**k * r + f) >> k
            if total.parts[inner[0]] < 0:
                self._add_negated(to, total, a, c)
                return
            f, k = self.parts[inner[0]].shift or (total, 0)
            joined = Sum()
            joined.add(total, 1 << k)
            joined.part(inner[0], -1 << k)
            joined.add(f)
            self.add_shift(to, joined.total(), a + k, c)
            return
        alone = total.alone()
        if alone is not None and self.parts[alone[0]].limit and alone[1] in (1, -1):
            if alone[1] < 0:
                self._add_negated(to, total, a, c)
                return
            # (clamp(x, 0, m) + c) >> a = clamp((x + c) >> a, c >> a, (m + c) >> a): what never falls changes places
            x, most = self.parts[alone[0]].limit or (total, None)
            shifted = Sum()
            self.add_shift(shifted, Total(x.const + total.const, x.functions, x.parts), a, 1)
            to.add(self.limited(shifted.total(), None if most is None else most + total.const >> a), c)
            return
        if self._mirrored(total, a).key < Total(0, total.functions, total.parts).key:
            self._add_negated(to, total, a, c)
            return
        top = 1 << a - 1
        if total.const >= top:  # Hermite: (h + 2**(a - 1)) >> a  =  (h >> a - 1) - (h >> a)
            total = Total(total.const - top, total.functions, total.parts)
            self.add_shift(to, total, a - 1, c)
            c = -c
        lo, hi = self.bounds(total)
        to.part(self.part(Part(("shift", self.number(total), a), lo >> a, hi >> a, shift=(total, a))), c)

    @staticmethod
    def _mirrored(total: Total, a: int) -> Total:
        """What is left of ``-total`` modulo ``2**a``, but for the constant."""
        found = Sum()
        for leaf, one in total.functions.items():
            found.function(leaf, one.times(-1).near(a)[0])
        found.parts = {part: -e if 2 * e != 1 << a else e for part, e in total.parts.items()}
        return found.total()

    def _add_negated(self, to: Sum, total: Total, a: int, c: int) -> None:
        """As `add_shift`, by ``x >> a = -((2**a - 1 - x) >> a)``."""
        other = Sum((1 << a) - 1)
        other.add(total, -1)
        self.add_shift(to, other.total(), a, -c)

    def limited(self, total: Total, most: int | None) -> Total:
        """``min(max(total, 0), most)``; None: no upper limit."""
        lo, hi = self.bounds(total)
        if most is not None and hi <= most:
            most = None
        found = Sum()
        if hi <= 0:
            return found.total()
        if lo < 0:
            key = "limit", self.number(total), most
            found.part(self.part(Part(key, 0, hi if most is None else most, limit=(total, most))), 1)
        elif most is None:
            return total
        else:  # min(x, m) = m - max(m - x, 0)
            above = Sum(most)
            above.add(total, -1)
            found.const = most
            found.add(self.limited(above.total(), None), -1)
        return found.total()
