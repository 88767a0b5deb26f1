"""The Tcl runs in a real Tcl interpreter, against stand-ins for Vivado's commands."""

import subprocess

import pytest

from hgq.emit.constraints import constraints

FILES = constraints("digits", ["rtl/digits.v", "rtl/dense 1.v"], 2.5, "xcvu13p-flga2577-2-e")
STAND_INS = """
set said {}
foreach name {read_verilog read_xdc synth_design opt_design place_design phys_opt_design route_design
              report_timing_summary report_utilization write_checkpoint} {
    proc $name {args} "global said; lappend said \\[concat $name \\$args\\]"
}
proc get_timing_paths {args} { return path }
proc get_property {name path} { return $::slack }
rename exit leave
proc exit {code} { error "exit $code" }
rename puts print
proc puts {text} { lappend ::said $text }
"""


def run_tcl(tmp_path, text: str, slack: str, *args: str) -> list[str]:
    script = tmp_path / "syn" / "vivado.tcl"
    script.parent.mkdir()
    script.write_text(text)
    given = f"set slack {slack}\nset argv {{{' '.join(args)}}}\nset argc {len(args)}\n"
    driver = tmp_path / "driver.tcl"
    driver.write_text(f"{STAND_INS}{given}source {{{script}}}\nprint [join $said \\n]\nleave 0\n")
    done = subprocess.run(["tclsh", driver], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.splitlines()


@pytest.mark.tcl
def test_vivado_reads_every_source_then_implements_the_top(tmp_path):
    said = run_tcl(tmp_path, FILES["syn/vivado.tcl"], "0.1")
    assert said[0].endswith("rtl/digits.v") and "rtl/dense 1.v" in said[1]
    assert [line.split()[0] for line in said[3:8]] == [
        "synth_design", "opt_design", "place_design", "phys_opt_design", "route_design",
    ]  # fmt: skip
    assert said[3] == "synth_design -top digits -part xcvu13p-flga2577-2-e -mode out_of_context"
    assert said[-1] == "digits on xcvu13p-flga2577-2-e at 2.500 ns: worst setup slack 0.1 ns"


@pytest.mark.tcl
def test_another_part_can_be_given_on_the_command_line(tmp_path):
    assert "-part xc7a100tcsg324-1" in run_tcl(tmp_path, FILES["syn/vivado.tcl"], "0.1", "xc7a100tcsg324-1")[3]


@pytest.mark.tcl
def test_missed_timing_ends_with_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="exit 1"):
        run_tcl(tmp_path, FILES["syn/vivado.tcl"], "-0.2")


def test_both_constraint_files_state_the_clock_in_ns():
    for name in ("syn/constraints.xdc", "syn/constraints.sdc"):
        assert "create_clock -name clk -period 2.500 " in FILES[name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        "top": (("a b", [], 5, "xc7"), "top='a b'"),
        "part": (("a", [], 5, "xc7; exit"), "part='xc7; exit'"),
        "clock": (("a", [], 0, "xc7"), "clock_ns=0"),
        "source": (("a", ["rtl/{a}.v"], 5, "xc7"), "rtl/{a}.v"),
    }.values(),
    ids=["top", "part", "clock", "source"],
)
def test_what_tcl_would_interpret_is_refused(arguments, said):
    with pytest.raises(ValueError) as error:
        constraints(*arguments)
    assert said in str(error.value)
