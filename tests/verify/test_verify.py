"""The parts of the verdict: vectors, comparison, certificate, wraps."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.errors import VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph, evaluate
from hgq.ir.graph import Builder
from hgq.verify import corner_vectors, count_wraps, first_difference, float32_certificate, verify_engines

TYPES = FixedArray.parse("[3]{s3f1 0 u2f0}")


def small(bits: int = 3, overflow: str = "WRAP") -> Graph:
    """x (3) -> dense (2) -> quantizer of 4 bits."""
    b = Builder()
    b.add("x", "input", types=TYPES, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="x")
    kernel = FixedArray.full((3, 2), FixedType(True, bits, 0))
    top = (1 << bits - 1) - 1
    b.add("d", "dense", "x", kernel=np.array([[top, 1], [1, 1], [-1, top]]), kernel_types=kernel, origin="layer")
    out = FixedArray.full((2,), FixedType.parse("s4f1"))
    b.add("q", "quantize", "d", types=out, rounding=Rounding.TRN, overflow=Overflow(overflow), origin="layer")
    return b.graph("q")


def test_corner_vectors_reach_every_extreme_and_stay_in_range() -> None:
    (x,) = corner_vectors({"x": TYPES}, 400).values()
    assert x.shape == (400, 3)
    assert (x.min(axis=0) == TYPES.lo).all() and (x.max(axis=0) == TYPES.hi).all()
    rows = {tuple(row) for row in x.tolist()}
    assert {(-4, 0, 0), (3, 0, 3), (0, 0, 0), (0, 0, 3), (3, 0, 0), (-4, 0, 3)} <= rows
    assert len(rows) == 8 * 4, "random vectors cover the whole port"
    assert (corner_vectors({"x": TYPES}, 400)["x"] == x).all()


def test_corner_vectors_of_wide_and_of_several_ports() -> None:
    wide = FixedArray.full((2,), FixedType.parse("s80f0"))
    vectors = corner_vectors({"a": wide, "b": TYPES}, 50)
    assert vectors["a"].shape == (50, 2) and vectors["b"].shape == (50, 3)
    assert max(vectors["a"].ravel()) == 2**79 - 1 and min(vectors["a"].ravel()) == -(2**79)


def test_the_first_difference_is_located() -> None:
    graph = small()
    expected = evaluate(graph, corner_vectors({"x": TYPES}, 40))["q"]
    assert first_difference("E", "layer", graph["q"].types, expected, expected.copy()) is None
    wrong = expected.copy()
    wrong[7, 1] += 1
    wrong[9, 0] += 2
    found = first_difference("E", "layer", graph["q"].types, expected, wrong)
    assert (found.sample, found.element, found.got - found.expected, found.count) == (7, (1,), 1, 2)
    for fact in ("E differs", "layer 'layer'", "element [1]", "sample 7", "s4f1", f"got {wrong[7, 1]}"):
        assert fact in str(found)


def test_an_engine_that_gives_a_fraction_of_an_lsb_is_wrong() -> None:
    graph = small()
    inputs = corner_vectors({"x": TYPES}, 40)

    def engine(x):
        y = evaluate(graph, x)["q"].astype(float)
        y[5, 0] += 2.0**-20
        return {"q": y}

    with pytest.raises(VerificationError, match="sample 5"):
        verify_engines(graph, inputs, {"E": engine})


def test_an_engine_that_loses_samples_is_wrong() -> None:
    graph = small()
    inputs = corner_vectors({"x": TYPES}, 40)
    with pytest.raises(VerificationError, match="shape"):
        verify_engines(graph, inputs, {"E": lambda x: {"q": evaluate(graph, x)["q"][:-1]}})


def test_the_certificate_turns_at_24_bits() -> None:
    # x: |4| in halves; kernel entries need `bits`: the sum of magnitudes is (2**(bits-1) - 1) * 4 + 3 * 2 LSBs.
    fits, breaks = float32_certificate(small(22)), float32_certificate(small(23))
    assert fits.bits["layer"] == 24 and fits.exact32
    assert breaks.bits["layer"] == 25 and not breaks.exact32 and breaks.exact64
    assert breaks.widest == ("layer", 25)


def test_a_product_that_the_offset_takes_away_needs_its_bits() -> None:
    b, zero = Builder(), np.zeros(1, np.int64)
    b.add(
        "x", "input", types=FixedArray.full((1,), FixedType(False, 3, 0)), rounding=Rounding.RND, overflow=Overflow.WRAP
    )
    for name, before, factor, offset in (("far", "x", 1, 49152), ("near", "far", 8193, -49152 * 8193)):
        scale, add = np.array([factor]), np.array([offset])
        types = {
            "scale_types": FixedArray.holding(scale, scale, zero),
            "offset_types": FixedArray.holding(add, add, zero),
        }
        b.add(name, "affine", before, scale=scale, offset=add, origin=name, **types)
    found = float32_certificate(b.graph("near"))
    one = np.float32
    assert one(49153) * one(8193) - one(49152 * 8193) != 8193  # of 14 bits
    assert found.bits["near"] >= 30 and not found.exact32


def test_the_certificate_is_needed() -> None:
    """Just above the bound a float32 sum does go wrong, so the bound is not idle."""
    x = np.float32(2**24)
    assert x + np.float32(1) == x


@pytest.mark.parametrize("overflow", Overflow)
def test_samples_that_leave_a_range_are_counted(overflow: str) -> None:
    graph = small(3, overflow)
    # d = [3 x0 - x2, x0 + 3 x2] in halves, types s4f1: -8..7
    x = np.array([[0, 0, 0], [3, 0, 0], [2, 0, 0], [0, 0, 3], [-3, 0, 0]])
    (found,) = count_wraps(graph, {"x": x})
    assert (found.layer, found.count, found.samples, found.elements) == ("layer output", 3, 5, (0, 1))
    assert found.overflow == overflow
    assert count_wraps(graph, {"x": x[:1]}) == []
