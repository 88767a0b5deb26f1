"""QONNX and ONNX files (Brevitas, FINN's model zoo): a graph of float operations and Quant nodes into our layers."""

from hgq.importers.qonnx.build import OPERATIONS, QUANTIZERS, load_qonnx
from hgq.importers.qonnx.quant import DATA_ROUNDINGS

__all__ = ["DATA_ROUNDINGS", "OPERATIONS", "QUANTIZERS", "load_qonnx"]
