"""hgq-report on a small project: the table, the reports it goes into, and a mapper that makes a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import hgq
from hgq.cli import report_command
from hgq.errors import VerificationError
from hgq.project import Project
from hgq.sim.yosys import Mapped


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    from hgq.layers import QDense

    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [keras.Input((5,)), QDense(4, activation="relu", name="q_dense"), QDense(3, name="q_dense_1")], name="net"
    )
    out = tmp_path_factory.mktemp("resources") / "net"
    x = np.random.default_rng(4).normal(size=(50, 5)).astype("float32")
    hgq.convert(model, out, calibrate=x, verify=False)
    return out


def test_conversion_states_the_estimate(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    estimates = [row["lut_estimate"] for row in report["layers"]]
    assert report["totals"]["lut_estimate"] == sum(estimates) > 20
    assert "LUTs (est.)" in (folder / "report.html").read_text()
    assert "LUTs (est.)" in Project.load(folder).summary()


def test_the_command_counts_by_layer_and_in_total_and_files_it(folder: Path) -> None:
    done = CliRunner().invoke(report_command.app, [str(folder)])
    assert done.exit_code == 0, done.output
    for fact in ("q_dense", "q_dense_1", "total, flattened", "LUT2", "route-through", "FF", "0 differences"):
        assert fact in done.stdout
    assert "Executing" not in done.output and "ABC" not in done.output  # none of Yosys' own words
    found = json.loads((folder / "report.json").read_text())["resources"]["xcup"]
    assert [row["layer"] for row in found["layers"]] == ["q_dense", "q_dense_1"]
    assert found["simulation"]["differences"] == 0 and found["simulation"]["vectors"] > 2000
    total = found["total"]
    assert abs(total["estimate"] / total["luts"] - 1) < 0.1
    assert abs(total["luts"] / sum(row["luts"] for row in found["layers"]) - 1) < 0.1
    assert "Resources: Xilinx UltraScale+" in (folder / "report.html").read_text()
    assert json.loads((folder / "report.json").read_text())["layers"], "the conversion's own report stays"


def test_a_count_by_layer_keeps_the_total_that_was_counted_before_and_the_other_way_round(folder: Path) -> None:
    project = Project.load(folder)
    whole = project.resources("xcup", per_layer=False)
    assert project.resources("xcup", total=False)["total"] is None
    kept = json.loads((folder / "report.json").read_text())["resources"]["xcup"]
    assert (kept["total"], kept["simulation"]) == (whole["total"], whole["simulation"]) and len(kept["layers"]) == 2
    project.resources("xcup", per_layer=False, simulate=False)
    found = json.loads((folder / "report.json").read_text())["resources"]["xcup"]
    assert found["layers"] == kept["layers"] and "simulation" not in found, "what was kept is not what was counted now"
    source = project.sources()[0]
    text = source.read_text()
    source.write_text(text + "// of another design\n")
    assert project.resources("xcup", total=False) == project.report["resources"]["xcup"], "a total of other Verilog"
    source.write_text(text)


def test_json_of_another_family_without_layers_or_simulation(folder: Path) -> None:
    done = CliRunner().invoke(
        report_command.app, [str(folder), "--family", "ecp5", "--total", "--no-simulate", "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["ecp5"]
    assert found["layers"] == [] and found["total"]["luts"] > 0 and "simulation" not in found
    assert "estimate" not in found["total"]  # made for six-input LUTs only
    done = CliRunner().invoke(report_command.app, [str(folder), "--family", "ecp5", "--total", "--no-simulate"])
    assert "NOT SIMULATED" in done.stdout
    assert set(json.loads((folder / "report.json").read_text())["resources"]) >= {"ecp5"}


def test_a_wrong_mapper_exits_1_and_changes_no_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "report.json").read_bytes()
    netlist = Mapped.netlist

    def wrong(self: Mapped) -> dict:
        damaged = netlist(self)
        cell = next(cell for cell in damaged["cells"].values() if cell["type"] == "LUT2")
        cell["parameters"]["INIT"] = f"{int(cell['parameters']['INIT'], 2) ^ 0b1111:04b}"
        return damaged

    monkeypatch.setattr(Mapped, "netlist", wrong)
    with pytest.raises(VerificationError, match=r"netlist mapped to xcup differs .*expected"):
        Project.load(folder).resources()
    done = CliRunner().invoke(report_command.app, [str(folder)])
    assert done.exit_code == 1 and "differs from the golden model" in done.output
    assert (folder / "report.json").read_bytes() == before


def test_usage_errors_exit_2_with_one_message(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(report_command.app, [str(folder), "--family", "virtex9"])
    assert done.exit_code == 2 and all(name in done.output for name in ("xcup", "xc7", "ecp5", "ice40", "gowin"))
    done = CliRunner().invoke(report_command.app, [str(tmp_path / "none")])
    assert done.exit_code == 2 and "no such folder" in done.output
    with pytest.raises(ValueError, match=r"virtex9.*xcup"):
        Project.load(folder).resources("virtex9")
