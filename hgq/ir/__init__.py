"""The tensor-level integer graph: one node per tensor operation, the golden model of everything that is emitted.

README.md in this folder has the semantics. Nothing here imports Keras.
"""

from hgq.ir.check import check
from hgq.ir.evaluate import evaluate, evaluate_nodes
from hgq.ir.graph import Graph, Node
from hgq.ir.ops import OPS
from hgq.ir.range import Range
from hgq.ir.text import parse

__all__ = ["OPS", "Graph", "Node", "Range", "check", "evaluate", "evaluate_nodes", "parse"]
