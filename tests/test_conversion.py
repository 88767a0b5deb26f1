"""`hgq.convert` as users call it: the folder, the errors, and what is said of what was compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConversionError, ProjectError, VerificationError
from hgq.fixed import decode
from hgq.layers import QDense
from hgq.project import Project
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.resource import model_ebops
from hgq.sim.icarus import icarus_installed
from tests.converted import X, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted project, not verified."""
    out = tmp_path_factory.mktemp("project") / "net"
    hgq.convert(small_model(), out, calibrate=X[:100], verify=False)
    return out


# --- what is made ----------------------------------------------------------------------------------------------------


@pytest.mark.rtl
@pytest.mark.hls
def test_a_model_becomes_a_verified_folder(tmp_path: Path) -> None:
    model = small_model()
    before = [np.array(w) for w in model.get_weights()]
    steps: list[str] = []
    out = tmp_path / "made" / "net"
    project = hgq.convert(model, out, calibrate=X[:100], verify=X[100:], corners=3000, progress=steps.append)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True)), "the model was changed"
    names = {"hls4ml", "rtl", "tb", "report.json", "report.html", "ports.json", "model.ir", "model.keras", "README.md"}
    assert names <= {p.name for p in out.iterdir()}
    assert [p.name for p in out.parent.iterdir()] == ["net"], "a temporary folder was left behind"
    report = json.loads((out / "report.json").read_text())
    verification = report["verification"]
    assert (verification["data"], verification["corners"]) == (100, 3000)
    engines = verification["engines"]
    assert {e["differences"] for e in engines.values()} == {0} and len(engines) == 4
    assert [e["vectors"] for name, e in engines.items() if "protocol" not in name] == [3100] * 3
    assert report["totals"]["ebops"] == model_ebops(hgq.frontend.load.load_model(out / "model.keras"))
    assert report["totals"]["latency"] == json.loads((out / "ports.json").read_text())["latency"]
    summary = project.summary()
    for fact in ("always", "head", "0 differences over 100 data samples and 3,000 corner vectors", "float32: proven"):
        assert fact in summary, summary
    assert any("Verilator" in step for step in steps)
    second = "Icarus Verilog, 0 differences over" if icarus_installed() else "none, as Icarus Verilog is not installed"
    assert f"second simulator: {second}" in summary
    assert any("Icarus" in step for step in steps) == icarus_installed()
    # the project in a copy elsewhere, with plain pytest
    copy = tmp_path / "elsewhere"
    shutil.copytree(out, copy)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tb"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hardware_gives_what_keras_predicts(folder: Path) -> None:
    project = Project.load(folder)
    model = hgq.frontend.load.load_model(folder / "model.keras")
    (integers,) = project.predict_integers(X[100:])
    want = np.asarray(keras.ops.convert_to_numpy(model(X[100:], training=False)))
    assert (project.predict(X[100:]) == want).all()
    assert (decode(integers, project.outputs[0].types.frac) == want).all()


def test_the_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    hgq.convert(small_model(), tmp_path / "again", calibrate=X[:100], verify=False)
    made = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert made.keys() == again.keys()
    # Archives hold the time at which they were written.
    differ = [str(path) for path in made if made[path] != again[path] and path.suffix not in (".keras", ".npz")]
    assert differ == []


def test_ports_json_says_where_each_element_lies(folder: Path) -> None:
    ports = json.loads((folder / "ports.json").read_text())
    project = Project.load(folder)
    low = 0
    for element, t in zip(ports["inputs"][0]["elements"], project.inputs[0].types, strict=True):
        if t is None:
            assert element is None
        else:
            assert element == {"type": str(t), "low": low}
            low += t.width
    assert ports["in_width"] == low and ports["inputs"][0]["rounding"] == "RND"


def test_an_unverified_project_says_so(folder: Path) -> None:
    assert "NOT VERIFIED" in Project.load(folder).summary()
    assert "not verified" in (folder / "report.html").read_text()


def test_data_is_split_in_two_and_said_so(tmp_path: Path) -> None:
    project = hgq.convert(small_model(), tmp_path / "net", data=X, verify=False)
    assert project.report["calibration"] == {
        "samples": 100,
        "note": "data: every second sample calibrated, the others were not used",
    }


def test_samples_that_wrap_are_reported_with_their_place(tmp_path: Path) -> None:
    project = hgq.convert(small_model(), tmp_path / "a", calibrate=X[:100], verify=False)
    assert project.report["wraps"] == []
    from hgq.verify import wraps_everywhere

    graph = project.graph
    beyond = X[100:] * 4
    found = wraps_everywhere(graph, {"x": project.encode(beyond)[0]}, [beyond], True)
    assert found[0]["layer"] == "input x" and found[0]["samples"] == 100 and 0 < found[0]["count"] <= 100
    assert "input x" in "\n".join(hgq.report.text.facts(project.report | {"wraps": found}))


