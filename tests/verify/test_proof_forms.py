"""Every rule of forms is an identity: what a form says is compared with plain integer arithmetic."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.choices import choose, clamp, largest, limit, negative, smallest
from hgq.verify.proof.counterexample import counterexample, evaluate
from hgq.verify.proof.dropped import without_dropped_bits
from hgq.verify.proof.forms import Space

RANGES = [(-1, 0), (0, 1), (-8, 7), (0, 15), (0, 11), (-5, 6), (7, 8), (-2, 1), (0, 3), (5, 9)]


class Pairs:
    """Forms, and beside each the integers that it is to be."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.space = Space()
        self.every: list[tuple[Form, np.ndarray]] = []
        for n in range(5):
            lo, hi = RANGES[self.rng.integers(len(RANGES))]
            self.every.append((self.space.leaf(n, lo, hi), self.rng.integers(lo, hi + 1, 64).astype(object)))
        self.known = {next(iter(form.terms)): values for form, values in self.every}

    def pick(self) -> tuple[Form, np.ndarray]:
        return self.every[self.rng.integers(len(self.every))]

    def grow(self, tries: int) -> None:
        """At most so many more forms, each by a rule at random; what takes too many steps is left out."""
        for _ in range(tries):
            self.space.steps = 5000
            with suppress(Exhausted, RecursionError):
                self._grow()

    def _grow(self) -> None:
        space, rng = self.space, self.rng
        (a, x), (b, y) = self.pick(), self.pick()
        kind = rng.integers(9)
        p, q, r = (int(n) for n in rng.integers(-9, 10, 3))
        low, count = int(rng.integers(0, 6)), int(rng.integers(1, 6))
        if kind <= 2:
            made = space.sum([(a, p), (b, q)], r), x * p + y * q + r
        elif kind == 3:
            made = space.window(a, low, None), x >> low
        elif kind == 4:
            made = space.window(a, low, count), (x >> low) % (1 << count)
        elif kind == 5:
            made = negative(space, a), (x < 0).astype(int).astype(object)
        elif kind == 6:
            made = clamp(space, a, min(p, q), max(p, q)), np.minimum(np.maximum(x, min(p, q)), max(p, q))
        elif kind == 7:
            pick, best = (largest, np.maximum) if r > 0 else (smallest, np.minimum)
            made = pick(space, [a, b]), best(x, y)
        elif len(a.terms) * len(b.terms) > 12:
            return
        else:
            sign = negative(space, space.sum([(a, 1), (b, -1)], r))
            made = choose(space, sign, a, b), np.where(x - y + r < 0, x, y)
            if r > 3:
                made = space.times(a, b), x * y
        form, values = made
        if max(abs(form.lo), abs(form.hi)) < 1 << 20 and len(form.terms) < 12:
            self.every.append((form, np.asarray(values, object)))
        self.check(form, values)
        self.check(without_dropped_bits(space, form), values)

    def check(self, form: Form, values: np.ndarray) -> None:
        got = evaluate(self.space, form, dict(self.known))
        assert got.tolist() == values.tolist()
        assert form.lo <= min(values) and max(values) <= form.hi, "bounds"


@pytest.mark.parametrize("seed", range(30))
def test_every_rule_is_an_identity_within_its_bounds(seed: int) -> None:
    pairs = Pairs(seed)
    pairs.grow(60)
    for (a, x), (b, y) in zip(pairs.every, pairs.every[1:], strict=False):
        if pairs.space.same(a, b):
            assert x.tolist() == y.tolist()


def test_functions_of_bits_are_the_entries_that_they_spell() -> None:
    rng = np.random.default_rng(0)
    for trial in range(60):
        space = Space()
        a, b = (space.leaf(n, *RANGES[rng.integers(len(RANGES))]) for n in range(2))
        spelled: list[tuple[int, Form, int, int]] = []
        for form in (a, b):
            for j in range(form.width):
                bit = space.window(form, j, 1)
                if len(bit.terms) == 1 and not bit.const:
                    spelled.append((next(iter(bit.terms)), form, j, len(spelled)))
        x, y = (np.arange(f.lo, f.hi + 1).astype(object) for f in (a, b))
        x, y = np.repeat(x, len(y)), np.tile(y, len(x))
        index = sum(((x if form is a else y) >> j & 1) << place for _, form, j, place in spelled)
        kinds = (3 * x - 5 * y + 2, x * y, x * x + y, rng.integers(-9, 9, len(x)))
        wanted = np.asarray(kinds[trial % 4], object)
        entries = rng.integers(-50, 50, 1 << len(spelled)).astype(object)  # where no numbers lead, anything may stand
        entries[index.astype(int)] = wanted
        made = space.table(tuple(atom for atom, *_ in spelled), entries.tolist())
        known = {next(iter(a.terms)): x, next(iter(b.terms)): y}
        assert evaluate(space, made, known).tolist() == entries[index.astype(int)].tolist()


