"""Quantised Keras layers: what users train. Every exported class derives from `QLayer`."""

from hgq import hls4ml_guards
from hgq.layers.activation import QActivation, QPReLU
from hgq.layers.attention import QMultiHeadAttention
from hgq.layers.base import QLayer
from hgq.layers.batch_norm import QBatchNormalization
from hgq.layers.conv import QConv1D, QConv1DBatchNorm, QConv1DTranspose, QConv2D, QConv2DBatchNorm, QConv2DTranspose
from hgq.layers.dense import QDense
from hgq.layers.depthwise import QDepthwiseConv1D, QDepthwiseConv2D, QSeparableConv1D, QSeparableConv2D
from hgq.layers.einsum import QEinsumDense, QEinsumDenseBatchNorm
from hgq.layers.embedding import QEmbedding
from hgq.layers.function import QFunction
from hgq.layers.gru import QGRU
from hgq.layers.layer_norm import QLayerNormalization, QRMSNormalization
from hgq.layers.lstm import QLSTM
from hgq.layers.norm import QDenseBatchNorm
from hgq.layers.pool import QAveragePooling1D, QAveragePooling2D, QGlobalAveragePooling1D, QGlobalAveragePooling2D
from hgq.layers.product import QDot, QEinsum
from hgq.layers.simple_rnn import QSimpleRNN
from hgq.layers.softmax import QSoftmax

__all__ = [
    "QGRU",
    "QLSTM",
    "QActivation",
    "QAveragePooling1D",
    "QAveragePooling2D",
    "QBatchNormalization",
    "QConv1D",
    "QConv1DBatchNorm",
    "QConv1DTranspose",
    "QConv2D",
    "QConv2DBatchNorm",
    "QConv2DTranspose",
    "QDense",
    "QDenseBatchNorm",
    "QDepthwiseConv1D",
    "QDepthwiseConv2D",
    "QDot",
    "QEinsum",
    "QEinsumDense",
    "QEinsumDenseBatchNorm",
    "QEmbedding",
    "QFunction",
    "QGlobalAveragePooling1D",
    "QGlobalAveragePooling2D",
    "QLayer",
    "QLayerNormalization",
    "QMultiHeadAttention",
    "QPReLU",
    "QRMSNormalization",
    "QSeparableConv1D",
    "QSeparableConv2D",
    "QSimpleRNN",
    "QSoftmax",
]

hls4ml_guards.register()  # hls4ml's own converter would take QDense for QKeras' and drop its quantizers