# --- errors ----------------------------------------------------------------------------------------------------------


def refused(match: str, out: Path, kind: type[Exception] = ConversionError, **options) -> None:
    options = {"calibrate": X[:100], "verify": False} | options
    before = sorted(out.parent.iterdir()) if out.parent.exists() else None
    with pytest.raises(kind, match=match):
        hgq.convert(options.pop("model", None) or small_model(), out, **options)
    assert (sorted(out.parent.iterdir()) if out.parent.exists() else None) == before, "something was left behind"


@pytest.mark.parametrize(
    "options,match",
    [
        ({"clock_ns": 0}, r"clock_ns=0: a clock period"),
        ({"clock_ns": 0.8}, r"does not fit a clock of 0.8 ns"),
        ({"clock_ns": 5, "latency": 4}, r"clock_ns=5 and latency=4(.|\n)*give one"),
        ({"latency": 2.5}, r"latency=2.5: clock cycles are a whole number"),
        ({"latency": 1000}, r"latency=1000: this model can have 2 to \d+ cycles"),
        ({"backend": "Quartus"}, r"backend='Quartus'(.|\n)*Vitis, Vivado"),
        ({"io_type": "stream"}, r"io_type='stream'(.|\n)*io_parallel, io_stream"),
        ({"input_type": "ap_fixed<16,6>"}, r"'ap_fixed<16,6>' is no fixed-point type"),
        ({"effort": 7}, r"effort=7(.|\n)*integer from 0 to 6"),
        ({"effort": True}, r"effort=True(.|\n)*integer from 0 to 6"),
        ({"objective": "luts"}, r"objective='luts'(.|\n)*lut, adders"),
        ({"part": "xc7; exit"}, r"part='xc7; exit' is no FPGA part"),
    ],
)
def test_options_that_cannot_be(options: dict, match: str, tmp_path: Path) -> None:
    refused(match, tmp_path / "net", **options)


@pytest.mark.parametrize(
    "options,match",
    [
        (
            {"calibrate": X[:, :4]},
            r"calibration data for input 'x' has shape \(200, 4\); the model takes \(samples, 6\)",
        ),
        ({"verify": X[None]}, r"verification data for input 'x' has shape"),
        ({"calibrate": X[:0]}, r"calibration data for input 'x' holds no sample"),
        ({"calibrate": np.where(X > 2, np.nan, X)}, r"nan at index"),
        ({"calibrate": np.full((3, 6), "a")}, r"give numbers"),
        ({"data": X}, r"data= stands in place"),
    ],
)
def test_data_that_cannot_be(options: dict, match: str, tmp_path: Path) -> None:
    refused(match, tmp_path / "net", ValueError, **options)


def test_a_model_that_never_saw_data_needs_calibration(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6,)), QDense(3, name="d")])
    refused(r"QDense 'd'(.|\n)*never seen data(.|\n)*--calibrate", tmp_path / "net", model=model, calibrate=None)


def test_a_folder_that_is_no_project_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    refused(r"mine: the folder exists and holds no hgq project", out)
    assert (out / "thesis.tex").read_text() == "precious"
    (tmp_path / "file").write_text("x")
    refused(r"file: this is a file", tmp_path / "file")


