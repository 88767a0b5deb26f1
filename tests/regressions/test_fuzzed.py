"""What fuzzing found, cut down: each file of fuzzed/ is a model (tests/fuzz/model.py) that failed once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fuzz.levels import check
from tests.fuzz.rtl import check_proof, check_verilog

FILES = sorted(Path(__file__).with_name("fuzzed").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_fails_no_more(file: Path) -> None:
    outcome = check(json.loads(file.read_text())["spec"])
    assert not outcome.failed, f"{outcome.kind}\n{outcome.text}"


@pytest.mark.rtl
def test_those_that_differed_in_verilog_do_no_more(tmp_path: Path) -> None:
    specs = [json.loads(file.read_text()) for file in FILES]
    designs = [o.rtl for one in specs if "Verilog" in one["failed"] and (o := check(one["spec"])).rtl]
    assert check_verilog(designs, tmp_path) == {}


@pytest.mark.parametrize(
    "file", [f for f in FILES if "proof" in json.loads(f.read_text())["failed"]], ids=lambda f: f.stem
)
def test_the_proof_refutes_it_no_more(file: Path) -> None:
    rtl = check(json.loads(file.read_text())["spec"]).rtl
    assert rtl is not None
    assert not isinstance(found := check_proof(rtl), tuple), found
