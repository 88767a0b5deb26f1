"""The test bench itself: right designs pass, and each kind of fault is found and named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hgq.errors import VerificationError
from hgq.sim.protocol import check_protocol
from hgq.sim.verilator import simulate
from rtl_tests.pipelines import pipeline, vectors

pytestmark = pytest.mark.rtl

SHAPES = {  # in_width, out_width, latency: every way in which Verilator stores a port
    "1 to 31 bits, combinational": (1, 31, 0),
    "31 to 1 bits, latency 1": (31, 1, 1),
    "32 to 33 bits, latency 3": (32, 33, 3),
    "33 to 32 bits, combinational": (33, 32, 0),
    "65 to 130 bits, latency 1": (65, 130, 1),
    "130 to 65 bits, latency 3": (130, 65, 3),
    "8 to 16 bits, latency 12": (8, 16, 12),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A pipeline of latency 3 with vectors."""
    design = pipeline(tmp_path_factory.mktemp("good"), in_width=32, out_width=33, latency=3)
    return design, *vectors(design, 500)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_pipeline_passes_in_bulk_and_clock_by_clock(tmp_path, shape):
    in_width, out_width, latency = SHAPES[shape]
    design = pipeline(tmp_path, in_width=in_width, out_width=out_width, latency=latency)
    inputs, outputs = vectors(design, 500)
    gaps = np.random.default_rng(0).integers(0, latency + 3, len(inputs))
    np.testing.assert_array_equal(simulate(design, inputs, threads=3), outputs)
    np.testing.assert_array_equal(simulate(design, inputs, gaps, threads=2), outputs)
    check_protocol(design, inputs, outputs)


@pytest.mark.parametrize("promised", [0, 2, 4])
def test_another_latency_than_promised_is_found(good, promised):
    design, inputs, outputs = good
    wrong = replace(design, latency=promised)
    with pytest.raises(VerificationError, match=f"bulk.*out_valid.*latency {promised}"):
        simulate(wrong, inputs)
    with pytest.raises(VerificationError, match=f"back_to_back.*out_valid.*latency {promised}"):
        check_protocol(wrong, inputs, outputs, checks=["back_to_back"])


def test_one_wrong_output_bit_is_found_and_told_exactly(good):
    design, inputs, outputs = good
    outputs = outputs.copy()
    outputs[123, 1] ^= 1
    with pytest.raises(VerificationError, match="wrong out_data") as raised:
        check_protocol(design, inputs, outputs, checks=["back_to_back"])
    mismatch = raised.value.__cause__
    got = int(outputs[123, 0]) + ((int(outputs[123, 1]) ^ 1) << 32)
    assert (mismatch.check, mismatch.index, mismatch.stimulus) == ("back_to_back", 123, int(inputs[123, 0]))
    assert (mismatch.expected, mismatch.got) == (got ^ 1 << 32, got)
    assert mismatch.cycle == 1 + 123 + design.latency  # clock 0 is the reset
    for number in ("vector: 123", hex(int(inputs[123, 0])), f"expected: {got ^ 1 << 32:#x}", f"got: {got:#x}"):
        assert number in str(raised.value)


def test_a_dropped_data_register_is_found(tmp_path):
    design = pipeline(tmp_path, in_width=32, out_width=33, latency=2, valid_latency=3)
    inputs, outputs = vectors(design, 500)
    assert (simulate(design, inputs) != outputs).any()
    for check in ("back_to_back", "gaps"):
        with pytest.raises(VerificationError, match=f"{check}: wrong out_data"):
            check_protocol(design, inputs, outputs, checks=[check])


def test_a_reset_that_does_not_clear_valid_is_found(tmp_path):
    design = pipeline(tmp_path, in_width=32, out_width=33, latency=3, reset_clears=False)
    inputs, outputs = vectors(design, 500)
    with pytest.raises(VerificationError, match="reset: out_valid is high where nothing is due"):
        check_protocol(design, inputs, outputs, checks=["reset"])
    # Even without a reset in mid-stream the stages of valid wake up as anything and were never cleared.
    with pytest.raises(VerificationError, match="power_up: out_valid is high"):
        check_protocol(design, inputs, outputs, checks=["power_up"])


def test_a_register_that_nothing_sets_is_found(tmp_path):
    design = pipeline(tmp_path, in_width=32, out_width=33, latency=3, ghost=True)
    inputs, outputs = vectors(design, 500)
    with pytest.raises(VerificationError, match="power_up: wrong out_data when registers wake up as ones"):
        check_protocol(design, inputs, outputs, checks=["power_up"])


def test_no_vectors_give_no_outputs_and_bad_words_are_refused(good):
    design, inputs, outputs = good
    assert simulate(design, inputs[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"shape \(n, 1\), got uint64 \(500, 1\)"):
        simulate(design, inputs.astype(np.uint64))
    with pytest.raises(ValueError, match="gaps"):
        simulate(design, inputs, np.zeros(3, np.int64))
    high = outputs.copy()
    high[7, 1] = 2
    with pytest.raises(ValueError, match="bits above the port's 33 are set"):
        check_protocol(design, inputs, high)
