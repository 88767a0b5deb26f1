"""Inputs that reach all that the parts which only one of two forms holds can tell apart: few inputs at random do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms, parts

AIMED, AIMED_AT_ONE = 1 << 12, 1 << 15
"""Inputs in all; where there is one such part, which one fault leaves."""
MOST_VALUES = 4096
"""Of a leaf that is set so that some of its bits are as wished."""
MOST_READ = 15
"""Bits of leaves, or whole leaves, that a part reads."""
SEED = 20261122


def aimed(
    space: Space, a: Form, b: Form, integers: Callable[[dict[int, np.ndarray]], np.ndarray]
) -> dict[int, np.ndarray]:
    """Values of each leaf; empty where no such part reads few values of narrow leaves alone.

    A part is a table, or a window of a short sum, which is what a table of a sum becomes. Each pattern of what it reads
    is met by as many inputs as there is room for. All other leaves are as in inputs at random for which a form is
    something else than usual: behind a ReLU most inputs give the same 0.

    Args:
        integers: those of the form, for values of the leaves.
    """
    known = [groups for reads in _read_by_one(space, a, b) if (groups := _groups(space, reads))]
    sizes = [math.prod(len(group) for group in groups.values()) for groups in known]
    room = AIMED_AT_ONE if len(known) == 1 else AIMED
    while known and sum(sizes) > room:  # the largest are last
        known.pop(), sizes.pop()
    if not known:
        return {}
    each, rng = room // sum(sizes), np.random.default_rng(SEED)
    leaves = [(n, atom.lo, atom.hi) for n, atom in enumerate(space.atoms) if atom.kind == "leaf"]
    drawn = {n: _drawn_or_end(rng, lo, hi, AIMED) for n, lo, hi in leaves}
    made = integers(dict(drawn))
    usual, times = np.unique(made, return_counts=True)
    alive = np.flatnonzero(made != usual[times.argmax()])
    rows = rng.choice(alive if len(alive) else np.arange(AIMED), each * sum(sizes))
    values = {n: column[rows] for n, column in drawn.items()}
    start = 0
    for groups in known:
        for pattern in itertools.product(*groups.values()):
            for leaf, fitting in zip(groups, pattern, strict=True):
                values[leaf][start : start + each] = rng.choice(fitting, each)
            start += each
    return values


def draws(rng: np.random.Generator, lo: int, hi: int, count: int) -> np.ndarray:
    """Integers of ``lo..hi``, of which the first 2**52 are drawn."""
    return (rng.random(count) * (min(hi - lo, 1 << 52) + 1)).astype(np.int64).astype(object) + lo


def _drawn_or_end(rng: np.random.Generator, lo: int, hi: int, count: int) -> np.ndarray:
    """Integers of ``lo..hi``, of which nearly half are one of the two."""
    found = draws(rng, lo, hi, count)
    found[rng.random(count) < 0.25] = lo
    found[rng.random(count) < 0.25] = hi
    return found


def _read_by_one(space: Space, a: Form, b: Form) -> list[frozenset[int]]:
    """What the parts that only one of the forms holds read, the smallest first: leaves, and windows of leaves."""
    known: dict[int, frozenset[int] | None] = {}
    found = {_read(space, atom, known) for atom in inner_atoms(space, a) ^ inner_atoms(space, b)}
    sets = sorted((one for one in found if one is not None), key=lambda one: (len(one), sorted(one)))
    return [one for n, one in enumerate(sets) if not any(one < larger for larger in sets[n + 1 :])]


def _read(space: Space, atom: int, known: dict[int, frozenset[int] | None]) -> frozenset[int] | None:
    """The leaves and windows of leaves that an atom depends on; None where they are too many."""
    if atom not in known:
        found: frozenset[int] | None = frozenset((atom,))
        if _leaf(space, atom) is None:
            found = frozenset()
            for part in parts(space, atom):
                read = _read(space, part, known)
                found = None if read is None or found is None or len(found | read) > MOST_READ else found | read
                if found is None:
                    break
        known[atom] = found
    return known[atom]


def _leaf(space: Space, atom: int) -> int | None:
    """The leaf that an atom is, or is a window of."""
    one = space.atoms[atom]
    leaf = space.forms[one.args[0]].single if one.kind == "window" else atom
    return leaf if leaf is not None and space.atoms[leaf].kind == "leaf" else None


def _groups(space: Space, reads: frozenset[int]) -> dict[int, list[np.ndarray]]:
    """The values of each leaf, in groups that differ in what is read of them; empty if a leaf has too many."""
    columns: dict[int, list[np.ndarray]] = {}
    for atom in sorted(reads):
        one, leaf = space.atoms[atom], _leaf(space, atom)
        assert leaf is not None
        lo, hi = space.atoms[leaf].lo, space.atoms[leaf].hi
        if hi - lo >= MOST_VALUES:
            return {}
        read = np.arange(lo, hi + 1)
        if one.kind == "window":
            _, low, width = one.args
            read = read >> low if width is None else (read >> low) % (1 << width)
        columns.setdefault(leaf, []).append(read)
    found = {}
    for leaf, seen in columns.items():
        which = np.unique(np.stack(seen), axis=1, return_inverse=True)[1].reshape(-1)
        every = np.arange(space.atoms[leaf].lo, space.atoms[leaf].hi + 1).astype(object)
        found[leaf] = [every[which == group] for group in range(which.max() + 1)]
    return found
