"""Two forms of few numbers, compared for every value of these: for tables in place of whole neurons.

Asked only where two forms are not the same by the rules. The numbers are inputs, or sums of inputs of which both forms
hold multiples only; each is given every value in its bounds, one independent of the other, which is more than there
can be: forms that are equal then are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.counterexample import evaluate
from hgq.verify.proof.forms import Space

MOST = 1 << 14
"""Combinations of values in all."""

Sum = tuple[tuple[int, int], ...]
"""Leaves and coefficients without a common divisor, the first positive."""


def equal_throughout(space: Space, a: Form, b: Form) -> bool:
    """Whether two forms are the same for every value of the few numbers that they are made of; False if too many."""
    sums: set[Sum] = set()
    seen: set[int] = set()
    for form in (a, b):
        _add_sums(space, form, sums, seen)
    return _equal(space, a, b, sorted({((leaf, 1),) for one in sums for leaf, _ in one})) or (
        any(len(one) > 1 for one in sums) and _equal(space, a, b, sorted(sums))
    )


def _equal(space: Space, a: Form, b: Form, numbers: list[Sum]) -> bool:
    every = []
    for one in numbers:
        ends = [sorted((c * space.atoms[leaf].lo, c * space.atoms[leaf].hi)) for leaf, c in one]
        every.append(range(sum(lo for lo, _ in ends), sum(hi for _, hi in ends) + 1))
    if prod(map(len, every)) > MOST:
        return False
    grid = np.meshgrid(*[np.array(values, object) for values in every], indexing="ij")
    columns = {one: column.ravel() for one, column in zip(numbers, grid, strict=True)}
    size = prod(map(len, every))

    def split(form: Form) -> tuple[np.ndarray, Mapping[int, int]]:
        """The constant and the leaves of a form; the terms that are no leaves."""
        total = np.full(size, form.const, object)
        leaves, rest = _parts(space, form)
        one, by = _primitive(leaves)
        if one in columns:
            return total + columns[one] * by, rest
        for leaf, c in leaves.items():
            total = total + columns[(leaf, 1),] * c
        return total, rest

    known: dict[int, np.ndarray] = {}
    return bool((evaluate(space, a, known, split) == evaluate(space, b, known, split)).all())


def _parts(space: Space, form: Form) -> tuple[dict[int, int], dict[int, int]]:
    """The terms that are leaves, and the others."""
    leaves = {atom: c for atom, c in form.terms.items() if space.atoms[atom].kind == "leaf"}
    return leaves, {atom: c for atom, c in form.terms.items() if atom not in leaves}


def _primitive(leaves: Mapping[int, int]) -> tuple[Sum, int]:
    """(s, k) with `leaves` = k * s."""
    if not leaves:
        return (), 0
    terms = sorted(leaves.items())
    by = gcd(*leaves.values()) * (1 if terms[0][1] > 0 else -1)
    return tuple((leaf, c // by) for leaf, c in terms), by


def _add_sums(space: Space, form: Form, found: set[Sum], seen: set[int]) -> None:
    """Adds the sums of leaves that a form and all in it are made of."""
    leaves, rest = _parts(space, form)
    if leaves:
        found.add(_primitive(leaves)[0])
    for atom in rest:
        if atom not in seen:
            seen.add(atom)
            for inner in _inner(space, atom):
                _add_sums(space, inner, found, seen)


def _inner(space: Space, atom: int) -> list[Form]:
    """The forms that an atom holds."""
    one = space.atoms[atom]
    if one.kind in ("table", "product"):
        atoms = one.args[0] if one.kind == "table" else one.args
        return [Form(0, {part: 1}, 0, 0) for part in atoms]
    numbers = one.args[:1] if one.kind in ("window", "limit", "negative") else one.args
    return [space.forms[number] for number in numbers]
