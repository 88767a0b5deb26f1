"""Constant matrix times vector as shifts and adds. README.md says how, and what was tried."""

from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.multiply import multiply, solve
from hgq.lower.cmvm.options import Objective, Options

__all__ = ["AdderGraph", "Objective", "Options", "multiply", "solve"]
