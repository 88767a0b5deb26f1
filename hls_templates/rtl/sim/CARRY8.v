// Simulation model of the carry cell of Xilinx UltraScale and UltraScale+, for simulators that have no vendor library.
// Not for synthesis, where the tool knows the cell: nothing is left of this file there.
`ifndef SYNTHESIS
module CARRY8 #(
  parameter CARRY_TYPE = "SINGLE_CY8"  // the only one that is modelled
) (
  input wire CI,
  input wire CI_TOP,
  input wire [7:0] DI,
  input wire [7:0] S,
  output wire [7:0] O,
  output wire [7:0] CO
);
  // O[i] = S[i] ^ carry, and the next carry is S[i] ? carry : DI[i]: so adds DI and S ^ DI, bit for bit.
  wire last;
  assign {last, O} = {1'b0, DI} + {1'b0, S ^ DI} + {8'd0, CI};
  assign CO = {last, O[7:1] ^ S[7:1]};

  initial if (CARRY_TYPE != "SINGLE_CY8" || CI_TOP !== 1'b0) begin
    $display("CARRY8: no model for CARRY_TYPE %0s or for CI_TOP in use", CARRY_TYPE);
    $finish;
  end
endmodule
`endif
