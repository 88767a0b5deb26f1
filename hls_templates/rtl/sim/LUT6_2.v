// Simulation model of the Xilinx LUT with two outputs, for simulators that have no vendor library.
// Not for synthesis, where the tool knows the cell: nothing is left of this file there.
`ifndef SYNTHESIS
module LUT6_2 #(
  parameter [63:0] INIT = 64'd0
) (
  input wire I0,
  input wire I1,
  input wire I2,
  input wire I3,
  input wire I4,
  input wire I5,
  output wire O5,
  output wire O6
);
  assign O5 = INIT[{1'b0, I4, I3, I2, I1, I0}];
  assign O6 = INIT[{I5, I4, I3, I2, I1, I0}];
endmodule
`endif
