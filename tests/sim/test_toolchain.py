"""Lint, the cache of finished simulators, and the messages when a tool is missing or fails."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hgq.errors import ToolError, VerificationError
from hgq.sim import simulator, toolchain
from hgq.sim.verilator import simulate
from rtl_tests.pipelines import pipeline, to_words, vectors

CLEAN = """module clean(input clk, input rst, input in_valid, input [7:0] in_data, output reg out_valid,
    output reg [7:0] out_data);
  always @(posedge clk) begin
    out_valid <= in_valid & ~rst;
    out_data <= in_data + 8'd1;
  end
endmodule
"""


@pytest.fixture
def design(tmp_path):
    return pipeline(tmp_path, in_width=8, out_width=8, latency=1)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache but for Verilator's runtime, which takes seconds to compile."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "runtime").symlink_to(simulator.cache_folder() / "runtime")
    (simulator.cache_folder() / "runtime").mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("HGQ_CACHE", str(cache))
    return cache


@pytest.mark.rtl
def test_lint_reports_each_finding_and_accepts_a_clean_design(tmp_path):
    source = tmp_path / "clean.v"
    source.write_text(CLEAN)
    toolchain.lint([source], "clean")
    source.write_text(CLEAN.replace("8'd1", "9'd1").replace("module clean(", "module clean(input spare, "))
    with pytest.raises(VerificationError, match=r"'clean' is not clean: 2 finding") as raised:
        toolchain.lint([source], "clean")
    assert "WIDTHTRUNC" in str(raised.value)
    assert "UNUSEDSIGNAL" in str(raised.value)


KERNEL = """module kernel (
  input wire [3:0] a,
  output wire [4:0] y
);
  /* verilator no_inline_module */
  assign y = {1'd0, a} + 5'd1;
endmodule
"""
MANY = """module many(input [3:0] a, output [4:0] y, output [4:0] z);
  kernel u0 (.a(a), .y(y));
  kernel u1 (.a(a), .y(z));
endmodule
"""


@pytest.mark.rtl
@pytest.mark.parametrize(
    "old,new,finding", [("5'd1", "6'd1", "WIDTHTRUNC.*kernel"), (".a(a), .y(z)", ".a(y), .y(z)", "WIDTHTRUNC.*many")]
)
def test_lint_looks_into_a_module_of_many_instances_and_at_what_is_wired_to_it(tmp_path, old, new, finding):
    sources = [tmp_path / "kernel.v", tmp_path / "many.v"]
    for source, text in zip(sources, (KERNEL, MANY), strict=True):
        source.write_text(text)
    toolchain.lint(sources, "many")
    for source in sources:
        source.write_text(source.read_text().replace(old, new))
    with pytest.raises(VerificationError, match=f"(?s)1 finding.*{finding}"):
        toolchain.lint(sources, "many")


@pytest.mark.rtl
def test_sources_that_are_no_verilog_make_a_tool_error_with_the_line(tmp_path):
    source = tmp_path / "broken.v"
    source.write_text("module broken(input clk); assign = 1; endmodule")
    with pytest.raises(ToolError, match=r"(?s)exit code: 1.*broken\.v:1:34: syntax error"):
        toolchain.lint([source], "broken")
    with pytest.raises(
        ToolError, match=r"(?s)refuses the sources of 'broken'.*command: .*verilator_bin.*full log: (\S+)"
    ) as raised:
        simulate(simulator.RtlDesign((source,), "broken", 8, 8, 0), np.zeros((1, 1), np.uint32))
    log = Path(str(raised.value).split("full log: ")[1].splitlines()[0])
    assert "syntax error" in log.read_text()


@pytest.mark.rtl
def test_the_same_sources_are_built_once_and_others_anew(own_cache, design):
    told: list[str] = []
    inputs, outputs = vectors(design, 50)
    for _ in range(2):
        np.testing.assert_array_equal(simulate(design, inputs, progress=told.append), outputs)
    assert [line.split()[0] for line in told] == ["verilated", "compiled", "simulated", "simulated"]
    source = design.sources[0]
    source.write_text(source.read_text().replace("+ 3;", "+ 4;"))
    got = simulate(design, inputs, progress=told.append)
    np.testing.assert_array_equal(got, (outputs + 1) & 0xFF)
    assert [line.split()[0] for line in told[4:]] == ["verilated", "compiled", "simulated"]
    assert len(list((own_cache / "models").iterdir())) == 2  # no half-built folder is left


@pytest.mark.rtl
def test_a_missing_compiler_is_named_with_its_package(own_cache, design, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ToolError, match=r"(?s)'g\+\+'.*not installed.*apt install g\+\+"):
        simulate(design, to_words([1], 8))
    assert any("apt install g++" in problem for problem in toolchain.missing())
    assert toolchain.versions()["g++"] == "not installed"


@pytest.mark.rtl
def test_cxx_is_honoured_and_a_compiler_that_fails_shows_what_it_said(own_cache, design, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler -flag")
    with pytest.raises(ToolError, match=r"'no-such-compiler' named by CXX"):
        simulate(design, to_words([1], 8))
    fake = tmp_path / "fake++"
    fake.write_text("#!/bin/sh\necho out of cheese >&2\nexit 7\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    with pytest.raises(ToolError, match=r"(?s)exit code: 7.*out of cheese.*full log: "):
        simulate(design, to_words([1], 8))


def test_versions_cover_what_a_result_depends_on():
    found = toolchain.versions()
    assert {"python", "hgq", "keras", "backend", "verilator", "cocotb", "g++", "hls4ml", "numpy"} <= set(found)
    assert found["numpy"] == np.__version__


@pytest.mark.rtl
def test_two_builds_of_the_same_design_at_once_both_give_the_right_outputs(own_cache, design):
    inputs, outputs = vectors(design, 50)
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda _: simulate(design, inputs), range(2)):
            np.testing.assert_array_equal(got, outputs)
    assert len(list((own_cache / "models").iterdir())) == 1


@pytest.mark.rtl
def test_a_cache_folder_that_cannot_be_made_names_the_variable_to_set(tmp_path, design, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HGQ_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match=r"(?s)cannot keep results in .*file/models.*HGQ_CACHE"):
        simulate(design, to_words([1], 8))
