"""Texts that were once proven although they compute something else: each is refused, or not proven."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hgq.errors import VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir.graph import Builder, Graph
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


INPUTS = 20


def cut_sum(bits: int) -> tuple[Graph, Layout]:
    """y = 2 (r0 + 3 r1) + r2 + r3 + ... modulo 2**bits, r being x of 4 bits, two dropped and rounded half up."""
    b = Builder()
    how = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}
    types = FixedArray.full((INPUTS,), FixedType.parse("u4f2"))
    b.add("x", "input", types=types, origin="x", **how)
    b.add("r", "quantize", "x", types=FixedArray.full((INPUTS,), FixedType.parse("u3f0")), origin="sum", **how)
    kernel = np.array([[2], [6], *[[1]] * (INPUTS - 2)])
    b.add("s", "dense", "r", kernel=kernel, kernel_types=FixedArray.full(kernel.shape, FixedType(False, 3, 0)),
          origin="sum")  # fmt: skip
    made = FixedArray.full((1,), FixedType(False, bits, 0))
    graph = b.graph(b.add("y", "quantize", "s", types=made, origin="sum", **how))
    ports = (Port("x", types, *how.values()),), (Port.output("y", made),)
    return graph, Layout("top", 0, *ports, {"x": Bus("x", types), "y": Bus("y", made)})


def cut_text(bits: int, entry: Callable[[int, int], int]) -> dict[str, str]:
    """A design that looks up the first two operands together, in a table of two bits."""
    cases = "".join(f"8'd{n}: pair = 2'd{entry((n % 16 + 2) // 4, (n // 16 + 2) // 4) % 4};" for n in range(256))
    wires = "".join(f"wire [4:0] a{n} = x[{4 * n + 3}:{4 * n}] + 5'd2;" for n in range(2, INPUTS))
    rounded = [f"a{n}[4:2]" for n in range(2, INPUTS)]
    return {
        "top.v": f"""module top (input clk, input rst, input in_valid, input [{4 * INPUTS - 1}:0] in_data,
        output out_valid, output [{bits - 1}:0] out_data);
      assign out_valid = in_valid;
      wire [{4 * INPUTS - 1}:0] x = in_data;
      wire [{bits - 1}:0] y;
      sum u0 (.x(x), .y(y));
      assign out_data = y;
    endmodule
    module sum (input [{4 * INPUTS - 1}:0] x, output [{bits - 1}:0] y);
      function [1:0] pair(input [7:0] n);
        case (n) {cases} default: pair = 2'd0; endcase
      endfunction
      {wires}
      wire [1:0] both = pair(x[7:0]);
      wire [{bits - 1}:0] most = {" + ".join(rounded)};
      assign y = most + {{both, 1'd0}};
    endmodule"""
    }


def test_a_table_modulo_a_power_of_two_holds_no_more_than_that() -> None:
    graph, layout = cut_sum(3)
    assert prove(graph, cut_text(3, lambda a, b: a + 3 * b), layout).complete
    wrong = {
        (3, "an entry"): lambda a, b: a + 3 * b + (a == 4 and b == 3),
        (3, "another sum"): lambda a, b: a + b,
        (4, "a longer sum"): lambda a, b: a + 3 * b,
    }
    for (bits, _), entry in wrong.items():
        graph, layout = cut_sum(bits)
        with pytest.raises(VerificationError, match="layer 'sum', output 0"):
            prove(graph, cut_text(bits, entry), layout)


MASKED = """module top (input clk, input rst, input in_valid, input [31:0] in_data,
    output out_valid, output [5:0] out_data);
  assign out_valid = in_valid;
  wire [31:0] x = in_data;
  wire [5:0] y;
  masked u0 (.x(x), .y(y));
  assign out_data = y;
endmodule
module masked (input [31:0] x, output [5:0] y);
  wire [8:0] a0 = x[7:0] + 9'd2, a1 = x[15:8] + 9'd2, a2 = x[23:16] + 9'd2, a3 = x[31:24] + 9'd2;
  wire [9:0] s = {3'd0, a0[8:2]} * 10'd3 - {2'd0, a1[8:2], 1'd0} + {3'd0, a2[8:2]} - {3'd0, a3[8:2]} + 10'd5;
  wire [4:0] low = a0[6:2] * 5'd3 - {a1[5:2], 1'd0} + a2[6:2] - a3[6:2] + 5'd5;
  wire off = s[9];
  assign y = {{4{~off}} & s[8:5], {2{~off}} & low[4:3]};
endmodule"""
FAULTS = {
    "another sign": ("off = s[9]", "off = s[9] | s[8:3] == 6'd5"),
    "a lower bit": ("off = s[9]", "off = s[8]"),
    "bits of another sum": ("+ a2[6:2] - a3", "- a2[6:2] - a3"),
    "another constant": ("- a3[6:2] + 5'd5", "- a3[6:2] + 5'd13"),
}


def test_bits_and_the_sign_are_those_of_one_sum() -> None:
    b = Builder()
    types = FixedArray.full((4,), FixedType.parse("u8f2"))
    how = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}
    b.add("x", "input", types=types, origin="x", **how)
    b.add("r", "quantize", "x", types=FixedArray.full((4,), FixedType.parse("u7f0")), origin="masked", **how)
    kernel = np.array([[3], [-2], [1], [-1]])
    weights = {"kernel": kernel, "kernel_types": FixedArray.full((4, 1), FixedType.parse("s3f0"))}
    bias = {"bias": np.array([5]), "bias_types": FixedArray.full((1,), FixedType.parse("u3f0"))}
    b.add("s", "dense", "r", origin="masked", **weights, **bias)
    b.add("p", "relu", "s", origin="masked")
    made = FixedArray.full((1,), FixedType.parse("u6f-3"))
    down = {"rounding": Rounding.TRN, "overflow": Overflow.WRAP}
    graph = b.graph(b.add("y", "quantize", "p", types=made, origin="masked", **down))
    ports = (Port("x", types, *how.values()),), (Port.output("y", made),)
    layout = Layout("top", 0, *ports, {"x": Bus("x", types), "y": Bus("y", made)})
    assert prove(graph, {"top.v": MASKED}, layout).complete
    for old, new in FAULTS.values():
        assert old in MASKED
        with pytest.raises(VerificationError, match="layer 'masked', output 0"):
            prove(graph, {"top.v": MASKED.replace(old, new)}, layout)
