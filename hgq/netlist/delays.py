"""The delay models: nanoseconds of one op by its widths, routing included; one model for each FPGA family.

Models to plan registers with before any tool has run. That of ECP5 is fitted to place and route (`benchmarks/delays.py`
makes the fit and states how far off it is). Those of Xilinx are not measured here: see `EVIDENCE`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hgq.errors import IRError
from hgq.netlist.module import Module, Node
from hgq.netlist.ops import table_params, table_sum_params
from hgq.netlist.targets import silicon_of


@dataclass(frozen=True, slots=True)
class DelayModel:
    """Nanoseconds of the ops of one FPGA.

    register: what a clock period loses to clock-to-output, set-up and the wire between.
    lut: one level of LUTs with its wires; inputs: of such a LUT.
    add: an adder without its carry chain: wires, entry and exit. carry: each bit of a carry chain.
    tree: whether synthesis compares numbers in a tree of LUTs rather than on a carry chain.
    block: a multiplier block of 27 x 18 bits without its registers; None: products are trees of adders.
    evidence: where the numbers come from, as a sentence for reports.
    """

    name: str
    register: float
    lut: float
    inputs: int
    add: float
    carry: float
    block: float | None
    tree: bool
    evidence: str

    def delay(self, module: Module, node: Node) -> float:
        """Nanoseconds from the last operand to the result."""
        match node.op:
            case "add" | "sub" | "neg":
                return self._adder(node.width)
            case "add3":
                # The LUT that sums three bits feeds the one in the next place.
                return self.lut + self._adder(node.width)
            case "relu":
                return self.lut
            case "max" | "min":
                # A comparison, then a selection.
                widest = max(module.nodes[arg].width + by for arg, by in zip(node.args, node.params, strict=True))
                return self.lut + self._compare(widest)
            case "mul":
                narrow, wide = sorted(module.nodes[arg].width for arg in node.args)
                tree = self.lut + self._adder(wide) * (narrow - 1).bit_length()
                if self.block is None:
                    return tree
                return min(tree, self.block + self._adder(wide) * (-(-narrow // 17) * -(-wide // 26) - 1))
            case "lookup":
                return self._table(module.nodes[node.args[0]].width)
            case "table_sum":
                # The table stands in the LUTs of the sum, as far as these have the inputs.
                _, _, table = table_sum_params(node.params)
                beside = self._table(sum(table_params(table)[0]) + 1) - self.lut
                return self._adder(node.width) + beside
            case "table":
                return self._table(sum(table_params(node.params)[0]))
            case "clamp":
                lo, hi = node.params
                if hi & (hi + 1) == 0 and lo in (0, -hi - 1):
                    return 2 * self.lut  # whether the bits cut off agree, then a selection
                return self.lut + self._compare(module.nodes[node.args[0]].width)
            case "input" | "const" | "keep" | "concat" | "extend" | "register":
                return 0.0
        raise IRError(f"the delay model has no rule for the op {node.op!r}")

    def scaled(self, factor: float, name: str) -> DelayModel:
        """The model of a device that takes `factor` times as long for everything."""
        times = {key: getattr(self, key) * factor for key in ("register", "lut", "add", "carry")}
        return replace(self, name=name, block=None if self.block is None else self.block * factor, **times)

    def _adder(self, width: int) -> float:
        return self.add + self.carry * width

    def _compare(self, width: int) -> float:
        return self.lut * (1 + (width - 1).bit_length()) if self.tree else self._adder(width)

    def _table(self, inputs: int) -> float:
        """A table of more inputs than a LUT has chooses between LUTs, two inputs a level."""
        return self.lut * (1 + max(inputs - self.inputs + 1, 0) // 2)


EVIDENCE = (
    "not measured: of the order that published 200 MHz designs of this kind on UltraScale+ -2 imply (five to six adder "
    "levels a stage); other families and speed grades scaled by the clock of their DSP slices in the data sheets"
)
_XILINX = DelayModel(
    name="Xilinx UltraScale+ -2",
    register=0.30,
    lut=0.45,
    inputs=6,
    add=0.75,
    carry=0.02,
    block=3.2,
    tree=False,
    evidence=EVIDENCE,
)
_DSP_MHZ = {
    "UltraScale+": {3: 891, 2: 775, 1: 645},
    "UltraScale": {3: 741, 2: 661, 1: 594},
    "Kintex-7 and Virtex-7": {3: 741, 2: 650, 1: 547},
    "Artix-7 and Spartan-7": {3: 628, 2: 550, 1: 464},
}
"""MHz of a DSP slice with all registers in use, by speed grade: data sheets DS923, DS893, DS182, DS181."""
ECP5 = DelayModel(
    name="Lattice ECP5 -6",
    # The fit to small designs is 0.893, 0.961, 1.418, 0.057; a whole network's wires took 1.19 times that.
    register=1.06,
    lut=1.14,
    inputs=4,
    add=1.69,
    carry=0.068,
    block=None,
    tree=True,
    evidence="fitted to designs routed by nextpnr (small ones to 12 % root mean square, then scaled by one network)",
)
DEFAULT = _XILINX
MODELS = {"xcup": _XILINX, "ecp5": ECP5}


def delay_model(part: str) -> DelayModel:
    """The model of an FPGA part; that of UltraScale+ -2 for parts that are not known, and it says so.

    A Xilinx part without a speed grade is taken for the slowest.

    >>> delay_model("xcvu13p-flga2577-2-e").name, delay_model("xc7a100tcsg324-1").name, delay_model("LFE5U-85F").name
    ('Xilinx UltraScale+ -2', 'Xilinx Artix-7 and Spartan-7 -1', 'Lattice ECP5 -6')
    """
    if re.match(r"lfe5u", part.lower()):
        return ECP5
    silicon = silicon_of(part)
    if silicon is not None:
        found = re.findall(r"-([123])(?:[a-z]*(?:-|$))", part.lower())
        grade = int(found[-1]) if found else 1
        return _XILINX.scaled(_DSP_MHZ["UltraScale+"][2] / _DSP_MHZ[silicon][grade], f"Xilinx {silicon} -{grade}")
    return replace(_XILINX, evidence=f"no model for {part}, so that of {_XILINX.name}, which is {_XILINX.evidence}")
