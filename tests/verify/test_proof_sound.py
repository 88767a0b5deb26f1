"""Texts that were once proven although they compute something else: each is refused, or not proven."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from hgq.errors import VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir.graph import Builder
from hgq.ports import Port
from hgq.verify.proof import Layout, ProofResult, prove
from hgq.verify.proof.layout import Bus
from tests.verify.test_proof import emitted, network


def refused(module: str, old: str, new: str) -> ProofResult:
    """What is proven of a small network where one text is another; VerificationError if that differs."""
    graph = network(units=3)
    texts, layout = emitted(graph)
    assert old in texts[module]
    return prove(graph, texts | {module: texts[module].replace(old, new, 1)}, layout)


CLOCKS = {
    "a data bit": ("top_first.v", "posedge clk", "posedge x[0]"),
    "another port": ("top.v", "posedge clk) begin", "posedge in_valid) begin"),
}


@pytest.mark.parametrize("what", CLOCKS)
def test_a_register_has_the_clock_of_the_design(what: str) -> None:
    with pytest.raises(VerificationError, match="a register on another clock than clk"):
        refused(*CLOCKS[what])


@pytest.mark.parametrize("edge", ["posedge rst", "negedge clk"])
def test_out_valid_comes_with_the_clock_of_the_design(edge: str) -> None:
    result = refused("top.v", "posedge clk) valid", f"{edge}) valid")
    assert result.latency is None and not result.complete


DRIVERS = {
    "an assignment beside an instance": ("  top_curve u2", "  assign q1[0] = q0[0] ^ q0[1];\n  top_curve u2"),
    "a wire beside an instance": ("  top_curve u2", "  assign q1[0] = q0[0];\n  top_curve u2"),
    "a constant beside an instance": ("  top_curve u2", "  assign q1[0] = 1'd0;\n  top_curve u2"),
    "another instance": ("  top_curve u2", "  top_curve u3 (.q1(d1[4:0]), .t(t));\n  top_curve u2"),
}


@pytest.mark.parametrize("what", DRIVERS)
def test_a_net_has_one_driver(what: str) -> None:
    with pytest.raises(VerificationError, match="a net has two drivers"):
        refused("top.v", *DRIVERS[what])


@pytest.mark.parametrize("bits", ["$signed(x[4:1]) + 4'sd0", "{1'd0, x[4:2]} + 4'd0"])
def test_bits_that_the_top_level_moves_are_not_taken_for_an_element(bits: str) -> None:
    result = refused("top.v", ".x(x)", f".x({{x[39:5], x[4], {bits}}})")
    assert not result.complete


def test_a_memory_that_is_written_is_no_table() -> None:
    held = " ".join(f"rom[{i}] = {v};" for i, v in enumerate((0, 0, 18, 25, 19, 7, 60, 0)))
    rom = f"reg [5:0] rom [0:7];\n  initial begin {held} end\n"
    read = "wire [5:0] n3 = rom[n0]"
    assert refused("top_curve.v", "wire [5:0] n3 = table__0(n0)", rom + read).complete, "a table of another kind"
    written = rom + "  always @(posedge n0[0]) rom[n0] <= 6'd5;\n" + read
    assert not refused("top_curve.v", "wire [5:0] n3 = table__0(n0)", written).complete


TABLE = "".join(f"rom[{i}] = {v}; " for i, v in enumerate((0, 0, 18, 25, 19, 7, 60, 0)))
MEMORIES = {
    # Yosys numbers them, and gives them in the order of their names: the 1000th comes before the 200th.
    "another value at last": (TABLE + 900 * "rom[0] = 0; " + "rom[5] = 63;", "found"),
    "some bits of a word": (TABLE.replace("rom[5] = 7", "rom[5] = 63; rom[5][3:0] = 7"), ""),
}


@pytest.mark.parametrize("what", MEMORIES)
def test_a_word_of_a_memory_is_what_was_put_there_last(what: str) -> None:
    start, said = MEMORIES[what]
    read = f"reg [5:0] rom [0:7];\n  initial begin {start} end\n  wire [5:0] n3 = rom[n0]"
    if said:
        with pytest.raises(VerificationError, match=said):
            refused("top_curve.v", "wire [5:0] n3 = table__0(n0)", read)
    else:
        assert not refused("top_curve.v", "wire [5:0] n3 = table__0(n0)", read).complete


def test_what_one_instance_may_leave_out_another_may_not() -> None:
    # max(a, b) is a where b <= 0 <= a, as in the first element and not in the second.
    b = Builder()
    how = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}
    types = FixedArray.full((2,), FixedType.parse("u3f0"))
    for name in "ac":
        b.add(name, "input", types=types, origin=name, **how)
    scale = {"scale": np.array([-1, -1]), "scale_types": FixedArray.full((2,), FixedType.parse("s2f0"))}
    offset = {"offset": np.array([0, 7]), "offset_types": FixedArray.full((2,), FixedType.parse("u3f0"))}
    b.add("b", "affine", "c", origin="less", **scale, **offset)
    b.add("y", "maximum", "a", "b", origin="most")
    graph = b.graph("b", "y")
    made = FixedArray(np.array([True, False]), np.array([4, 3]), np.zeros(2, int))
    assert (graph["b"].range.lo.tolist(), graph["b"].range.hi.tolist()) == ([-7, 0], [0, 7])
    ports = [Port(n, graph[n].types, Rounding.RND, Overflow.WRAP) for n in "ac"]
    wires = {n: Bus(n, made if n == "b" else types) for n in "acby"}
    layout = Layout("top", 0, tuple(ports), (Port.output("b", made), Port.output("y", types)), wires)
    top = """module top (input clk, input rst, input in_valid, input [11:0] in_data, output out_valid,
        output [12:0] out_data);
      assign out_valid = in_valid;
      wire [5:0] a = in_data[5:0], c = in_data[11:6], y;
      wire [6:0] b;
      less u0 (.c(c), .b(b));
      most u1 (.a(a[2:0]), .y(y[2:0]));
      most u2 (.a(a[5:3]), .y(y[5:3]));
      assign out_data = {y, b};
    endmodule
    module less (input [5:0] c, output [6:0] b);
      assign b = {3'd7 - c[5:3], 4'd0 - {1'd0, c[2:0]}};
    endmodule
    module most (input [2:0] a, output [2:0] y);
      assign y = a;
    endmodule"""
    with pytest.raises(VerificationError, match=r"layer 'most', output 1 \(y\)"):
        prove(graph, {"top.v": top}, layout)


def test_the_ports_are_those_of_the_model() -> None:
    graph = network(units=3)
    texts, layout = emitted(graph)
    found = re.search(r"out_data_r <= \{(.*?), (6'd18, t.*?)\};", texts["top.v"])
    assert found is not None
    shorter = texts["top.v"].replace(found[0], f"out_data_r <= {{{found[2]}}};")
    shorter = re.sub(r"\[31:0\] out_data", "[17:0] out_data", shorter)
    with pytest.raises(VerificationError, match=r"the outputs are \{'t': 3\}"):
        prove(graph, texts | {"top.v": shorter}, replace(layout, outputs=layout.outputs[:1]))


@pytest.mark.parametrize("way", ["inputs", "outputs"])
def test_the_host_reads_the_ports_as_the_model_has_them(way: str) -> None:
    texts, layout = emitted(graph := network(units=3))
    port = getattr(layout, way)[0]
    other = FixedArray(port.types.signed, port.types.width, port.types.frac + 1)
    layout = replace(layout, **{way: (replace(port, types=other), *getattr(layout, way)[1:])})
    with pytest.raises(VerificationError, match=f"the elements of '{port.name}' are of types"):
        prove(graph, texts, layout)


def test_a_cell_is_covered_where_every_instance_of_it_is_proven() -> None:
    b = Builder()
    types = FixedArray.full((2,), FixedType.parse("u3f0"))
    b.add("a", "input", types=types, origin="a", rounding=Rounding.RND, overflow=Overflow.WRAP)
    one = {name: np.ones(2, np.int64) for name in ("scale", "offset")}
    one |= {f"{name}_types": FixedArray.full((2,), FixedType.parse("u1f0")) for name in one}
    graph = b.graph(b.add("y", "affine", "a", origin="plus", **one))
    made = graph["y"].types
    ports = (Port("a", types, Rounding.RND, Overflow.WRAP),), (Port.output("y", made),)
    layout = Layout("top", 0, *ports, {"a": Bus("a", types), "y": Bus("y", made)})
    top = """module top (input clk, input rst, input in_valid, input [5:0] in_data, output out_valid,
        output [7:0] out_data);
      assign out_valid = in_valid;
      wire [5:0] a = in_data;
      wire [7:0] y;
      plus u1 (.a(a[2:0]), .y(y[3:0]));
      plus u2 (.a(SECOND), .y(y[7:4]));
      assign out_data = y;
    endmodule
    module plus (input [2:0] a, output [3:0] y);
      assign y = {1'd0, a} + 4'd1;
    endmodule"""
    both = prove(graph, {"top.v": top.replace("SECOND", "a[5:3]")}, layout)
    assert (both.proven, both.cells, both.covered) == (both.outputs, 1, 1)
    first = prove(graph, {"top.v": top.replace("SECOND", "a[5:3] ^ a[2:0]")}, layout)
    assert (first.proven, first.outputs, first.cells, first.covered) == (3, 4, 2, 0)


def test_a_cell_of_the_fpga_is_not_what_the_text_says() -> None:
    graph = network(units=3)
    texts, layout = emitted(graph)
    own = "module LUT6_2 (input I0, output O6);\n  assign O6 = I0;\nendmodule\n"
    used = texts["top.v"].replace("endmodule", "  LUT6_2 l (.I0(rst));\nendmodule")
    with pytest.raises(VerificationError, match="defines LUT6_2"):
        prove(graph, texts | {"top.v": used, "own.v": own}, layout)
