// Three-operand adder of one LUT6_2 a bit beside CARRY8, with the ports and parameters of the module of this name in the
// Verilog that alkaid 0.8.2 writes, so that it can stand in for it: benchmarks/compile.py counts alkaid's networks with
// the cells that ours use. out = (+-(in0 << PAD0) +-(in1 << PAD1) +-(in2 << PAD2)) >> DROP_LSBS, at most two negated.
//
// A LUT gives the sum of three bits and of the majority of the bits below (O6, the select input of the carry bit) and
// its own majority (O5). Negated operands are inverted in the LUT; the ones that complete them enter as first carry and
// first majority. The low bits of an operand that stands alone there are wires.
module ternary_adder #(
    parameter BW_INPUT0 = 1, parameter SIGNED0 = 0, parameter NEGATE0 = 0, parameter PAD0 = 0,
    parameter BW_INPUT1 = 1, parameter SIGNED1 = 0, parameter NEGATE1 = 0, parameter PAD1 = 0,
    parameter BW_INPUT2 = 1, parameter SIGNED2 = 0, parameter NEGATE2 = 0, parameter PAD2 = 0,
    parameter BW_OUT = 1, parameter DROP_LSBS = 0
) (
    input [BW_INPUT0-1:0] in0, input [BW_INPUT1-1:0] in1, input [BW_INPUT2-1:0] in2, output [BW_OUT-1:0] out
);
  localparam TOP = DROP_LSBS + BW_OUT;  // one more than the highest bit
  localparam LOW = (PAD0 <= PAD1 && PAD0 <= PAD2) ? PAD0 : (PAD1 <= PAD2) ? PAD1 : PAD2;
  localparam ALONE = (PAD0 == LOW) + (PAD1 == LOW) + (PAD2 == LOW) == 1;
  localparam LOW_NEGATED = (PAD0 == LOW) ? NEGATE0 : (PAD1 == LOW) ? NEGATE1 : NEGATE2;
  localparam NEXT0 = (PAD0 > LOW) ? PAD0 : TOP;
  localparam NEXT1 = (PAD1 > LOW) ? PAD1 : TOP;
  localparam NEXT2 = (PAD2 > LOW) ? PAD2 : TOP;
  localparam NEXT = (NEXT0 <= NEXT1 && NEXT0 <= NEXT2) ? NEXT0 : (NEXT1 <= NEXT2) ? NEXT1 : NEXT2;
  localparam START = (ALONE && !LOW_NEGATED) ? (NEXT < TOP ? NEXT : TOP) : LOW;  // the first bit that is added
  localparam BITS = TOP - START;
  localparam CARRIES = (BITS + 7) / 8;
  localparam NEGATED = NEGATE0 + NEGATE1 + NEGATE2;

  function [63:0] table_of(input integer negate0, input integer negate1, input integer negate2);
    integer i;
    reg a, b, c, m;
    begin
      table_of = 64'b0;
      for (i = 0; i < 32; i = i + 1) begin
        a = i[0] ^ (negate0 != 0);
        b = i[1] ^ (negate1 != 0);
        c = i[2] ^ (negate2 != 0);
        m = i[3];
        table_of[i] = (a & b) | (a & c) | (b & c);
        table_of[i+32] = a ^ b ^ c ^ m;
      end
    end
  endfunction

  wire [TOP-1:0] full, x0, x1, x2;
  genvar i;
  generate
    for (i = 0; i < TOP; i = i + 1) begin : aligned
      if (i < PAD0 || (i >= PAD0 + BW_INPUT0 && SIGNED0 == 0)) assign x0[i] = 1'b0;
      else assign x0[i] = in0[(i < PAD0 + BW_INPUT0) ? i - PAD0 : BW_INPUT0 - 1];
      if (i < PAD1 || (i >= PAD1 + BW_INPUT1 && SIGNED1 == 0)) assign x1[i] = 1'b0;
      else assign x1[i] = in1[(i < PAD1 + BW_INPUT1) ? i - PAD1 : BW_INPUT1 - 1];
      if (i < PAD2 || (i >= PAD2 + BW_INPUT2 && SIGNED2 == 0)) assign x2[i] = 1'b0;
      else assign x2[i] = in2[(i < PAD2 + BW_INPUT2) ? i - PAD2 : BW_INPUT2 - 1];
      if (i < START) assign full[i] = x0[i] | x1[i] | x2[i];
    end
    if (BITS > 0) begin : added
      wire [8*CARRIES-1:0] s, d, sum;
      wire [BITS:0] m;
      wire [8*CARRIES:0] carry;
      assign m[0] = NEGATED > 1;
      assign carry[0] = NEGATED > 0;
      for (i = 0; i < 8 * CARRIES; i = i + 1) begin : bits
        if (i < BITS) begin : used
          LUT6_2 #(.INIT(table_of(NEGATE0, NEGATE1, NEGATE2))) lut (
              .O6(s[i]), .O5(m[i+1]), .I0(x0[START+i]), .I1(x1[START+i]), .I2(x2[START+i]), .I3(m[i]), .I4(1'b0),
              .I5(1'b1));
          assign d[i] = m[i];
          assign full[START+i] = sum[i];
        end else begin : unused
          assign s[i] = 1'b0;
          assign d[i] = 1'b0;
        end
      end
      for (i = 0; i < CARRIES; i = i + 1) begin : carries
        CARRY8 #(.CARRY_TYPE("SINGLE_CY8")) cell_ (
            .CI(carry[8*i]), .CI_TOP(1'b0), .S(s[8*i+:8]), .DI(d[8*i+:8]), .O(sum[8*i+:8]), .CO(carry[8*i+1+:8]));
      end
    end
  endgenerate
  assign out = full[TOP-1:DROP_LSBS];
endmodule
