"""What the proof looks into where no rule helps: cases of a sign, all values, what bits can be, tables that match."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.by_input import ByInput
from hgq.verify.proof.cases import same_by_cases
from hgq.verify.proof.choices import negative
from hgq.verify.proof.counterexample import evaluate
from hgq.verify.proof.exhaustive import inputs_that_differ
from hgq.verify.proof.forms import STEPS, Space
from hgq.verify.proof.matched import matched
from hgq.verify.proof.one_input import OneInput
from hgq.verify.proof.patterns import possible
from hgq.verify.proof.rewritten import Possible
from tests.verify.test_proof_forms import Pairs


def test_a_sum_of_many_rounded_inputs_takes_few_steps() -> None:
    space, rng = Space(), np.random.default_rng(3)
    rounded = [space.window(space.scale(space.leaf(n, -300, 500), 1, 16), 5, None) for n in range(60)]
    total = space.sum([(form, int(rng.choice([1, -2, 4, -6, 24, 32]))) for form in rounded], -32)
    space.begin()
    assert space.same(space.window(total, 6, 8), space.add(space.window(total, 6, 9), space.window(total, 14, 1), -256))
    assert space.steps > STEPS - 2500


def split_sum(space: Space, faulty: int = 0) -> tuple[Form, Form]:
    """relu(2 g + x[0])[7:4], and the adder that takes g out where it is negative: x[0] by itself, and g's own bits."""
    x, *others = (space.leaf(n, 0, 15) for n in range(5))
    bit = space.window(x, 0, 1)
    g = space.sum([(others[0], 2), (others[1], -3), (others[2], -1), (others[3], 5)], 6)
    whole = space.sum([(g, 2), (bit, 1)])
    sign = negative(space, g)
    taken = space.add(space.times(sign, bit), space.times(sign, space.window(g, 0, 8)), 2 + faulty)
    return space.window(space.add(whole, taken, -1), 4, 4), space.window(space.limit(whole, None), 4, 4)


def test_a_low_bit_outside_of_the_product_with_its_sign_is_a_matter_of_two_cases() -> None:
    space = Space()
    a, b = split_sum(space)
    assert not space.same(a, b) and same_by_cases(space, a, b)
    assert not same_by_cases(space, *split_sum(space, faulty=2))
    x = space.sum([(space.leaf(n, 0, 15), c) for n, c in ((1, 2), (2, -3))], 6)
    assert not same_by_cases(space, negative(space, x), negative(space, space.scale(x, 1, 1))), "another sign"


def test_what_reads_one_input_is_one_table_of_it_also_inside_of_windows() -> None:
    space = Space()
    leaves = [space.leaf(n, -9, 30) for n in range(40)]
    numbers = [p - 32 * (p >= 16) for p in range(32)]

    def bits(leaf: Form) -> list[int]:
        return [next(iter(space.window(leaf, j, 1).terms)) for j in range(1, 6)]

    def rounded(leaf: Form, faulty: int = 0) -> Form:
        return space.table(bits(leaf), [(n + 1 >> 1) % 8 + faulty * (n == 7) for n in numbers])

    def both(x: Form, y: Form) -> Form:  # in one table
        entries = [(a + 1 >> 1) % 8 - 3 * ((b + 1 >> 1) % 8) for b in numbers for a in numbers]
        return space.table([*bits(x), *bits(y)], entries)

    def cut(parts: list[Form], const: int = 5) -> Form:
        return space.window(space.sum([(part, (-3) ** (n % 4)) for n, part in enumerate(parts)], const), 3, 6)

    def same(a: Form, b: Form) -> bool:
        assert not space.same(a, b)
        space.begin()
        by_input = ByInput(space, OneInput(space))
        return space.same(by_input.form(a), by_input.form(b))

    expected = cut([space.window(space.scale(leaf, 1, 2), 2, 3) for leaf in leaves])
    tables = [rounded(leaf) for leaf in leaves]
    assert same(cut(tables), expected)
    assert same(cut([both(*leaves[:2]), space.constant(0), *tables[2:]]), expected)
    assert not same(cut(tables, 6), expected)
    assert not same(cut([rounded(leaf, faulty=n == 17) for n, leaf in enumerate(leaves)]), expected)


