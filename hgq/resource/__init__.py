"""What a model costs in hardware. Nothing here imports Keras."""

from hgq.resource.ebops import bias_ebops, conv_ebops, einsum_ebops, matmul_ebops, span
from hgq.resource.model import COSTS, model_ebops, model_luts, priced_layers, set_cost

__all__ = [
    "COSTS",
    "bias_ebops",
    "conv_ebops",
    "einsum_ebops",
    "matmul_ebops",
    "model_ebops",
    "model_luts",
    "priced_layers",
    "set_cost",
    "span",
]
