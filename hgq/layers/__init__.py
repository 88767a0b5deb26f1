"""Quantised Keras layers: what users train. Every exported class derives from `QLayer`."""

from hgq import hls4ml_guards
from hgq.layers.activation import QActivation
from hgq.layers.base import QLayer
from hgq.layers.dense import QDense
from hgq.layers.norm import QDenseBatchNorm

__all__ = ["QActivation", "QDense", "QDenseBatchNorm", "QLayer"]

hls4ml_guards.register()  # hls4ml's own converter would take QDense for QKeras' and drop its quantizers
