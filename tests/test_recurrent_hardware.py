"""Recurrent layers on every engine: one project, built once."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import hgq
from hgq.errors import VerificationError
from hgq.project import Project
from tests.frontend.recurrent_models import CASES, X, of

BEYOND = (np.random.default_rng(6).normal(size=(1000, *X.shape[1:])) * 1.5).astype("float32")
"""Wider than what calibration sees: it wraps."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    out = tmp_path_factory.mktemp("recurrent") / "all"
    return hgq.convert(of(*CASES.values())(), out, calibrate=X, verify=BEYOND, corners=500)


@pytest.mark.rtl
@pytest.mark.hls
def test_every_engine_computes_the_same(converted: Project) -> None:
    engines = converted.report["verification"]["engines"]
    assert len(engines) == 4 and {e["differences"] for e in engines.values()} == {0}
    assert [e["vectors"] for name, e in engines.items() if "protocol" not in name] == [1500] * 3
    states = [node for node in converted.graph if "whole" in node.attrs]
    assert any((node.types.width == 0).any() for node in states), "a unit is pruned"
    assert re.search(r"gru\w*_step1 u", (converted.path / "rtl" / "net.v").read_text())


@pytest.mark.rtl
@pytest.mark.hls
def test_a_changed_step_in_the_verilog_is_found(converted: Project, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(converted.path, tmp_path / "p")
    file = next((tmp_path / "p" / "rtl").glob("net_qgru*_step1.v"))
    text = file.read_text()
    assert " + " in text
    file.write_text(text.replace(" + ", " - ", 1))
    with pytest.raises(VerificationError, match=r"Verilog \(Verilator\) differs"):
        Project.load(tmp_path / "p").simulate(BEYOND, engine="verilator", corners=2000)
