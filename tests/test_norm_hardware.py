"""Softmax, normalisations and activations on every engine: one project, built once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import hgq
from hgq.emit.hls4ml import emit_hls4ml
from hgq.errors import VerificationError
from hgq.frontend import read_model
from hgq.project import Project
from hgq.sim.hls4ml_types import check_types
from tests.frontend.norm_models import DATA, LAYERS, SHAPE, model_of

BEYOND = (np.random.default_rng(11).normal(size=(1000, *SHAPE)) * 3).astype("float32")
"""Wider than what calibration sees: it wraps and saturates."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    out = tmp_path_factory.mktemp("norm") / "everything"
    return hgq.convert(model_of(*LAYERS), out, calibrate=DATA, verify=BEYOND, corners=500)


@pytest.mark.rtl
@pytest.mark.hls
def test_every_engine_computes_the_same(converted: Project) -> None:
    engines = converted.report["verification"]["engines"]
    assert len(engines) == 4 and {e["differences"] for e in engines.values()} == {0}
    assert [e["vectors"] for name, e in engines.items() if "protocol" not in name] == [1500] * 3
    types = [t for node in converted.graph if node.op in ("quantize", "input") for t in node.types]
    assert None in types and any(t.frac < 0 for t in types if t) and any(t.frac > t.width for t in types if t)


@pytest.mark.rtl
@pytest.mark.hls
@pytest.mark.parametrize("table", [0, 1], ids=["exp", "inverse"])
def test_one_changed_entry_of_a_table_in_the_verilog_is_found(table: int, converted: Project, tmp_path: Path) -> None:
    project = tmp_path / "p"
    shutil.copytree(converted.path, project)
    file = project / "rtl" / "everything_softmax.v"
    text = file.read_text()
    entries = list(re.finditer(rf"^( +\d+'d\d+.*: table__{table} = \d+'d)(\d+);", text, re.MULTILINE))
    entry = entries[len(entries) // 2 if table else 0]
    file.write_text(text.replace(entry[0], f"{entry[1]}{int(entry[2]) ^ 8};", 1))
    with pytest.raises(VerificationError, match=r"Verilog \(Verilator\) differs"):
        Project.load(project).simulate(BEYOND, engine="verilator", corners=2000)


@pytest.mark.parametrize("layer,table", [("softmax", "exp"), ("softmax", "inverse"), ("layer_norm", "inverse")])
def test_one_changed_entry_of_a_table_in_the_cpp_is_found(layer: str, table: str, tmp_path: Path) -> None:
    graph = read_model(model_of("softmax", "layer norm"))
    names = emit_hls4ml(graph, tmp_path)
    check_types(tmp_path, graph, names)
    file = tmp_path / "firmware" / "nnet_utils" / "nnet_code_gen.h"
    head, body = file.read_text().split(f"void table_{layer}_{table}(")
    last = re.search(r"(\d+)\};", body)
    assert last
    file.write_text(f"{head}void table_{layer}_{table}({body[: last.start()]}{int(last[1]) ^ 1}{body[last.end(1) :]}")
    with pytest.raises(VerificationError, match=rf"layer '{layer}'(.|\n)*table of element"):
        check_types(tmp_path, graph, names)
