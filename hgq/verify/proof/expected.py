"""What an element of the IR is as a form: the other side of the comparison."""

from __future__ import annotations

from hgq.fixed import Overflow, Rounding
from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.choices import clamp, largest, limit, smallest
from hgq.verify.proof.cones import Cones
from hgq.verify.proof.forms import Space
from hgq.verify.proof.tables import MOST_BITS, of_values


class Expected:
    """Forms of cones over the leaves of one module."""

    def __init__(self, space: Space, cones: Cones, leaves: list[Form]):
        self.space, self.cones, self.leaves = space, cones, leaves
        self._made: dict[int, Form | str] = {}

    def form(self, cone: int) -> Form | str:
        """The form of a cone, or why it has none."""
        if cone not in self._made:
            made: Form | str
            self.space.begin()
            try:
                made = self._make(self.cones.keys[cone])
            except _NoForm as reason:
                made = str(reason)
            except (Exhausted, RecursionError):
                made = "its meaning takes too many steps"
            self._made[cone] = made
        return self._made[cone]

    def _of(self, cone: int) -> Form:
        found = self.form(cone)
        if isinstance(found, str):
            raise _NoForm(found)
        return found

    def _make(self, key: tuple) -> Form:
        space, (kind, *args) = self.space, key
        if kind == "leaf":
            return self.leaves[args[0]]
        if kind == "foreign":  # what the module does not read: numbers below 0 are nobody's
            return space.leaf(-1 - args[0], args[1], args[2])
        if kind == "unknown":
            raise _NoForm(f"it reads {args[0][0]}[{args[0][1]}], which is on no wire and not proven to be constant")
        if kind == "const":
            return space.constant(args[0])
        if kind == "sum":
            return space.sum([(self._of(cone), c) for cone, c in args[1]], args[0])
        if kind == "product":
            a, b = (self._of(cone) for cone in args)
            if len(a.terms) * len(b.terms) > 2000:
                raise _NoForm("a product of long sums")
            return space.times(a, b)
        if kind == "relu":
            return limit(space, self._of(args[0]), None)
        if kind == "clamp":
            return clamp(space, self._of(args[0]), args[1], args[2])
        if kind == "largest":
            return largest(space, [self._of(cone) for cone in args[0]])
        if kind == "smallest":
            return smallest(space, [self._of(cone) for cone in args[0]])
        if kind == "lookup":
            return self._lookup(*args)
        return self._quantized(*args)

    def _quantized(self, cone: int, drop: int, kind: tuple[bool, int], rounding: Rounding, overflow: Overflow) -> Form:
        space, x, (signed, width) = self.space, self._of(cone), kind
        if drop > 0 and rounding == Rounding.RND:
            x = space.scale(x, 1, 1 << drop - 1)
        elif drop > 0 and rounding == Rounding.RND_CONV:
            x = space.scale(space.add(x, space.window(x, drop, 1)), 1, (1 << drop - 1) - 1)
        x = space.window(x, drop, None) if drop > 0 else space.scale(x, 1 << -drop)
        lo, hi = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        if overflow != Overflow.WRAP:
            return clamp(space, x, -hi if signed and overflow == Overflow.SAT_SYM else lo, hi)
        if lo <= x.lo and x.hi <= hi:
            return x
        low = space.window(x, 0, width)
        return space.add(low, space.window(x, width - 1, 1), -(1 << width)) if signed else low

    def _lookup(self, cone: int, lowest: int, entries: tuple[int, ...]) -> Form:
        space, x = self.space, self._of(cone)
        if x.width > MOST_BITS:
            raise _NoForm(f"a table of {x.width} bits")
        found = of_values(space, x, lambda value: entries[value - lowest])
        if found is None:
            raise _NoForm("a table of bits that depend on each other")
        return found


class _NoForm(Exception):
    """A cone that has no form."""
