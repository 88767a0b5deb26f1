"""`hgq-simulate --trace` and the second simulator, on one small model that wraps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import hgq
import hgq.tracing
from hgq.errors import ToolError, VerificationError
from hgq.layers import QDense
from hgq.ports import pack
from hgq.project import Project
from hgq.report.text import evidence
from hgq.report.trace_text import trace_text
from hgq.sim.icarus import icarus_installed, spot_check
from hgq.sim.waveform import write_waveform
from hgq.training import calibrate
from hgq.verify.trace import first_difference_of

X = np.random.default_rng(0).normal(size=(60, 6)).astype("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6,), name="x"), QDense(5, activation="relu", name="a"), QDense(3, name="b")]
    model = keras.Sequential(layers, name="net")
    calibrate(model, X)
    out = tmp_path_factory.mktemp("project") / "net"
    hgq.convert(model, out, verify=False)
    return out


def damaged(made: Path, copy: Path, file: str, old: str, new: Any) -> Project:
    shutil.copytree(made, copy)
    text = (copy / file).read_text()
    changed = re.sub(old, new, text, count=1, flags=re.MULTILINE)
    assert changed != text
    (copy / file).write_text(changed)
    return Project.load(copy)


@pytest.mark.rtl
@pytest.mark.hls
def test_a_sample_is_followed_through_every_engine(made: Path, tmp_path: Path) -> None:
    project = damaged(made, tmp_path / "net", "rtl/net_a.v", r"^(  wire .* = .*) \+ (.*;)", r"\1 - \2")
    data = X.copy()
    data[5] *= 100
    found = project.trace(5, data)
    rows = {row["node"]: row for row in found["layers"]}
    golden = rows["a.relu"]["golden"]
    assert rows["a.relu"]["Keras"] == rows["a.relu"]["C simulation"] == golden
    assert rows["b.sum"]["Keras"] == rows["b.sum"]["C simulation"] == rows["b.sum"]["golden"]
    (y,) = (project.predict(data[5:6]),)
    assert rows["b.sum"]["golden"] == y[0].tolist()
    assert found["not_seen"] == {} and "Verilog" in rows["b.in"] and "Verilog" in rows["b.sum"]
    assert found["ports"][0]["layer"] == "input x" and found["ports"][0]["count"] == 1
    low, high = rows["x"]["used"]
    x = project.encode(data)[0] * 2.0 ** -np.asarray(project.inputs[0].types.frac)
    assert (low, high) == (x.min(), x.max())
    text = trace_text(found)
    assert "sample 5 of 60" in text and "input x: 1 sample(s) leave the port's range (WRAP)" in text
    # The damage lies in layer a, and shows in the first thing that its module makes.
    assert (
        "Verilog is the first to differ, at layer 'b' (quantize)"
        in first_difference_of(found["layers"])
        == text.splitlines()[-1]
    )
    wave = (tmp_path / "net/trace/sample_5.vcd").read_text()
    assert "$scope module net $end" in wave and "in_valid" in wave
    assert json.loads((tmp_path / "net/trace/trace.json").read_text()) == found
    assert sorted(one.name for one in (tmp_path / "net/trace").iterdir()) == ["sample_5.vcd", "trace.json"]
    words = pack(project.inputs, project.encode(data[:1]))[0]
    with pytest.raises(ToolError, match="No space left on device"):  # and not wait for ever
        write_waveform(project.rtl_design(), words, Path("/dev/full"))
    with pytest.raises(ValueError, match=r"sample 60: there are 60, counted from 0"):
        project.trace(60, data)


@pytest.mark.rtl
@pytest.mark.skipif(not icarus_installed(), reason="Icarus Verilog is not installed; apt install iverilog")
def test_icarus_finds_what_is_wrong_late_or_unknown(made: Path, tmp_path: Path) -> None:
    found = Project.load(made).simulate(X, engine="icarus", corners=940)
    assert found["engines"]["Verilog (Icarus)"] | {"seconds": 0} == {"vectors": 1000, "differences": 0, "seconds": 0}
    wrong = damaged(made, tmp_path / "wrong", "rtl/net_a.v", r"^(  wire .* = .*) \+ (.*;)", r"\1 - \2")
    with pytest.raises(VerificationError, match=r"Icarus\) differs from the golden model at layer 'b'"):
        wrong.simulate(X, engine="icarus", corners=940)
    late = damaged(made, tmp_path / "late", "ports.json", r'"latency": (\d+)', lambda m: f'"latency": {int(m[1]) + 1}')
    with pytest.raises(VerificationError, match=r"Icarus: 999 of 1000 outputs are valid"):
        late.simulate(X, engine="icarus", corners=940)


def test_a_second_simulator_is_named_and_a_missing_one_too(
    made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hgq.project.icarus_installed", lambda: False)
    found = Project.load(made).verify(None, ("csim", "icarus"), corners=16)
    assert found["second_simulator"] == {"simulator": None} and set(found["engines"]) == {"hls4ml C simulation"}
    assert "second simulator: none, as Icarus Verilog is not installed (apt install iverilog)" in evidence(found)
    found["second_simulator"] = {"simulator": "Icarus Verilog", "vectors": 1000, "differences": 0, "seconds": 1.0}
    assert "second simulator: Icarus Verilog, 0 differences over 1,000 of these vectors" in evidence(found)
    for name, size in (("a.v", 100), ("b.v", 200_000), ("sim/c.v", 200_000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(" " * size)
    a, b, c = (tmp_path / name for name in ("a.v", "b.v", "sim/c.v"))
    assert [spot_check(files) for files in ([a], [b], [b, c], [])] == [1000, 100, 8, 1000]


def test_an_engine_that_shows_no_layer_is_said_to_show_none(made: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(made, tmp_path / "net")
    for name in ("probe_csim", "probe_rtl"):
        monkeypatch.setattr(hgq.tracing, name, lambda *_: {})
    monkeypatch.setattr(hgq.tracing, "write_waveform", lambda *given: given[-1].write_text(""))
    monkeypatch.setattr(Project, "keras_layers", lambda *_: {})
    found = Project.load(tmp_path / "net").trace(0, X)
    assert "C simulation" not in found["engines"] and "streams show no layer" in trace_text(found)
