"""Sums of three operands: where they are made, where not, and that nothing better was left lying."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from hgq.netlist import Builder, Module, evaluate_module
from hgq.netlist.cost import Price, absorbed, lut_estimate
from hgq.passes import fuse_adders, fused_estimate

S8 = (-128, 127, 0)


def sums(count: int, make) -> Module:
    builder = Builder("m")
    return builder.module({"y": make(builder, builder.input("x", [S8] * count))})


def ops(module: Module) -> list[str]:
    return [node.op for node in module.nodes if node.op not in ("input", "const")]


def same(before: Module, after: Module) -> bool:
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (400, len(before.inputs[0].refs)))
    return np.array_equal(evaluate_module(before, [x])[0], evaluate_module(after, [x])[0])


CASES = {
    "a chain": (3, lambda b, x: [b.sub(b.add(x[0], x[1], 0, 2), x[2], 1, 0)], ["add3"]),
    "the bias is the third": (2, lambda b, x: [b.add(b.sub(*x), b.const(77))], ["add3"]),
    "signs go through": (3, lambda b, x: [b.sub(x[0], b.sub(x[1], x[2]))], ["add3"]),
    "nothing to subtract from": (2, lambda b, x: [b.neg(b.add(*x))], ["add", "neg"]),
    "a sum that leaves the module stays": (
        3,
        lambda b, x: [b.add(x[0], x[1]), b.add(b.add(x[0], x[1]), x[2])],
        ["add", "add"],
    ),
    "a sum that two read is dissolved into both": (
        4,
        lambda b, x: [b.add(b.add(x[0], x[1]), x[2]), b.sub(b.add(x[0], x[1]), x[3])],
        ["add3", "add3"],
    ),
    "a sum that something else reads stays": (
        3,
        lambda b, x: [b.relu(b.add(x[0], x[1])), b.add(b.add(x[0], x[1]), x[2])],
        ["add", "relu", "add"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_fused(case: str) -> None:
    count, make, expected = CASES[case]
    before = sums(count, make)
    after = fuse_adders(before)
    assert sorted(ops(after)) == sorted(expected)
    assert same(before, after)


def test_four_operands_are_as_fast_as_before() -> None:
    """(a + b) + (c + d): with three operands in one adder, the other would come first and the result later."""
    before = sums(4, lambda b, x: [b.add(b.add(x[0], x[1]), b.add(x[2], x[3]))])
    assert ops(fuse_adders(before)) == ["add", "add", "add"]
    later = sums(5, lambda b, x: [b.add(b.add(x[0], x[1]), b.add(x[2], x[3])), _slow(b, x)])
    assert "add3" in ops(fuse_adders(later)), "there is time, as another output comes later still"


def _slow(b: Builder, x: tuple[int, ...]) -> int:
    made = x[4]
    for other in x[:4]:
        made = b.maximum(made, other)
    return made


def test_an_adder_that_the_clock_does_not_allow_is_not_made() -> None:
    before = sums(3, lambda b, x: [b.add(b.add(x[0], x[1]), x[2])])
    assert ops(fuse_adders(before, 1.7)) == ["add3"]
    assert ops(fuse_adders(before, 1.5)) == ["add", "add"]


def test_no_choice_of_sums_is_better() -> None:
    """Random graphs small enough to try every set; all their outputs are equally late."""
    for seed in range(12):
        before = random_module(np.random.default_rng(seed))
        after = fuse_adders(before)
        assert same(before, after)
        assert lut_estimate(after) == best(before), seed
        assert fused_estimate(before) == (lut_estimate(before), best(before))


def random_module(rng: np.random.Generator) -> Module:
    builder = Builder("m")
    refs = list(builder.input("x", [(-(1 << int(w)), (1 << int(w)) - 1, 0) for w in rng.integers(1, 7, 6)]))
    for _ in range(10):
        a, b = rng.choice(refs[-8:], 2, replace=False)
        join = builder.add if rng.random() < 0.6 else builder.sub
        refs.append(join(int(a), int(b), int(rng.integers(0, 3)), int(rng.integers(0, 3))))
    late = refs[0]
    for _ in range(12):
        late = builder.maximum(builder.sub(late, refs[1]), refs[2])
    return builder.module({"y": [refs[-1], refs[-2], late]})


def best(module: Module) -> int:
    """The least LUTs over all sets of sums that may be dissolved together, each set built and priced."""
    fuse = sys.modules["hgq.passes.fuse_adders"]  # the package's name is the function
    fusions = fuse._fusions(module, Price(module), absorbed(module), 100.0)
    least = lut_estimate(module)
    saved = [0]
    for size in range(1, len(fusions) + 1):
        for some in itertools.combinations(fusions, size):
            if all(b not in fusions[a].excludes for a, b in itertools.combinations(some, 2)):
                saved.append(sum(fusions[i].saved for i in some))
    return least - max(saved)
