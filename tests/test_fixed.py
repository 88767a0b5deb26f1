"""Types, rounding and overflow at their corners; expected values by hand or by fractions."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.fixed import (
    FixedArray,
    FixedType,
    Overflow,
    Rounding,
    as_objects,
    decode,
    encode,
    outside,
    requantize,
    round_off,
)
from tests.ir.test_ops import quantised, worth


@pytest.mark.parametrize(
    "text,kif", [("s6f3", (1, 2, 3)), ("u3f5", (0, -2, 5)), ("s4f-2", (1, 5, -2)), ("u1f0", (0, 1, 0))]
)
def test_from_kif_counts_the_sign_beside_the_integer_bits(text: str, kif: tuple[int, int, int]) -> None:
    assert str(FixedType.from_kif(*kif)) == text
    assert str(FixedArray.from_kif(*([n] for n in kif))) == f"[1]{{{text}}}"


@pytest.mark.parametrize(
    "text,cpp",
    [
        ("s6f3", "ap_fixed<6,3,AP_TRN,AP_WRAP,0>"),
        ("u3f5", "ap_ufixed<3,-2,AP_TRN,AP_WRAP,0>"),
        ("s4f-2", "ap_fixed<4,6,AP_TRN,AP_WRAP,0>"),
    ],
)
def test_to_ap_fixed_counts_the_sign_among_the_integer_bits(text: str, cpp: str) -> None:
    assert FixedType.parse(text).to_ap_fixed() == cpp


ROUNDED = {  # value in quarters -> integer
    Rounding.TRN: {-6: -2, -5: -2, -2: -1, -1: -1, 1: 0, 2: 0, 5: 1, 6: 1},
    Rounding.RND: {-6: -1, -5: -1, -2: 0, -1: 0, 1: 0, 2: 1, 5: 1, 6: 2},
    Rounding.RND_CONV: {-6: -2, -5: -1, -2: 0, -1: 0, 1: 0, 2: 0, 5: 1, 6: 2, 10: 2, 14: 4},
}


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("kind", [np.asarray, as_objects])
def test_rounding_at_ties(rounding: Rounding, kind) -> None:
    table = ROUNDED[rounding]
    assert round_off(kind(np.array(list(table))), 2, rounding).tolist() == list(table.values())


@pytest.mark.parametrize("overflow,got", [("WRAP", [7, -8, -7, 7]), ("SAT", [7, 7, 7, -8]), ("SAT_SYM", [7, 7, 7, -7])])
def test_overflow_at_the_bounds(overflow: str, got: list[int]) -> None:
    types = FixedArray.full((4,), FixedType.parse("s4f0"))
    assert requantize(np.array([7, 8, 9, -9]), 0, types, Rounding.TRN, Overflow(overflow)).tolist() == got


def test_a_signed_bit_that_saturates_symmetrically_is_zero() -> None:
    types = FixedArray.full((3,), FixedType.parse("s1f0"))
    assert requantize(np.array([-3, 0, 2]), 0, types, Rounding.RND, Overflow.SAT_SYM).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("overflow", Overflow)
def test_encode_and_requantize_agree_with_fractions(rounding: Rounding, overflow: Overflow) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        t = FixedType(bool(rng.integers(2)), int(rng.integers(1, 9)), int(rng.integers(-3, 6)))
        frac, m = int(rng.integers(-3, 9)), rng.integers(-3000, 3000, 40)
        types = FixedArray.full((40,), t)
        real = worth(m, np.full(40, frac))
        want = [
            v * 2**t.frac if t.frac >= 0 else v / 2**-t.frac
            for v in (quantised(v, t, rounding, overflow) for v in real)
        ]
        assert requantize(m, frac, types, rounding, overflow).tolist() == want
        assert requantize(as_objects(m), frac, types, rounding, overflow).tolist() == want
        assert encode(np.ldexp(m[None].astype(float), -frac), types, rounding, overflow)[0].tolist() == want


def test_just_below_one_half_is_rounded_down() -> None:
    types = FixedArray.full((1,), FixedType.parse("u2f0"))
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert encode(np.array([[below], [0.5]], np.float32), types, Rounding.RND, Overflow.SAT).ravel().tolist() == [0, 1]


def test_encode_names_what_it_cannot_take() -> None:
    types = FixedArray.full((2,), FixedType.parse("u2f0"))
    with pytest.raises(ValueError, match=r"nan at index \(1, 0\)"):
        encode(np.array([[0, 1], [np.nan, 0]]), types, Rounding.RND, Overflow.SAT)
    with pytest.raises(ValueError, match=r"\(3, 4\) does not fit the port: expected \(samples, \*\(2,\)\)"):
        encode(np.zeros((3, 4)), types, Rounding.RND, Overflow.SAT)


def test_huge_reals_wrap_exactly() -> None:
    types = FixedArray.full((1,), FixedType.parse("s8f0"))
    assert encode(np.array([[2.0**80 + 2.0**30]]), types, Rounding.RND, Overflow.WRAP).tolist() == [[0]]
    assert encode(np.array([[-(2.0**80)]]), types, Rounding.RND, Overflow.SAT).tolist() == [[-128]]


def test_decode_refuses_what_float64_cannot_hold() -> None:
    assert decode(np.array([3, -5]), 1).tolist() == [1.5, -2.5]
    assert decode(np.array([1 << 60]), 0).tolist() == [2.0**60]
    with pytest.raises(ValueError, match="53"):
        decode(np.array([(1 << 60) + 1]), 0)
    with pytest.raises(ValueError, match="53"):
        decode(np.array([(1 << 90) + 1], object), 0)


def test_outside_says_which_values_leave_the_range_after_rounding() -> None:
    types = FixedArray(np.array([0, 0]), np.array([2, 0]), np.array([0, 0]))
    x = np.array([[3.4, 9], [3.5, 0], [-0.5, 0], [-0.6, 0]])
    assert outside(x, types, Rounding.RND).tolist() == [[False, False], [True, False], [False, False], [True, False]]


def test_types_have_a_text_form() -> None:
    text = "[4,2]{u4f0*3 0 s3f1*4}"
    assert str(FixedArray.parse(text)) == text
    for bad in ("s16", "16f8", "s16f", "x4f2", "s0f1"):
        with pytest.raises(ValueError):
            FixedType.parse(bad)


def test_the_cover_holds_every_element() -> None:
    assert str(FixedArray.parse("[3]{u4f0 0 s3f2}").cover()) == "s7f2"
    assert str(FixedArray.parse("[2]{u1f-3 u1f5}").cover()) == "u9f5"
    assert FixedArray.parse("[2]{0*2}").cover() is None