def bits_of(space: Space, count: int) -> list[int]:
    return [next(iter(space.leaf(n, 0, 1).terms)) for n in range(count)]


@pytest.mark.parametrize("rectified", [False, True])
def test_a_table_may_differ_from_a_sum_in_bits_that_are_dropped(rectified: bool) -> None:
    space = Space()
    atoms = bits_of(space, 6)
    entries = [3 * (p & 1) + 2 * (p >> 1).bit_count() + 2 for p in range(64)]
    wide = space.leaf(6, -40, 40)

    def dropped(faulty: dict[int, int]) -> Form:
        summed = space.table(tuple(atoms), [faulty.get(p, e) for p, e in enumerate(entries)])
        total = space.sum([(wide, 2), (summed, 1)])
        return space.window(space.limit(total, None) if rectified else total, 3, 3)

    right = dropped({})
    lowest, higher = dropped({28: 9}), dropped({28: 10})
    assert not space.same(right, lowest), "there is a rule that needs none of this"
    assert space.same(*(without_dropped_bits(space, form) for form in (right, lowest)))
    assert counterexample(space, right, lowest) is None
    assert not space.same(*(without_dropped_bits(space, form) for form in (right, higher)))
    assert counterexample(space, right, higher) is not None


def test_a_fault_in_one_entry_of_a_large_table_is_found() -> None:
    space = Space()
    atoms = bits_of(space, 11)
    rng = np.random.default_rng(2)
    entries = rng.integers(0, 1000, 1 << 11).tolist()
    for pattern in (0, 1500):
        faulty = [*entries[:pattern], entries[pattern] + 1, *entries[pattern + 1 :]]
        found = counterexample(space, *(space.table(tuple(atoms), column) for column in (entries, faulty)))
        assert found == {i: pattern >> i & 1 for i in range(11)}


def test_the_highest_bit_of_a_short_sum_is_missed_where_one_pattern_in_many_sets_it() -> None:
    """A table of a sum becomes that sum: there is no table to aim at, but a window of few bits."""
    space = Space()
    atoms = bits_of(space, 10)
    short = space.sum([(Form(0, {atom: 1}, 0, 1), 1 if n % 2 else -1) for n, atom in enumerate(atoms)], 11)
    rest = space.sum([(space.leaf(n, -8, 7), 16 if n % 2 else -16) for n in range(10, 50)])

    def neuron(term: Form) -> Form:
        return space.window(limit(space, space.add(rest, term), None), 0, 6)

    found = counterexample(space, neuron(short), neuron(space.window(short, 0, 4)))
    assert found is not None
    assert [found[n] for n in range(10)] == [0, 1] * 5, "only 11 + 5 has the bit"


def test_two_constants_differ_without_any_input() -> None:
    space = Space()
    assert counterexample(space, space.constant(1), space.constant(2)) == {}
    assert counterexample(space, space.constant(2), space.constant(2)) is None


def test_products_are_joined_where_another_holds_one_of_two_equal_factors() -> None:
    space = Space()
    x, y = (space.leaf(n, 0, 31) for n in range(2))
    w, z, total = space.window(space.add(x, y), 1, 2), space.window(y, 0, 3), space.add(x, y, 2)
    parts = [space.times(space.times(w, w), space.window(total, j, 1)) for j in (0, 1)]
    joined = space.sum([(parts[0], 1), (parts[1], 2), (space.times(w, z), 4)])
    assert space.same(
        joined, space.add(space.times(space.times(w, w), space.window(total, 0, 2)), space.times(w, z), 4)
    )
