"""Yosys maps a small pipeline to every family; its netlist computes the same, and a damaged one is caught."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hgq.errors import ToolError, VerificationError
from hgq.sim import yosys
from hgq.sim.families import FAMILIES, count
from hgq.sim.mapped import simulate_mapped
from hgq.sim.yosys import synthesise

# A sum, a difference, a rectifier that becomes a synchronous reset, a table of 8 inputs, a delay that becomes an SRL.
TOP = """
module top(input clk, input rst, input in_valid, input [15:0] in_data, output out_valid, output [39:0] out_data);
  wire [7:0] a = in_data[7:0], b = in_data[15:8];
  wire [26:0] y;
  inner u0 (.clk(clk), .a(a), .b(b), .y(y));
  reg [12:0] a1, a2, a3, a4;
  always @(posedge clk) begin
    a1 <= {5'd0, a};
    a2 <= a1;
    a3 <= a2;
    a4 <= a3;
  end
  assign out_data = {a4, y};
  reg [3:0] valid;
  always @(posedge clk) valid <= rst ? 4'd0 : {valid[2:0], in_valid};
  assign out_valid = valid[3];
endmodule
"""
INNER = """
module inner(input clk, input [7:0] a, input [7:0] b, output [26:0] y);
  wire [8:0] sum = {1'b0, a} + {b[7], b};
  wire [8:0] difference = {a[7], a} - {b[7], b};
  reg [8:0] s1, s2, s3, s4;
  reg [8:0] d1;
  reg [7:0] r2, r3, r4;
  reg [7:0] t1, t2, t3, t4;
  always @(posedge clk) begin
    s1 <= sum;
    s2 <= s1 + 9'd3;
    s3 <= s2;
    s4 <= s3;
    d1 <= difference;
    r2 <= {8{~d1[8]}} & d1[7:0];
    r3 <= r2;
    r4 <= r3;
    t1 <= (a * a) >> 3;
    t2 <= t1;
    t3 <= t2;
    t4 <= t3;
  end
  assign y = {2'd0, t4, r4, s4};
endmodule
"""
LATENCY = 4


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    (tmp_path / "top.v").write_text(TOP)
    (tmp_path / "inner.v").write_text(INNER)
    return [tmp_path / "top.v", tmp_path / "inner.v"]


def stimulus() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 1 << 16, (500, 1)).astype(np.uint32)


def expected(words: np.ndarray) -> np.ndarray:
    """What TOP gives, in plain arithmetic; two words for 40 bits."""
    value = words[:, 0].astype(np.int64)
    a, b = value & 255, value >> 8
    signed_a, signed_b = a - (a > 127) * 256, b - (b > 127) * 256
    s = (a + signed_b + 3) % 512
    r = np.maximum(signed_a - signed_b, 0) % 256
    t = (a * a % (1 << 8)) >> 3
    whole = a << 27 | t << 17 | r << 9 | s
    return np.stack([whole & 0xFFFFFFFF, whole >> 32], axis=1).astype(np.uint32)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mapped_netlist_of_every_family_computes_the_same(sources: list[Path], family: str) -> None:
    mapped = synthesise(sources, "top", family)
    words = stimulus()
    assert np.array_equal(simulate_mapped(mapped.netlist(), words, 40, LATENCY), expected(words))
    assert mapped.counts["ff"] > 20 and mapped.counts["luts"] > 20
    assert mapped.counts.get("srl", 0) > 0 or family not in ("xcup", "xc7")
    assert mapped.counts["ff"] == sum(
        n for cell, n in mapped.counts["cells"].items() if "FF" in cell or cell[:2] == "FD"
    )
    assert (mapped.folder / "mapped.v").read_text().count("module top") == 1


def delay(clocks: int) -> str:
    """Four bits and in_valid, so many clocks later."""
    stages = "\n".join(f"    late[{i}] <= late[{i - 1}];" for i in range(1, clocks))
    return f"""
module top(input clk, input rst, input in_valid, input [3:0] in_data, output out_valid, output [3:0] out_data);
  reg [3:0] late [0:{clocks - 1}];
  reg [{clocks - 1}:0] valid;
  always @(posedge clk) begin
    late[0] <= in_data;
{stages}
    valid <= rst ? {clocks}'d0 : {{valid[{clocks - 2}:0], in_valid}};
  end
  assign out_data = late[{clocks - 1}];
  assign out_valid = valid[{clocks - 1}];
endmodule
"""


@pytest.mark.parametrize("clocks", [17, 32, 33, 41, 100])
@pytest.mark.parametrize("family", ["xcup", "xc7"])
def test_delays_longer_than_the_shift_register_of_a_lut_are_simulated(tmp_path: Path, family: str, clocks: int) -> None:
    (tmp_path / "top.v").write_text(delay(clocks))
    netlist = synthesise([tmp_path / "top.v"], "top", family).netlist()
    words = stimulus() & 15
    assert np.array_equal(simulate_mapped(netlist, words, 4, clocks), words)
    with pytest.raises(VerificationError, match=rf"after \{{{clocks}\}} clock"):
        simulate_mapped(netlist, words, 4, clocks - 1)


def damaged(netlist: dict[str, Any], kind: str) -> dict[str, Any]:
    broken = copy.deepcopy(netlist)
    cells = broken["cells"]
    if kind == "a table entry":
        cell = next(cell for cell in cells.values() if cell["type"] == "LUT2")
        cell["parameters"]["INIT"] = f"{int(cell['parameters']['INIT'], 2) ^ 0b0110:04b}"
    elif kind == "a wire":
        cell = next(cell for cell in cells.values() if cell["type"] == "CARRY4")
        cell["connections"]["DI"][0], cell["connections"]["DI"][1] = "1", "1"
    else:
        name, cell = next(
            (name, cell)
            for name, cell in cells.items()
            if cell["type"] == "FDRE" and isinstance(cell["connections"]["D"][0], int)
        )
        del cells[name]
        lost, source = cell["connections"]["Q"][0], cell["connections"]["D"][0]
        for other in [*cells.values(), {"connections": {n: p["bits"] for n, p in broken["ports"].items()}}]:
            for nets in other["connections"].values():
                nets[:] = [source if net == lost else net for net in nets]
    return broken


@pytest.mark.parametrize("kind", ["a table entry", "a wire", "a register"])
def test_a_damaged_netlist_is_caught(sources: list[Path], kind: str) -> None:
    netlist = synthesise(sources, "top", "xcup").netlist()
    words = stimulus()
    try:
        got = simulate_mapped(damaged(netlist, kind), words, 40, LATENCY)
    except VerificationError as found:
        assert kind == "a register" and "clock" in str(found)
    else:
        assert kind != "a register" and not np.array_equal(got, expected(words))


def test_another_latency_than_promised_is_caught(sources: list[Path]) -> None:
    netlist = synthesise(sources, "top", "xcup").netlist()
    with pytest.raises(VerificationError, match=r"after \{4\} clock\(s\), not after 3"):
        simulate_mapped(netlist, stimulus(), 40, 3)


def test_the_second_time_comes_from_the_cache_and_only_a_needed_change_maps_again(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HGQ_CACHE", str(tmp_path / "cache"))
    first = synthesise(sources, "inner", "ice40")
    monkeypatch.setattr(yosys.subprocess, "run", None)  # no process can start any more
    assert synthesise(sources, "inner", "ice40") == first
    sources[0].write_text(TOP + "\n")  # inner does not need it
    assert synthesise(sources, "inner", "ice40") == first
    sources[1].write_text(INNER + "\n")
    with pytest.raises(TypeError):
        synthesise(sources, "inner", "ice40")
    names = {path.name for path in first.folder.iterdir()}
    assert names == {"mapped.v", "mapped.json.gz", "counts.json", "yosys.log"}
    assert json.loads((first.folder / "counts.json").read_text())["counts"] == first.counts


def test_what_yosys_refuses_is_shown_without_its_chatter(tmp_path: Path) -> None:
    (tmp_path / "top.v").write_text("module top(input a, output y);\n  assign y = = a;\nendmodule\n")
    with pytest.raises(ToolError, match=r"module 'top' to ecp5 \(Lattice ECP5\)(?s:.)*syntax error") as raised:
        synthesise([tmp_path / "top.v"], "top", "ecp5")
    assert len(str(raised.value).splitlines()) < 20 and "full log:" in str(raised.value)


def test_a_net_without_a_driver_is_refused(tmp_path: Path) -> None:
    (tmp_path / "top.v").write_text("module top(input a, output y);\n  wire lost;\n  assign y = a ^ lost;\nendmodule\n")
    with pytest.raises(ToolError, match="lost"):
        synthesise([tmp_path / "top.v"], "top", "xcup")


def test_an_unknown_family_names_the_choices(sources: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"family 'virtex9'.*xcup.*xc7.*ecp5.*ice40.*gowin"):
        synthesise(sources, "top", "virtex9")


def test_without_pyosys_one_message_says_what_to_install(sources: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "pyosys" else find(name))
    with pytest.raises(ToolError, match=r"Yosys is not installed(?s:.)*pip install 'pyosys"):
        synthesise(sources, "top", "xcup")


def cell(kind: str, **pins: Any) -> dict[str, Any]:
    outputs = {"O", "CO", "O5", "O6"}
    return {
        "type": kind,
        "parameters": {},
        "port_directions": {pin: "output" if pin in outputs else "input" for pin in pins},
        "connections": {pin: nets if isinstance(nets, list) else [nets] for pin, nets in pins.items()},
    }


def test_route_throughs_are_the_select_inputs_without_a_lut_of_their_own() -> None:
    cells = {
        "lut": cell("LUT2", I0=2, I1=3, O=10),
        "inverter": cell("INV", I=2, O=11),
        "beside": cell("INV", I=3, O=12),
        # Bit 0 has its LUT, bit 1 a plain net, bit 2 the LUT of bit 0, bit 3 is not used.
        "carry": cell(
            "CARRY4", CI="0", CYINIT="0", S=[10, 4, 10, 5], DI=[12, 2, 3, 4], O=[20, 21, 22, 23], CO=[24, 25, 26, 27]
        ),
    }
    counts = count(cells, {20, 21, 22, 11}, FAMILIES["xcup"])
    assert counts["route_through"] == 2
    # The inverter at an output is a LUT; the one at the data input is the second output of the carry bit's LUT.
    assert counts["luts"] == 1 + 1 + 2 and counts["inv"] == 2 and counts["lut2"] == 1


def test_what_yosys_wrote_on_a_full_disk_is_a_failed_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Yosys ends in silence there, with code 0."""

    def half(work: Path, *args: Any, **kwargs: Any) -> None:
        (work / "read.json").write_text('{"modules": {"top": {"ce')

    monkeypatch.setattr(yosys, "_run", half)
    with pytest.raises(ToolError, match=r"'top': what it wrote is cut off(.|\n)*Fix: free some space on the disk of /"):
        yosys.read_back({"top.v": TOP}, "top")
