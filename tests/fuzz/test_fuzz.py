"""A bounded piece of the fuzzing campaign, and proof that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from hgq.netlist.ops import OPS
from tests.fuzz import levels
from tests.fuzz.campaign import LARGE, State, fails_like, run_round
from tests.fuzz.generate import generate
from tests.fuzz.levels import check
from tests.fuzz.rtl import check_verilog
from tests.fuzz.shrink import shrink

SEEDS = range(12)


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
    sound = [o.rtl for o in map(check, map(generate, (0, 3, 5))) if o.rtl and sum(map(len, o.rtl.files.values())) < LARGE]
    broken = sound[-1]
    broken.golden = {name: y + (y == y.max()) for name, y in broken.golden.items()}
    found = check_verilog(sound, tmp_path)
    assert {k: kind for k, (kind, _) in found.items()} == {len(sound) - 1: "difference: Verilog"}


def test_a_wrong_rule_is_found_and_the_model_cut_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """relu of the netlist is off by one for one value."""
    right = OPS["relu"].evaluate
    wrong = type(OPS["relu"])(OPS["relu"].infer, lambda p, a: right(p, a) + (a == 1), OPS["relu"].verilog)
    monkeypatch.setitem(OPS, "relu", wrong)
    monkeypatch.setattr(levels, "VECTORS", (24, 40))
    spec = next(s for s in map(generate, range(100)) if len(s["nodes"]) > 2 and check(s).kind == "difference: netlist")
    small = shrink(spec, fails_like(check(spec), tmp_path), seconds=8)
    assert check(small).kind == "difference: netlist"
    assert len(small["nodes"]) < len(spec["nodes"]) or len(str(small)) < len(str(spec))
