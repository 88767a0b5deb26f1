"""hgq-report --route ecp5: the clock that nextpnr reaches, in the reports beside the predicted one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import hgq
from hgq.cli import report_command
from hgq.errors import ToolError
from hgq.project import Project
from hgq.sim.route import device_for, route, wrapped
from hgq.sim.yosys import Mapped, synthesise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    from hgq.layers import QDense

    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((3,)), QDense(2, activation="relu", name="hidden"), QDense(2, name="out")])
    out = tmp_path_factory.mktemp("route") / "net"
    x = np.random.default_rng(5).normal(size=(50, 3)).astype("float32")
    hgq.convert(model, out, calibrate=x, verify=False, latency=4)
    return out


def mapped(folder: Path) -> Mapped:
    project = Project.load(folder)
    return synthesise(sorted((folder / "rtl").glob("*.v")), project.top, "ecp5")


def test_a_latency_is_reached_and_the_clock_stated(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert report["totals"]["latency"] == report["options"]["latency"] == Project.load(folder).latency == 4
    own, ecp5 = report["timing"]["part"], report["timing"]["ecp5"]
    assert own["ns"] <= report["options"]["clock_ns"] < own["ns"] + 0.002, "the clock is the shortest"
    assert own["model"] == "Xilinx UltraScale+ -2" and ecp5["ns"] > own["ns"]
    shown = Project.load(folder).summary()
    assert f"predicted Fmax: {own['mhz']:g} MHz on Xilinx UltraScale+ -2" in shown and "not measured" in shown
    assert "as wished" in shown


def test_the_wrapper_feeds_every_input_and_reads_every_output(folder: Path) -> None:
    netlist = mapped(folder).netlist()
    (module,) = wrapped(netlist, "net")["modules"].values()
    assert {name: len(port["bits"]) for name, port in module["ports"].items()} == {"clk": 1, "si": 1, "so": 1}
    made, read = [], set()
    for cell in module["cells"].values():
        for port, nets in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                made += nets
            else:
                read |= set(nets)
    assert len(made) == len(set(made)), "no net has two drivers"
    for name, port in netlist["ports"].items():
        bits = {net for net in port["bits"] if isinstance(net, int)}
        assert bits <= (read if port["direction"] == "output" or name == "clk" else set(made)), name
    own = {name for name, cell in netlist["cells"].items() if cell["type"] != "$scopeinfo"}
    assert own <= module["cells"].keys()
    # Register by register from `si` to `so`: every one of the wrapper's is on the way.
    sources = {c["connections"][o][0]: c["connections"][i][0] for c, i, o in _chain(module["cells"])}
    at, steps = module["ports"]["so"]["bits"][0], 0
    while at in sources:
        at, steps = sources[at], steps + 1
    assert at == "0"
    inside, at = steps, next(n for n in netlist["ports"]["in_data"]["bits"][::-1])
    while at in sources:
        at, steps = sources[at], steps + 1
    assert at == module["ports"]["si"]["bits"][0]
    assert steps - inside == sum(len(netlist["ports"][p]["bits"]) for p in ("rst", "in_valid", "in_data"))
    assert inside == 2 * sum(len(netlist["ports"][p]["bits"]) for p in ("out_valid", "out_data")), "xor and register"


def _chain(cells: dict) -> list[tuple[dict, str, str]]:
    registers = [(c, "DI", "Q") for name, c in cells.items() if name.startswith(("wrapper_in", "wrapper_out"))]
    return registers + [(c, "B", "Z") for name, c in cells.items() if name.startswith("wrapper_xor")]


def test_the_command_routes_and_files_what_it_reached(folder: Path) -> None:
    done = CliRunner().invoke(report_command.app, [str(folder), "--route", "ecp5", "--seeds", "1", "--total"])
    assert done.exit_code == 0, done.output
    for fact in ("Lattice ECP5", "routed Fmax", "median of 1 seed", "routed / predicted", "two shift registers"):
        assert fact in done.stdout
    report = json.loads((folder / "report.json").read_text())
    found = report["routed"]["ecp5"]
    assert found["device"] == "Lattice LFE5U-25F, speed grade 6"
    assert 20 < found["fmax_min"] == found["fmax_median"] == found["fmax_max"] == found["fmax"]["1"] < 600
    period = 1000 / found["fmax_median"]
    assert found["logic_ns"] + found["routing_ns"] == pytest.approx(period, abs=0.02)
    assert 0.5 < period / report["timing"]["ecp5"]["ns"] < 2
    project = Project.load(folder)
    registers = report["resources"]["ecp5"]["total"]["ff"]
    assert found["utilisation"]["TRELLIS_FF"] == registers + found["wrapper_ff"]
    assert found["wrapper_ff"] == 3 + sum(port.width for port in (*project.inputs, *project.outputs))
    page = (folder / "report.html").read_text()
    assert "Place and route: Lattice LFE5U-25F" in page and "predicted Fmax" in page


def test_what_nextpnr_refuses_is_told_in_its_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mapped(folder).netlist()
    whole["cells"]["strange"] = {"type": "NO_SUCH", "parameters": {}, "port_directions": {}, "connections": {}}
    monkeypatch.setattr(Mapped, "netlist", lambda self: whole)
    with pytest.raises(ToolError, match=r"cannot place and route(.|\n)*NO_SUCH"):
        route(mapped(folder), target_mhz=100, seeds=[1])


def test_without_nextpnr_the_command_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "nextpnr" in name else find(name, *a))
    done = CliRunner().invoke(report_command.app, [str(folder), "--route", "ecp5"])
    assert done.exit_code == 2 and "pip install 'hgq-fpga[route]'" in done.output


def test_devices_are_chosen_by_size_and_too_large_designs_refused() -> None:
    assert [device_for(luts, 100) for luts in (1000, 24_000, 70_000)] == ["25k", "45k", "85k"]
    assert device_for(1000, 30_000) == "45k"
    with pytest.raises(ToolError, match=r"90,000 LUT4(.|\n)*83,640(.|\n)*leave out --route"):
        device_for(90_000, 5)


def test_other_routers_and_no_seed_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"xcup.*ecp5 only"):
        Project.load(folder).route("xcup")
    with pytest.raises(ValueError, match="at least one seed"):
        Project.load(folder).route(seeds=0)
