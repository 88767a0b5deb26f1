"""Inputs that reach every entry of the tables that only one of two forms holds: few inputs at random do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms

AIMED, AIMED_AT_ONE = 1 << 12, 1 << 15
"""Inputs in all; where there is one such table, which one fault leaves."""
MOST_VALUES = 4096
"""Of a leaf that is set so that some of its bits are as wished."""
SEED = 20261122


def aimed(
    space: Space, a: Form, b: Form, integers: Callable[[dict[int, np.ndarray]], np.ndarray]
) -> dict[int, np.ndarray]:
    """Values of each leaf; empty where no such table reads bits of narrow leaves alone, or there are too many entries.

    Each entry is met by as many inputs as there is room for. All other leaves are as in inputs at random for which a
    form is something else than usual: behind a ReLU most inputs give the same 0.

    Args:
        integers: those of the form, for values of the leaves.
    """
    only = sorted({space.atoms[table].args[0] for table in _tables(space, a) ^ _tables(space, b)})
    known = [(bits, reads) for bits in only if (reads := _reads(space, bits)) is not None]
    count = sum(1 << len(bits) for bits, _ in known)
    room = AIMED_AT_ONE if len(known) == 1 else AIMED
    if not 0 < count <= room:
        return {}
    each, rng = room // count, np.random.default_rng(SEED)
    leaves = [(n, atom.lo, atom.hi) for n, atom in enumerate(space.atoms) if atom.kind == "leaf"]
    drawn = {n: _drawn_or_end(rng, lo, hi, AIMED) for n, lo, hi in leaves}
    made = integers(dict(drawn))
    usual, times = np.unique(made, return_counts=True)
    alive = np.flatnonzero(made != usual[times.argmax()])
    rows = rng.choice(alive if len(alive) else np.arange(AIMED), each * count)
    values = {n: column[rows] for n, column in drawn.items()}
    start = 0
    for bits, reads in known:
        for pattern in range(1 << len(bits)):
            for leaf, (every, spelled, mask) in reads.items():
                fitting = every[spelled == pattern & mask]
                if len(fitting):
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


def _reads(space: Space, bits: Iterable[int]) -> dict[int, tuple[np.ndarray, np.ndarray, int]] | None:
    """Of each leaf whose bits are among `bits`: its values, what these bits are for each, and which bits they are."""
    found: dict[int, tuple[np.ndarray, np.ndarray, int]] = {}
    for i, bit in enumerate(bits):
        one = space.atoms[bit]
        leaf = space.forms[one.args[0]].single if one.kind == "window" else bit
        if leaf is None or space.atoms[leaf].kind != "leaf":
            return None
        lo, hi = space.atoms[leaf].lo, space.atoms[leaf].hi
        if hi - lo >= MOST_VALUES:
            return None
        every, spelled, mask = found.get(leaf, (np.arange(lo, hi + 1), 0, 0))
        taken = every != 0
        if one.kind == "window":
            _, a, n = one.args
            taken = (every >> a if n is None else (every >> a) % (1 << n)) != 0
        found[leaf] = every, spelled + (taken.astype(np.int64) << i), mask | 1 << i
    return {leaf: (every.astype(object), spelled, mask) for leaf, (every, spelled, mask) in found.items()}


def _tables(space: Space, form: Form) -> set[int]:
    """All tables that a form is made of."""
    return {atom for atom in inner_atoms(space, form) if space.atoms[atom].kind == "table"}
