"""Logic of few bits becomes tables where these take fewer LUTs, and computes the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hgq.fixed import FixedType
from hgq.netlist import Builder, Module, evaluate_module
from hgq.netlist.cost import lut_estimate
from hgq.passes import PIPELINE, tabulate


def computed(module: Module) -> list[list[int]]:
    """What the module gives for every input there can be."""
    nodes = [module.nodes[ref] for port in module.inputs for ref in port.refs]
    x = np.array(list(itertools.product(*(range(n.lo, n.hi + 1) for n in nodes))))
    return [y.tolist() for y in evaluate_module(module, [x])]


def ports(module: Module) -> list[list[tuple[int, int]]]:
    return [[(module.nodes[ref].lo, module.nodes[ref].hi) for ref in port.refs] for port in module.outputs]


def neuron(bits: int, *, read_twice: bool = False) -> Module:
    """One bit of relu(3a + 5b - 7c + ... + 4), of one-bit inputs."""
    b = Builder("m")
    total = b.const(4)
    for x, weight in zip(b.input("x", [(0, 1, 0)] * bits), [3, 5, -7, 11, -2, 9, 13, -6, 1], strict=False):
        shifted = [b.add(x, x, 2, 0), b.sub(x, x, 3, 0), b.keep(x, -1, FixedType.parse("u2f0"))][weight % 3]
        total = b.add(total, shifted)
    kept = b.keep(b.relu(total), 3, FixedType.parse("u1f0"))
    return b.module({"y": [kept, total] if read_twice else [kept]})


def test_a_neuron_of_six_bits_and_one_bit_is_one_lut() -> None:
    before = neuron(6)
    after = tabulate(before)
    assert lut_estimate(before) > 20 and lut_estimate(after) == 1
    assert computed(after) == computed(before)
    assert [n.op for n in after.nodes if n.op not in ("input", "const")] == ["table"]


def test_a_neuron_of_nine_bits_stays_a_sum_of_tables() -> None:
    before = neuron(9)
    after = tabulate(before)
    assert 4 < lut_estimate(after) < lut_estimate(before)
    assert computed(after) == computed(before)


def test_a_sum_that_something_else_reads_is_not_paid_for_twice() -> None:
    before = neuron(6, read_twice=True)
    after = tabulate(before)
    assert computed(after) == computed(before) and ports(after) == ports(before)
    # The whole sum is one table of its bits; the neuron reads that or the inputs, whichever is less.
    assert lut_estimate(after) <= 6 + 2


def test_an_output_keeps_its_range_though_a_table_knows_better() -> None:
    b = Builder("m")
    x, y = b.input("x", [(0, 1, 0), (0, 1, 0)])
    both = b.add(b.sub(b.add(x, y, 1, 0), x, 0, 1), b.add(y, y, 1, 0), 1, 0)  # 5y, by its ops in -4..8
    before = b.module({"y": [both]})
    after = tabulate(before)
    assert ports(after) == ports(before) and computed(after) == computed(before)
    assert lut_estimate(after) < lut_estimate(before)


def test_bits_of_a_wide_word_may_be_what_a_table_reads() -> None:
    b = Builder("m")
    (x,) = b.input("x", [(-1024, 1023, 0)])
    high, low = b.keep(x, 8, FixedType.parse("s3f0")), b.keep(x, 1, FixedType.parse("u3f0"))
    before = b.module({"y": [b.keep(b.relu(b.sub(b.add(high, low, 1, 1), b.const(3))), 2, FixedType.parse("u2f0"))]})
    after = tabulate(before)
    assert computed(after) == computed(before)
    assert lut_estimate(after) <= 2 < lut_estimate(before)


def test_wide_logic_is_left_as_it_is() -> None:
    b = Builder("m")
    x, y = b.input("x", [(-128, 127, 0), (-128, 127, 0)])
    module = b.module({"z": [b.relu(b.add(x, y))]})
    assert tabulate(module) is module


@pytest.mark.parametrize("seed", range(8))
def test_random_logic_computes_the_same_in_no_more_luts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = Builder("m")
    nodes = list(b.input("x", [(lo, lo + int(rng.integers(1, 7)), 0) for lo in rng.integers(-4, 3, 4).tolist()]))
    for _ in range(30):
        x, y = (int(n) for n in rng.choice(nodes[-12:], 2))
        there = b.nodes[x]
        if there.constant:
            continue
        sa, sb = ((int(rng.integers(3)), 0), (0, int(rng.integers(3))))[rng.integers(2)]
        entries = rng.integers(-9, 9, there.hi - there.lo + 1).tolist() if there.hi - there.lo < 64 else []
        made = [
            lambda x=x, y=y, sa=sa, sb=sb: b.add(x, y, sa, sb),
            lambda x=x, y=y, sa=sa, sb=sb: b.sub(x, y, sa, sb),
            lambda x=x: b.relu(x),
            lambda x=x: b.keep(x, int(rng.integers(3)), FixedType(bool(rng.integers(2)), int(rng.integers(2, 5)), 0)),
            lambda x=x: b.clamp(x, -3, 4),
            lambda x=x, y=y: b.maximum(x, y, 0, 1),
            lambda x=x, y=y: b.minimum(x, y),
            lambda x=x: b.add(x, b.const(int(rng.integers(-5, 6)))),
            lambda x=x: b.extend(x, b.nodes[x].lo - 3, b.nodes[x].hi),
            lambda x=x, e=entries: b.lookup(x, e, 0) if e else x,
        ][int(rng.integers(10))]()
        if b.nodes[made].hi - b.nodes[made].lo < 1 << 9:
            nodes.append(made)
    before = b.module({"y": [int(n) for n in rng.choice(nodes, 6)]})
    after = tabulate(before)
    assert computed(after) == computed(before) and ports(after) == ports(before)
    assert lut_estimate(after) <= lut_estimate(before)


def test_tables_are_weighed_after_all_sums_are_what_they_will_be() -> None:
    names = [one.__name__ for one in PIPELINE]
    assert names.index("absorb_constants") < names.index("tabulate") < names.index("join_tables")


def test_bits_that_a_wide_word_never_has_are_not_looked_up() -> None:
    b = Builder("m")
    (x,) = b.input("x", [(0, 300, 0)])
    high = b.keep(x, 5, FixedType.parse("u4f0"))  # 0..9: 10 to 15 have no entry
    total = b.sub(b.add(b.lookup(high, [i * i % 13 for i in range(10)], 0), high, 1, 1), b.const(3))
    before = b.module({"y": [b.keep(b.relu(total), 2, FixedType.parse("u2f0"))]})
    after = tabulate(before)
    assert computed(after) == computed(before)
    assert lut_estimate(after) <= 2 < lut_estimate(before)
