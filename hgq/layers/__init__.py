"""Quantised Keras layers: what users train. Every exported class derives from `QLayer`."""

from hgq.layers.activation import QActivation
from hgq.layers.base import QLayer
from hgq.layers.dense import QDense
from hgq.layers.norm import QDenseBatchNorm

__all__ = ["QActivation", "QDense", "QDenseBatchNorm", "QLayer"]
