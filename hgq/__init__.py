"""From a Keras 3 model with learned bit-widths to FPGA logic that is proven to compute the same.

hgq.quantizers, layers      train: Keras layers whose fixed-point types are learned
hgq.resource, training      train: what the hardware will cost as a part of the loss, callbacks
hgq.refinement              train: single weights and widths of the integer network, once training is done
hgq.importers               convert: models of HGQ2, QKeras, QONNX and plain Keras -> ours, exactly
hgq.frontend -> hgq.ir      convert: Keras -> integer graph, the golden model; from here on there are no floats
hgq.emit (hls4ml)           convert: integer graph -> hls4ml project (C++)
hgq.lower -> hgq.netlist    convert: integer graph -> shift-add logic, improved by hgq.passes
hgq.emit (Verilog)          convert: netlist -> pipelined Verilog, one module per layer
hgq.sim, hgq.verify         verify: Keras, golden model, C simulation, Verilator and cocotb agree bit for bit
hgq.report, hgq.cli         tell: the summary, report.json, and the commands hgq-convert and hgq-simulate
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import hgq_fpga

hgq_fpga.refuse_rivals()

if TYPE_CHECKING:
    from hgq.conversion import convert
    from hgq.importers import load
    from hgq.project import Project

__version__ = hgq_fpga.VERSION
__all__ = ["Project", "convert", "load"]

# Names are looked up on first use: importing hgq, hgq.ir or hgq.emit must not take the seconds that Keras takes.
_PUBLIC = {"convert": "hgq.conversion", "Project": "hgq.project", "load": "hgq.importers"}
_MODULES = ("errors", "fixed", "layers", "methods", "quantizers", "resource", "training")


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"hgq.{name}")
    raise AttributeError(f"module 'hgq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_MODULES})
