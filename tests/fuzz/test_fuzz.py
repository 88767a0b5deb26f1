"""A bounded piece of the fuzzing campaign, and proof that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from hgq.netlist.ops import OPS
from tests.fuzz.campaign import LARGE, State, fails_like, run_round
from tests.fuzz.generate import generate
from tests.fuzz.levels import check
from tests.fuzz.rtl import check_verilog
from tests.fuzz.shrink import shrink

SEEDS = range(2000, 2008)


@pytest.mark.rtl
def test_random_models_are_equal_on_keras_ir_netlist_and_verilog(tmp_path: Path) -> None:
    state = State()
    failed = run_round(state, SEEDS, tmp_path / "rtl")
    assert not failed, "\n".join(f"seed {seed}: {outcome.kind}\n{outcome.text}" for seed, _, outcome in failed)
    assert state.checked["models"] == len(SEEDS) and state.checked["= Verilog"] >= len(SEEDS) // 2
    state.save(tmp_path / "state.json")
    assert State.load(tmp_path / "state.json") == state and str(state.checked["models"]) in state.table()


def test_the_same_seed_gives_the_same_model() -> None:
    assert generate(7) == generate(7) != generate(8)


@pytest.mark.rtl
def test_a_wrong_bit_in_the_verilog_of_one_of_several_models_is_found(tmp_path: Path) -> None:
    sound = [
        o.rtl
        for o in map(check, map(generate, (2000, 2001, 2002)))
        if o.rtl and sum(map(len, o.rtl.files.values())) < LARGE
    ]
    broken = sound[-1]
    broken.golden = {name: y + (y == y.max()) for name, y in broken.golden.items()}
    found = check_verilog(sound, tmp_path)
    assert {k: kind for k, (kind, _) in found.items()} == {len(sound) - 1: "difference: Verilog"}


SPEC = {
    "seed": 1,
    "samples": 4,
    "input_type": None,
    "options": {"clock_ns": 5.0, "latency": None, "part": None, "effort": 0, "objective": "lut"},
    "inputs": [{"shape": [3], "scale": 0, "kind": "normal"}],
    "nodes": [
        {"class": "QActivation", "name": "n0", "in": [[-1, 0]], "config": {}, "widths": "mixed"},
        {"class": "QDense", "name": "n1", "in": [[0, 0]], "config": {"units": 2}, "widths": "mixed", "scale": 2},
        {"class": "keras.ReLU", "name": "n2", "in": [[0, 0]], "config": {}, "widths": "mixed"},
    ],
    "outputs": [[1, 0], [2, 0]],
}


def test_a_wrong_rule_is_found_and_the_model_cut_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """relu of the netlist is off by one for one value."""
    right = OPS["relu"].evaluate
    wrong = type(OPS["relu"])(OPS["relu"].infer, lambda p, a: right(p, a) + (a == 1), OPS["relu"].verilog)
    assert check(SPEC).kind == "equal"
    monkeypatch.setitem(OPS, "relu", wrong)
    found = check(SPEC)
    assert found.kind == "difference: netlist" and "'n2'" in found.text
    small = shrink(SPEC, fails_like(found, tmp_path), seconds=20)
    assert [node["name"] for node in small["nodes"]] == ["n0", "n2"] or [n["name"] for n in small["nodes"]] == ["n2"]
    assert small["inputs"][0]["shape"] < [3]
