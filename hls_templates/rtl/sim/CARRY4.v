// Simulation model of the carry cell of the Xilinx 7 series, for simulators that have no vendor library.
// Not for synthesis, where the tool knows the cell: nothing is left of this file there.
`ifndef SYNTHESIS
module CARRY4 (
  input wire CI,
  input wire CYINIT,
  input wire [3:0] DI,
  input wire [3:0] S,
  output wire [3:0] O,
  output wire [3:0] CO
);
  // O[i] = S[i] ^ carry, and the next carry is S[i] ? carry : DI[i]: so adds DI and S ^ DI, bit for bit.
  wire last;
  assign {last, O} = {1'b0, DI} + {1'b0, S ^ DI} + {4'd0, CI | CYINIT};
  assign CO = {last, O[3:1] ^ S[3:1]};
endmodule
`endif
