"""Merges, moved elements, keras.ops, shared and nested models and tables on every engine: one project, built once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import hgq
from hgq.errors import VerificationError
from hgq.project import Project
from tests.frontend.merge_models import CASES, DATA, everything

RNG = np.random.default_rng(11)
BEYOND = {name: (RNG.normal(size=(1000, *x.shape[1:])) * x.std() * 1.5).astype("float32") for name, x in DATA.items()}
"""Wider than what calibration sees: it wraps."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    out = tmp_path_factory.mktemp("merge") / "everything"
    return hgq.convert(everything(*CASES), out, calibrate=DATA, verify=BEYOND, corners=500)


@pytest.mark.rtl
@pytest.mark.hls
def test_every_engine_computes_the_same(converted: Project) -> None:
    engines = converted.report["verification"]["engines"]
    assert len(engines) == 4 and {e["differences"] for e in engines.values()} == {0}
    assert [e["vectors"] for name, e in engines.items() if "protocol" not in name] == [1500] * 3
    graph = converted.graph
    ops = {node.op for node in graph}
    assert {"add", "sub", "mul", "maximum", "minimum", "sum", "max", "min", "take", "scale", "clip", "lookup"} <= ops
    types = [t for node in graph if node.op in ("quantize", "input") for t in node.types]
    assert None in types and any(t.frac < 0 for t in types if t) and any(t.frac > t.width for t in types if t)


@pytest.mark.rtl
@pytest.mark.hls
def test_ports_of_several_inputs_and_outputs_are_named_in_order(converted: Project) -> None:
    ports = json.loads((converted.path / "ports.json").read_text())
    assert [port["name"] for port in ports["inputs"]] == list(DATA)
    assert [port["name"] for port in ports["outputs"]] == list(converted.graph.outputs)
    as_list = converted.encode([BEYOND[name] for name in DATA])
    assert all((a == b).all() for a, b in zip(as_list, converted.encode(BEYOND), strict=True))
    with pytest.raises(ValueError, match=r"the model has \['a', 'b', 'm'\]"):
        converted.encode({"a": BEYOND["a"]})


def mutated(project: Project, out: Path) -> Project:
    shutil.copytree(project.path, out)
    return Project.load(out)


@pytest.mark.rtl
@pytest.mark.hls
def test_one_changed_entry_of_a_table_in_the_verilog_is_found(converted: Project, tmp_path: Path) -> None:
    project = mutated(converted, tmp_path / "p")
    file = next(f for f in sorted((project.path / "rtl").glob("*.v")) if "endfunction" in f.read_text())
    text = file.read_text()
    entry = re.search(r"^( +\d+'d\d+.*: table__0 = \d+'d)(\d+);", text, re.MULTILINE)
    assert entry
    file.write_text(text.replace(entry[0], f"{entry[1]}{int(entry[2]) ^ 1};", 1))
    with pytest.raises(VerificationError, match=r"Verilog \(Verilator\) differs"):
        project.simulate(BEYOND, engine="verilator", corners=2000)


@pytest.mark.rtl
@pytest.mark.hls
def test_one_changed_entry_of_a_table_in_keras_is_found(converted: Project, tmp_path: Path) -> None:
    project = mutated(converted, tmp_path / "p")
    tables = [node.attrs["table"] for node in project.graph if node.op == "lookup" and not node.attrs["start"].any()]
    table = max(tables, key=np.ptp)  # one table for all elements: a change of its lowest entry stays in range
    table[table.argmin()] += 1
    with pytest.raises(VerificationError, match="Keras differs"):
        project.simulate(BEYOND, engine="keras", corners=2000)
