"""What forms consist of: the records, without the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any


class Form:
    """``const + sum(coefficient * atom)``, and bounds that it never leaves. Belongs to one `Space`; never changed."""

    __slots__ = ("const", "hi", "lo", "terms")

    def __init__(self, const: int, terms: dict[int, int], lo: int, hi: int):
        self.const, self.terms, self.lo, self.hi = const, terms, lo, hi

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.const == other.const and self.terms == other.terms

    __hash__ = None  # type: ignore[assignment]

    @property
    def single(self) -> int | None:
        """The atom, if the form is nothing else."""
        return next(iter(self.terms)) if not self.const and self.only == 1 else None

    @property
    def only(self) -> int:
        """The coefficient of the one atom, 0 if there are several or none."""
        return next(iter(self.terms.values())) if len(self.terms) == 1 else 0

    @property
    def width(self) -> int:
        """Bits of two's complement that hold it, without a sign where it is never negative."""
        return max(self.hi.bit_length(), (~self.lo).bit_length()) + 1 if self.lo < 0 else self.hi.bit_length()


@dataclass(frozen=True, slots=True)
class Atom:
    """An integer in ``lo..hi``. Arguments that are forms are given by their number in the space.

    leaf: (number, lo, hi); an input. With other bounds it is another one: cones number what they read by themselves.
    window: (form, a, n); bits ``a .. a + n - 1`` as a positive number; n None: all from bit a, sign included.
    negative: (form,); 1 where the form is below 0, else 0.
    limit: (form, m); ``min(max(form, 0), m)``; m None: no upper limit.
    largest: (form, form, ...).
    product: (atom, atom, ...), in ascending order.
    table: (atoms of two values each, entries); the entry that they spell, the first lowest; see tables.py.
    choice: (form, form, form); the second where the first is 1, the third where it is 0.
    """

    kind: str
    args: tuple[Any, ...]
    lo: int
    hi: int


class Exhausted(Exception):
    """A question to a space took more steps than it may: what is asked stays unproven."""


def zeros(value: int) -> int:
    """Zero bits at the end of an integer that is not 0."""
    return (value & -value).bit_length() - 1


def content(form: Form) -> int:
    """The largest number that divides all coefficients; 0 for a constant."""
    return gcd(*form.terms.values())


def lowest_zeros(terms: Mapping[int, int]) -> int:
    """Zero bits that all coefficients end in."""
    return min(zeros(c) for c in terms.values())
