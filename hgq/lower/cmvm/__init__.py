"""Constant matrix times vector as shifts and adds. README.md says how, and what was tried."""

from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.multiply import Trials, Way, multiply, solve, using
from hgq.lower.cmvm.options import OBJECTIVES, Objective, Options

__all__ = ["OBJECTIVES", "AdderGraph", "Objective", "Options", "Trials", "Way", "multiply", "solve", "using"]