def test_two_forms_of_few_inputs_are_tried_on_all_their_values() -> None:
    space = Space()
    x, y = space.leaf(0, 0, 5), space.leaf(1, 0, 5)
    bits = tuple(next(iter(space.window(form, j, 1).terms)) for j in range(3) for form in (x, y))

    def entries(faulty: int) -> list[int]:
        numbers = [[(p >> 2 * j + k & 1) << j for j in range(3)] for p in range(64) for k in (0, 1)]
        sums = [sum(a) + sum(b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        return [(1 - s >> 1) + (p == faulty) for p, s in enumerate(sums)]

    halved = space.window(space.sum([(x, -1), (y, -1)], 1), 1, None)
    assert not space.same(space.table(bits, entries(-1)), halved)
    assert inputs_that_differ(space, space.table(bits, entries(-1)), halved) == {}
    reached = 0b000011  # x = y = 1
    found = inputs_that_differ(space, space.table(bits, entries(reached)), halved)
    assert found == {0: 1, 1: 1}
    never = 0b101011  # x = 7
    assert inputs_that_differ(space, space.table(bits, entries(never)), halved) == {}


def long_sum(space: Space, first: int, seed: int) -> Form:
    weights = np.random.default_rng(seed).integers(1, 7, 5).tolist()
    return space.sum([(space.leaf(first + n, 0, 31), w) for n, w in enumerate(weights)], -201)


def lookup(space: Space, form: Form, entries: np.ndarray) -> Form:
    """A table of the bits 3 ... of a sum."""
    bits = [space.window(form, j, 1) for j in range(3, form.width)]
    turned = sum((bit.const != 0) << i for i, bit in enumerate(bits))
    atoms = tuple(next(iter(bit.terms)) for bit in bits)
    return space.table(atoms, [int(entries[p ^ turned]) for p in range(1 << len(bits))])


def gate(seed: int, most: int = 9) -> np.ndarray:
    """Entries that depend on the six lowest bits alone in no simple way."""
    return np.random.default_rng(seed).integers(0, most, 1 << 10)


def test_products_of_tables_of_long_sums_are_cut_at_the_tables() -> None:
    space = Space()
    u, v = lookup(space, long_sum(space, 0, 1), gate(1)), lookup(space, long_sum(space, 5, 2), gate(2))
    product = space.window(space.scale(space.times(u, v), 1, 3), 2, None)

    def in_parts(faulty: int) -> Form:
        """The same, from single bits of one factor."""
        sliced = [(space.times(space.window(u, j, 1), v), (1 << j) + (faulty if j == 2 else 0)) for j in range(4)]
        return space.window(space.sum(sliced, 3), 2, None)

    assert not space.same(in_parts(0), product)
    assert inputs_that_differ(space, in_parts(0), product) == {}
    assert inputs_that_differ(space, in_parts(1), product) is None, "tables may take values together that inputs cannot"


def test_bits_of_one_sum_have_the_patterns_that_its_values_give_them() -> None:
    space = Space()
    leaves = [space.leaf(n, 0, 3) for n in range(5)]
    total = space.sum(zip(leaves[:4], (5, 1, 3, 2), strict=True), -21)
    shifted = space.sum([(total, 1), (leaves[4], 16)], 5)  # bits below 4 are those of total + 5
    bits = []
    for form in (space.window(total, 4, 1), space.window(shifted, 3, 1), negative(space, total)):
        bits.append(next(iter(form.terms)))
    every = np.stack(np.meshgrid(*[np.arange(4)] * 5)).reshape(5, -1).astype(object)
    column = {next(iter(leaf.terms)): values for leaf, values in zip(leaves, every, strict=True)}
    seen = sum((evaluate(space, Form(0, {bit: 1}, 0, 1), column) << i) for i, bit in enumerate(bits))
    there = possible(space, bits)
    assert set(np.flatnonzero(there).tolist()) == set(seen.tolist()), "no more, and no fewer"
    assert not there.all()


def test_a_table_of_a_limited_number_and_its_sign_knows_which_entries_there_are() -> None:
    space = Space()
    off = space.add(long_sum(space, 0, 4), space.leaf(7, 0, 300))
    capped = space.limit(off, 20)
    forms = [space.window(capped, j, 1) for j in range(3)]
    forms.append(space.scale(negative(space, space.scale(off, -1, 15)), 1))  # above 15: bit 4, by another name
    there = possible(space, [next(iter(form.terms)) for form in forms])
    values, turned = np.arange(21), sum((form.const != 0) << i for i, form in enumerate(forms))
    assert set(np.flatnonzero(there).tolist()) == set(((values % 8 + 8 * (values > 15)) ^ turned).tolist())
    assert there.sum() == 13


def test_what_reads_one_long_sum_is_tried_on_the_values_of_the_sum() -> None:
    space = Space()
    total = space.sum([(space.leaf(n, 0, 31), (-1) ** n * (n + 1)) for n in range(9)], 3)

    def capped(faulty: int) -> Form:
        return space.add(space.limit(total, None), space.limit(space.scale(total, 1, -20 - faulty), None), -1)

    assert not space.same(capped(0), space.limit(total, 20))
    assert inputs_that_differ(space, capped(0), space.limit(total, 20)) == {}
    assert inputs_that_differ(space, capped(1), space.limit(total, 20)) is None


def test_tables_made_again_without_entries_that_cannot_be_are_the_same_integers() -> None:
    for seed in range(6):
        space = Space()
        total = long_sum(space, 0, seed)
        bits = tuple(next(iter(space.window(total, j, 1).terms)) for j in range(3, total.width))
        there = possible(space, bits)
        inner = space.table(bits, np.where(there, 9 + gate(seed, 6)[: len(there)], 0).tolist())
        assert not there.all() and inner.lo == 0 and Possible(space).form(inner).lo == 9
        read = [space.window(space.scale(inner, 1, 1), j, 1) for j in range(4)]
        bits = tuple(next(iter(form.terms)) for form in read if form.terms)
        outer = space.table(bits, np.random.default_rng(seed).integers(0, 50, 1 << len(bits)).tolist())
        leaves = [next(iter(space.leaf(n, 0, 31).terms)) for n in range(5)]
        column = {leaf: np.random.default_rng(n).integers(0, 32, 500).astype(object) for n, leaf in enumerate(leaves)}
        again = Possible(space).form(outer)
        assert evaluate(space, outer, dict(column)).tolist() == evaluate(space, again, dict(column)).tolist()


def test_tables_of_tables_are_matched_before_what_is_made_of_them_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space()
    f, i, g, o = (lookup(space, long_sum(space, 5 * n, n), gate(n, 32)) for n in range(4))
    state = space.leaf(30, -128, 127)
    cell = space.window(space.add(space.times(f, state), space.times(i, g)), 8, 4)
    curve = np.random.default_rng(9).permutation(16).tolist()
    bits = [next(iter(space.window(cell, j, 1).terms)) for j in range(4)]
    inner = space.table(tuple(bits), curve)
    parts = space.sum([(space.times(space.window(f, j, 1), state), 1 << j) for j in range(5)])
    again = space.window(space.add(parts, space.times(i, g)), 8, 4)
    others = [next(iter(space.window(again, j, 1).terms)) for j in range(4)]

    def outer(faulty: int) -> Form:
        lifted = [(e + 10) % 16 for e in curve]
        lifted[5] ^= faulty
        cut = space.table(tuple(others), lifted)  # in place of the entries, what a few bits hold of them
        return space.times(o, space.window(space.scale(cut, 1, 6), 0, 4))

    whole = space.times(o, inner)
    assert inputs_that_differ(space, outer(0), whole) is None
    assert inputs_that_differ(space, *matched(space, outer(0), whole)) == {}
    assert inputs_that_differ(space, *matched(space, outer(1), whole)) is None
    monkeypatch.setattr("hgq.verify.proof.matched.TRIES", 8)  # too few to notice the fault
    assert inputs_that_differ(space, *matched(space, outer(1), whole)) is None


@pytest.mark.parametrize("seed", range(8))
def test_what_is_said_to_be_the_same_is(seed: int) -> None:
    pairs = Pairs(seed)
    pairs.grow(25)
    space, alone = pairs.space, Possible(pairs.space)
    for (a, x), (b, y) in zip(pairs.every, pairs.every[1:], strict=False):
        space.begin()
        pairs.check(alone.form(a), x)
        if same_by_cases(space, a, b):
            assert x.tolist() == y.tolist()
        found = inputs_that_differ(space, a, b)
        if found == {}:
            assert x.tolist() == y.tolist()
        elif found is not None:
            known = {
                n: np.array([found[one.args[0]]], object) for n, one in enumerate(space.atoms) if one.kind == "leaf"
            }
            assert evaluate(space, a, dict(known)) != evaluate(space, b, dict(known))
