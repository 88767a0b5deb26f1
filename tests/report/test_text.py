"""What the summary claims is what was done."""

from hgq.report.text import evidence

PROOF = {
    "layers": [{"layer": "dense", "outputs": 4, "proven": 3, "not_proven": {"no rule for it": 1}}],
    "proven": 3,
    "outputs": 4,
    "latency": None,
    "covered": 9,
    "cells": 9,
    "seconds": 0.1,
}


def test_engines_that_ran_fewer_vectors_say_how_many() -> None:
    engines = {"Keras": {"vectors": 1100}, "Verilog (Verilator)": {"vectors": 1100}, "cocotb": {"vectors": 200}}
    (text,) = evidence({"data": 100, "corners": 1000, "engines": engines, "proof": None})[1:]
    assert text == (
        "verified: 0 differences over 100 data samples and 1,000 corner vectors between the integer model and Keras, "
        "Verilog (Verilator), cocotb (200 of them)"
    )


def test_what_is_not_proven_was_simulated_only_where_it_was() -> None:
    alone = evidence({"data": 0, "corners": 0, "engines": {}, "proof": PROOF})
    assert alone[1:] == [
        "latency: not proven, nor simulated here",
        "dense: 1 of 4 outputs not proven, nor simulated here: no rule for it (1)",
    ]
    engines = {"Verilog (Verilator)": {"vectors": 5}}
    both = evidence({"data": 5, "corners": 0, "engines": engines, "proof": PROOF})
    assert both[1] == "latency: not proven, simulated only" and "not proven, simulated only: no" in both[2]
