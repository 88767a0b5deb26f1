"""The scalar-level logic: one node per adder, comparison or register. README.md has the ops.

Nothing here imports Keras.
"""

from hgq.netlist.design import Design, Instance, Wire
from hgq.netlist.evaluate import evaluate_design, evaluate_module
from hgq.netlist.module import Builder, Module, Node, Port
from hgq.netlist.ops import OPS

__all__ = [
    "OPS",
    "Builder",
    "Design",
    "Instance",
    "Module",
    "Node",
    "Port",
    "Wire",
    "evaluate_design",
    "evaluate_module",
]
