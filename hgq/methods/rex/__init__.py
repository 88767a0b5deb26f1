"""REx: a trained float model becomes a quantised one without any data, by expanding what rounding leaves over.

Yvinec, Dapogny, Cord, Bailly: REx, data-free residual quantization error expansion (arXiv 2203.14645). No code of the
authors is public: what the abstract does not say is reconstructed, and the docstrings say where.
"""

from hgq.methods.rex.ensemble import ensemble
from hgq.methods.rex.expand import Expansion, Order, expand, float_scales, power_of_two
from hgq.methods.rex.inputs import expanded_product, product_pairs
from hgq.methods.rex.quantize import Dial, quantize

__all__ = [
    "Dial",
    "Expansion",
    "Order",
    "ensemble",
    "expand",
    "expanded_product",
    "float_scales",
    "power_of_two",
    "product_pairs",
    "quantize",
]
