"""Learnable fixed-point quantizers. One parametrisation per file; rounding, overflow and granularity are composed.

`WidthQuantizer` trains magnitude bits and integer bits (default for weights), `FracQuantizer` trains fractional bits
and reads the integer bits off the range of the data (default for activations). `BinaryTernaryQuantizer` is for weights
that are -mu, mu and perhaps 0: adders and nothing else.
"""

from hgq.fixed import Overflow, Rounding
from hgq.quantizers.base import Quantizer
from hgq.quantizers.binary_ternary import BinaryTernaryQuantizer
from hgq.quantizers.defaults import activation_quantizer, bias_quantizer, weight_quantizer
from hgq.quantizers.frac import FracQuantizer
from hgq.quantizers.width import WidthQuantizer

__all__ = [
    "BinaryTernaryQuantizer",
    "FracQuantizer",
    "Overflow",
    "Quantizer",
    "Rounding",
    "WidthQuantizer",
    "activation_quantizer",
    "bias_quantizer",
    "weight_quantizer",
]
