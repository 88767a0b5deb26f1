"""Sums of functions of single inputs: their rules are identities, and name alike what is the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

from hgq.verify.proof.atoms import Exhausted, Form
from hgq.verify.proof.choices import negative
from hgq.verify.proof.counterexample import evaluate
from hgq.verify.proof.exhaustive import inputs_that_differ
from hgq.verify.proof.forms import Space
from hgq.verify.proof.functions import Functions
from hgq.verify.proof.one_sum import same_by_one_sum
from hgq.verify.proof.totals import Total
from tests.verify.test_proof_forms import Pairs
from tests.verify.test_proof_looks import gate, long_sum, lookup


class Read:
    """The integers of totals, by what totals and parts are said to be; the bounds of both are checked on the way."""

    def __init__(self, functions: Functions, known: dict[int, np.ndarray]):
        self.functions, self.known = functions, known

    def total(self, total: Total) -> np.ndarray:
        size = len(next(iter(self.known.values())))
        found = np.full(size, total.const, object)
        for leaf, one in total.functions.items():
            lo = self.functions.space.atoms[leaf].lo if leaf >= 0 else 0
            at = self.known[leaf] - lo if leaf >= 0 else self.pattern(leaf)
            found = found + one.values[at.astype(int)]
        for part, c in total.parts.items():
            found = found + c * self.part(part)
        lo, hi = self.functions.shifts.bounds(total)
        assert lo <= found.min() and found.max() <= hi
        return found

    def pattern(self, leaf: int) -> np.ndarray:
        bits, there = self.functions.tables[-1 - leaf]
        index = sum((self.total(bit) != 0).astype(int) << place for place, bit in enumerate(bits))
        assert there[index].all()
        return (np.cumsum(there) - 1)[index]

    def part(self, number: int) -> np.ndarray:
        part = self.functions.shifts.parts[number]
        if part.shift:
            found = self.total(part.shift[0]) >> part.shift[1]
        elif part.limit:
            found = np.clip(self.total(part.limit[0]), 0, part.limit[1])
        elif part.key[0] == "leaf":
            found = self.known[part.key[1]]
        else:
            inside = [self.total(total) for total in part.inside]
            made: dict[str, Callable[[], np.ndarray]] = {
                "product": lambda: np.prod(inside, axis=0),
                "largest": lambda: np.max(inside, axis=0),
                "choice": lambda: np.where(inside[0] == 1, inside[1], inside[2]),
            }
            found = made[part.key[0]]()
        assert part.lo <= found.min() and found.max() <= part.hi
        return found


def add_tables(pairs: Pairs) -> None:
    """Tables of bits of several of the forms, some of which are sums of functions of one input each."""
    for kind in range(9):
        pairs.space.begin()
        with suppress(Exhausted, RecursionError):
            add_table(pairs, kind % 3)


def add_table(pairs: Pairs, kind: int) -> None:
    space, rng = pairs.space, pairs.rng
    (a, x), (b, y) = pairs.pick(), pairs.pick()
    bits = [(space.window(f, j, 1), v >> j & 1) for f, v in ((a, x), (b, y)) for j in range(min(f.width, 4))]
    bits = [(form.single, v) for form, v in bits if form.single is not None]
    atoms = tuple(atom for atom, _ in bits)
    if not 1 < len(atoms) < 9 or len({*atoms}) < len(atoms):
        return
    index = sum(v.astype(int) << place for place, (_, v) in enumerate(bits))
    weights = rng.integers(-9, 9, len(bits))
    sums = sum((np.arange(1 << len(bits)) >> place & 1) * w for place, w in enumerate(weights))
    entries = (sums, sums % 4, rng.integers(0, 30, 1 << len(bits)))[kind]
    form = space.table(atoms, entries.tolist())
    for c in (1, 2, 6):
        low, count, plus = int(rng.integers(0, 3)), int(rng.integers(1, 5)), int(rng.integers(-9, 9))
        total, wanted = space.sum([(form, c), (a, 3)], plus), entries[index].astype(object) * c + x * 3 + plus
        pairs.every += [(total, wanted), (space.window(total, low, count), (wanted >> low) % (1 << count))]


@pytest.mark.parametrize("few", [4096, 10])
@pytest.mark.parametrize("seed", range(6))
def test_every_form_is_the_sum_of_functions_that_is_named(seed: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgq.verify.proof.one_input.MOST_VALUES", few)  # of more, an input is no function
    pairs = Pairs(seed)
    pairs.grow(25)
    add_tables(pairs)
    pairs.grow(25)
    functions = Functions(pairs.space)
    for form, values in pairs.every:
        pairs.space.begin()
        with suppress(Exhausted):
            assert Read(functions, pairs.known).total(functions.total(form)).tolist() == values.tolist()
    for (a, x), (b, y) in zip(pairs.every, pairs.every[1:], strict=False):
        pairs.space.begin()
        with suppress(Exhausted):
            if functions.same(a, b) or same_by_one_sum(functions, a, b):
                assert x.tolist() == y.tolist()


@pytest.mark.parametrize("most", [None, 3, 17, 34])
def test_limits_and_shifts_change_places(most: int | None) -> None:
    space = Space()
    leaves = [space.leaf(n, 0, 7) for n in range(3)]
    every = np.indices((8, 8, 8)).reshape(3, -1).astype(object)
    known = {next(iter(leaf.terms)): column for leaf, column in zip(leaves, every, strict=True)}
    total = space.sum(zip(leaves, (5, -3, 1), strict=True), -7)
    limited, read = space.limit(total, most), Read(functions := Functions(space), known)
    for a in range(1, 5):
        for c in range(-3, 9):
            form = space.window(space.scale(limited, 1, c), a, None)
            assert read.total(functions.total(form)).tolist() == evaluate(space, form, dict(known)).tolist()


def same(space: Space, a: Form, b: Form) -> bool:
    space.begin()
    return Functions(space).same(a, b)


def test_rounded_inputs_are_the_same_as_tables_and_as_windows_where_they_are_cut_and_turned_over() -> None:
    space = Space()
    leaves = [space.leaf(n, -9, 30) for n in range(40)]

    def summed(faulty: int = 0) -> Form:
        """Sum of roundings, by tables of modulo 8, each with another offset modulo 8."""
        parts = []
        for n, leaf in enumerate(leaves):
            bits = tuple(next(iter(space.window(leaf, j, 1).terms)) for j in range(1, 6))
            numbers = [p - 32 * (p >= 16) for p in range(32)]
            entries = [((p + 1 >> 1) + n) % 8 + (faulty if n == 20 and p == 3 else 0) for p in numbers]
            parts.append((space.table(bits, entries), 1))
        return space.sum(parts, -sum(range(40)) % 8)

    def rounded(bits: int) -> Form:
        whole = space.sum([(space.window(space.scale(leaf, 1, 2), 2, None), 1) for leaf in leaves])
        return space.window(whole, 0, bits)

    assert not space.same(space.window(summed(), 0, 3), rounded(3)), "there is a rule that needs none of this"
    assert same(space, space.window(summed(), 0, 3), rounded(3))
    turned = space.scale(space.window(space.scale(summed(), -1, -1), 0, 3), -1, 7)  # all bits turned over, twice
    assert same(space, turned, rounded(3))
    for fault in (1, 2, 4):
        assert not same(space, space.window(summed(fault), 0, 3), rounded(3))
    assert same(space, space.window(summed(8), 0, 3), rounded(3))
    assert not same(space, space.window(summed(), 0, 4), rounded(4)), "the tables say nothing of bit 3"


def test_a_table_of_several_inputs_may_be_their_sum_modulo_what_is_cut_off() -> None:
    space = Space()
    leaves = [space.leaf(n, 0, 15) for n in range(20)]
    halves = [space.window(leaf, 2, 2) for leaf in leaves]

    def cut(bits: int, by: int, faulty: int = 0) -> Form:
        places = [(leaf, j) for leaf in leaves[:2] for j in (2, 3)]
        atoms = tuple(next(iter(space.window(leaf, j, 1).terms)) for leaf, j in places)
        entries = [((p & 3) + 3 * (p >> 2)) % 4 + (faulty if p == 11 else 0) for p in range(16)]
        return space.window(space.sum([(space.table(atoms, entries), by), *((h, 1) for h in halves[2:])], 3), 1, bits)

    def whole(bits: int, by: int) -> Form:
        parts = [(halves[0], by), (halves[1], 3 * by), *((h, 1) for h in halves[2:])]
        return space.window(space.sum(parts, 3), 1, bits)

    assert not space.same(cut(2, 2), whole(2, 2))
    assert (
        same(space, cut(2, 2), whole(2, 2))
        and same(space, cut(2, -6), whole(2, -6))
        and same(space, cut(4, 8), whole(4, 8))
    )
    assert not same(space, cut(3, 2), whole(3, 2)), "modulo 16 the table counts modulo 8, which it does not hold"
    assert not same(space, cut(2, 1), whole(2, 1))
    assert not same(space, cut(2, 2, faulty=1), whole(2, 2)) and same(space, cut(2, 2, faulty=4), whole(2, 2))


def signed_sum(space: Space, faulty: str = "") -> tuple[Form, Form]:
    """relu(s) >> 3 for a sum s of rounded inputs; and its bits, each from a sum of its own, where s is not negative."""
    leaves = [space.leaf(n, 0, 200 + 7 * n) for n in range(4)]
    rounded = [space.window(space.scale(leaf, 1, 2), 2, None) for leaf in leaves]
    s = space.sum(zip(rounded, (3, -2, 1, -1), strict=True), 5)
    top = s.width - 1
    sign = space.window(s if faulty != "sign" else space.scale(s, 1, 1), top, 1)
    low = space.window(space.sum([(s, 1), (rounded[0], 32 if faulty != "low" else 16)], 64), 0, 5)
    masked = space.times(space.scale(sign, -1, 1), low)
    high = space.times(space.scale(sign, -1, 1), space.window(s, 5, top - 5))
    found = space.add(space.window(masked, 3, None), high, 4)
    return found, space.window(space.limit(s, None), 3, None)


def test_bits_signs_and_limits_of_one_sum_are_tried_for_its_values() -> None:
    space = Space()
    found, expected = signed_sum(space)
    assert not same(space, found, expected)
    assert same_by_one_sum(Functions(space), found, expected)
    for fault in ("sign", "low"):
        space = Space()
        assert not same_by_one_sum(Functions(space), *signed_sum(space, fault))


def test_a_table_of_the_bits_of_one_sum_is_tried_for_its_values() -> None:
    space = Space()
    total = space.sum([(space.leaf(n, 0, 31), c) for n, c in enumerate((3, -2, 1, -1))], 5)
    sign = negative(space, total)
    assert (total.width, total.lo < 0) == (9, True)
    curve = np.random.default_rng(5).integers(0, 30, 16)
    bits = [space.window(total, j, 1) for j in range(4, 8)]
    turned = sum((bit.const != 0) << i for i, bit in enumerate(bits))
    atoms = [next(iter(bit.terms)) for bit in bits]
    half = space.table(tuple(atoms), [int(curve[p ^ turned]) for p in range(16)])

    def whole(faulty: int = 0) -> Form:
        """0 where the sum is negative, by a table with its sign."""
        entries = [0 if p >> 4 else int(curve[p & 15 ^ turned]) + (faulty if p == turned else 0) for p in range(32)]
        return space.table((*atoms, next(iter(sign.terms))), entries)

    gated = space.times(space.scale(sign, -1, 1), half)
    assert not same(space, whole(), gated)
    assert same_by_one_sum(Functions(space), whole(), gated)
    assert not same_by_one_sum(Functions(space), whole(1), gated)


def test_what_depends_on_more_than_one_sum_is_not_said_to_be_the_same() -> None:
    space = Space()
    x, y = space.leaf(0, 0, 255), space.leaf(1, 0, 255)
    functions = Functions(space)
    s = space.sum([(x, 1), (y, 3)], -300)
    off = space.window(space.sum([(x, 1), (y, 7)], -300), 2, 6)  # the same modulo 4, not modulo 256
    gated = [space.times(negative(space, s), form) for form in (off, space.window(s, 2, 6))]
    assert not same_by_one_sum(functions, *gated)


def test_bits_beside_tables_of_one_sum_are_tried_with_these() -> None:
    space = Space()
    sums = [long_sum(space, 5 * n, n) for n in range(3)]
    bits = [window.single for j in range(3, sums[0].width - 1) if (window := space.window(sums[0], j, 1)).single]
    u = space.table(tuple(bits), gate(0, 32)[: 1 << len(bits)].tolist())  # all but the sign
    v, w = (lookup(space, total, gate(n, 32)) for n, total in enumerate(sums[1:]))

    def gated(factor: Form, least: int = 0) -> Form:
        """A product, where the sum is large enough of which one of the factors reads bits."""
        sign = negative(space, space.scale(sums[0], 1, -least))
        return space.window(space.scale(space.times(space.scale(sign, -1, 1), factor), 1, 3), 2, None)

    others = space.times(v, w)
    whole = space.times(u, others)
    in_parts = space.sum([(space.times(space.window(u, j, 1), others), 1 << j) for j in range(5)])
    assert not space.same(gated(in_parts), gated(whole))
    assert inputs_that_differ(space, gated(in_parts), gated(whole)) == {}
    assert inputs_that_differ(space, gated(in_parts, 2), gated(whole)) != {}
    assert inputs_that_differ(space, gated(space.add(in_parts, others)), gated(whole)) != {}


def test_tables_of_other_patterns_are_others() -> None:
    space = Space()
    sums = [space.sum([(space.leaf(2 * n, 0, 31), 1), (space.leaf(2 * n + 1, 0, 31), 3)]) for n in range(3)]
    bits = tuple(next(iter(space.window(total, 2, 1).terms)) for total in sums)
    entries: list[int | None] = [4, 0, 9, 1, 7, 7, 2, 30]
    tables = [space.table(bits, [*entries[:n], None, *entries[n:7]]) for n in (2, 5)]  # the same seven, in order
    assert not same(space, *tables) and same(space, tables[0], tables[0])


def test_evaluated_forms_are_what_the_tests_above_compare() -> None:
    space = Space()
    found, expected = signed_sum(space)
    rng = np.random.default_rng(1)
    known = {n: rng.integers(one.lo, one.hi + 1, 400).astype(object) for n, one in enumerate(space.atoms)
             if one.kind == "leaf"}  # fmt: skip
    assert evaluate(space, found, dict(known)).tolist() == evaluate(space, expected, dict(known)).tolist()