def test_an_older_project_is_replaced_only_by_a_complete_one(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "net"
    shutil.copytree(folder, out)
    refused(r"does not fit a clock", out, clock_ns=0.8)
    assert (out / "report.json").read_bytes() == (folder / "report.json").read_bytes()
    hgq.convert(small_model(), out, calibrate=X[:100], verify=False, clock_ns=7)
    assert json.loads((out / "report.json").read_text())["options"]["clock_ns"] == 7


def test_the_optimiser_is_told_what_to_do_and_always_does_the_same(folder: Path, tmp_path: Path) -> None:
    adders = {}
    for name, wish in {"same": {}, "naive": {"effort": 0}, "few": {"effort": 2, "objective": "adders"}}.items():
        made = hgq.convert(small_model(), tmp_path / name, calibrate=X[:100], verify=False, **wish).report
        expected = {"effort": 1, "objective": "lut"} | wish
        assert {key: made["options"][key] for key in expected} == expected
        adders[name] = made["totals"]["adders"]
    assert adders["few"] <= adders["same"] < adders["naive"]
    for path in (folder / "rtl").iterdir():
        assert path.read_bytes() == (tmp_path / "same" / "rtl" / path.name).read_bytes(), path.name


@pytest.mark.rtl
def test_a_part_with_wide_carry_cells_gets_adders_of_three_operands(tmp_path: Path) -> None:
    out = tmp_path / "net"
    project = hgq.convert(small_model(), out, calibrate=X[:100], verify=False, part="xcku5p-ffvb676-2-e")
    assert project.report["options"]["target"] == "ultrascale" and project.family == "xcup"
    assert {p.name for p in (out / "rtl" / "sim").iterdir()} == {"LUT6_2.v", "CARRY8.v"}
    assert "hgq_add3 #(" in (out / "rtl" / "net_head.v").read_text()
    assert "LUT6_2.v" in (out / "tb" / "test_rtl.py").read_text(), "the project's own test needs the models"
    assert "sim/" not in (out / "syn" / "vivado.tcl").read_text(), "synthesis must not see them"
    assert "three operands" in project.summary()
    with pytest.raises(ValueError, match=r"'ecp5'(.|\n)*xcku5p"):
        project.resources("ecp5")
    assert project.simulate(X, engine="verilator", corners=1000)["engines"]["Verilog (Verilator)"]["differences"] == 0
    # A wrong bit in the LUTs is found.
    adder = out / "rtl" / "hgq_add3.v"
    adder.write_text(adder.read_text().replace("8'b10010110", "8'b10010100"))
    with pytest.raises(VerificationError, match=r"Verilator\) differs(.|\n)*layer '(always|head)'"):
        project.simulate(engine="verilator", corners=100)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(step: str) -> None:
        if "Verilog" in step:
            raise KeyboardInterrupt

    refused("^$", tmp_path / "net", KeyboardInterrupt, progress=interrupt)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hgq.staging.refusal", lambda _: "Permission denied")  # root may write anywhere
    refused(r"nothing can be written there \(Permission denied\)(.|\n)*name another folder", tmp_path / "net")


def test_a_missing_compiler_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    refused(r"g\+\+(.|\n)*apt", tmp_path / "net", verify=None)


def test_a_folder_that_is_no_project_is_named() -> None:
    with pytest.raises(ProjectError, match=r"nowhere: it has no model\.ir"):
        Project.load("nowhere")


def test_a_damaged_project_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "net")
    (tmp_path / "net" / "ports.json").write_text("{")
    with pytest.raises(ProjectError, match=r"ports\.json: it is damaged"):
        Project.load(tmp_path / "net")


# --- what is verified -------------------------------------------------------------------------------------------------


def test_a_failed_verification_keeps_what_was_made_beside_the_target(tmp_path: Path, monkeypatch) -> None:
    def differs(self, *args, **kwargs):
        raise VerificationError("E differs")

    monkeypatch.setattr(Project, "verify", differs)
    with pytest.raises(VerificationError, match=r"net\.failed"):
        hgq.convert(small_model(), tmp_path / "net", calibrate=X[:100], verify=X[100:])
    assert [p.name for p in tmp_path.iterdir()] == ["net.failed"]
    summary = Project.load(tmp_path / "net.failed").summary()
    assert "FAILED: " in summary and "--no-verify" not in summary
    assert "failed: a difference" in (tmp_path / "net.failed" / "report.html").read_text()
    with pytest.raises(VerificationError, match=r"kept in .*net\.failed, in place of what failed there before"):
        hgq.convert(small_model(), tmp_path / "net", calibrate=X[:100], verify=X[100:])


def test_an_unknown_engine_is_named(folder: Path) -> None:
    engines = "proof, csim, verilator, cocotb, keras, icarus, all"
    with pytest.raises(ValueError, match=f"engine='vcs'; choose one of {engines}"):
        Project.load(folder).simulate(X, engine="vcs")


def test_sums_beyond_float64_are_not_compared_with_keras_and_said_so(tmp_path: Path) -> None:
    """Keras would round them, and what then differs is no error."""
    kernel, x = WidthQuantizer(b0=24), FracQuantizer(f0=24)
    dense = QDense(1, use_bias=False, kernel_quantizer=kernel, input_quantizer=x)
    model = keras.Sequential([keras.Input((6,), name="x"), dense])
    project = hgq.convert(model, tmp_path / "net", verify=False, calibrate=1000 * X)
    reason = project.beyond_keras
    assert "float64 has 53" in reason and dense.name in reason
    found = project.verify(None, ("keras",), corners=4)
    assert found["engines"] == {} and found["not_compared"] == {"Keras": reason}
    project.report["verification"] = {**found, "engines": {"hls4ml C simulation": {}}}
    assert f"Keras NOT COMPARED: {reason}" in project.summary() and "compared in float64" not in project.summary()
    with pytest.raises(ValueError, match="choose another engine"):
        project.simulate(engine="keras")
