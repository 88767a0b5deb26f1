"""What a model costs in hardware. Nothing here imports Keras."""

from hgq.resource.ebops import bias_ebops, conv_ebops, einsum_ebops, matmul_ebops, span
from hgq.resource.model import model_ebops, priced_layers

__all__ = ["bias_ebops", "conv_ebops", "einsum_ebops", "matmul_ebops", "model_ebops", "priced_layers", "span"]
