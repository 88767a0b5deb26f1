"""Inputs of few bits go into tables where that is cheaper, and the product stays exact."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.lower.cmvm import multiply
from hgq.netlist import Builder, Module, evaluate_module
from hgq.netlist.cost import absorbed, lut_estimate
from hgq.passes import PIPELINE

RANGES = {"bits": (0, 1), "signs": (-1, 0), "small": (-2, 1), "odd": (0, 5), "odd signed": (-3, 2), "wide": (-40, 90)}


def product(ranges: list[tuple[int, int]], matrix: np.ndarray, constants: list[int]) -> Module:
    b = Builder("m")
    x = b.input("x", [(lo, hi, 0) for lo, hi in ranges])
    return b.module({"y": multiply(b, list(x), matrix.astype(object), constants, [0] * len(constants), "layer")})


def tables(module: Module) -> int:
    return sum(node.op == "table" for node in module.nodes)


@pytest.mark.parametrize("seed", range(8))
def test_products_of_narrow_and_wide_inputs_are_exact_with_exact_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = list(RANGES.values()) if seed % 2 else list(RANGES.values())[:3]
    ranges = [kinds[rng.integers(len(kinds))] for _ in range(rng.integers(7, 40))]
    matrix = rng.integers(-6, 7, (len(ranges), 5)) * (rng.random((len(ranges), 5)) < 0.6)
    matrix[:, 4] = 0
    matrix[:3, 4] = [4, -8, 12]  # fewer bits than one table reads
    constants = [int(c) for c in rng.integers(-50, 50, 5) * rng.integers(0, 2, 5)]
    module = product(ranges, matrix, constants)
    x = np.stack([rng.integers(lo, hi + 1, 500) for lo, hi in ranges], axis=1)
    want = x @ matrix + np.array(constants)
    assert tables(module) > 0
    for one in (lambda m: m, *PIPELINE):
        module = one(module)
        assert np.array_equal(evaluate_module(module, [x])[0], want)
    ends = np.sort(np.stack([matrix * np.array(ranges)[:, :1], matrix * np.array(ranges)[:, 1:]]), axis=0).sum(axis=1)
    for ref, lo, hi, c in zip(module.outputs[0].refs, *ends.tolist(), constants, strict=True):
        assert (module.nodes[ref].lo, module.nodes[ref].hi) == (lo + c, hi + c)


def test_single_bits_are_counted_six_at_a_time() -> None:
    matrix = np.ones((11, 1), np.int64)
    module = product([(0, 1)] * 11, matrix, [0])
    assert (
        tables(module) == 2 and lut_estimate(module) <= 3 + 4 < lut_estimate(product([(0, 15)] * 11, matrix, [0])) / 3
    )
    assert len(absorbed(module)) == 1, "the table of five bits is part of the sum"


def test_a_bias_goes_into_the_entries_of_a_table() -> None:
    module = product([(0, 1)] * 11, np.arange(3, 14)[:, None], [-37])
    for one in PIPELINE:
        module = one(module)
    assert not any(node.op == "const" for node in module.nodes)
    (ref,) = module.outputs[0].refs
    assert (module.nodes[ref].lo, module.nodes[ref].hi) == (-37, 51)


def test_inputs_of_many_bits_stay_with_adders() -> None:
    rng = np.random.default_rng(0)
    module = product([(0, 63)] * 16, rng.integers(-8, 8, (16, 8)), [0] * 8)
    assert not tables(module)
