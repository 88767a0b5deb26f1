"""The complexity of a policy, in EBOPs, before there is a network with it.

EBOPs are those of `hgq.resource` on the weights that the search starts from, rounded to each candidate width. They are
exact for the network that is deployed with these weights (tested), and move by a few percent while weights are trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from keras import ops

from hgq.layers.linear import QLinear
from hgq.methods.gmpq.mixed import MixedQuantizer
from hgq.methods.policy import Policy
from hgq.quantizers.exact import Tensor, read
from hgq.resource import bias_ebops, span


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs by its widths.

    per_bit: for each candidate width of the kernel, the EBOPs that each bit of the input costs.
    biases: EBOPs of the biases.
    """

    per_bit: dict[int, int]
    biases: int

    def ebops(self, w: int, a: int) -> int:
        """EBOPs with a kernel of `w` bits and an input of `a` bits, signs included."""
        return self.per_bit[w] * a + self.biases

    def expected(self, kernel: MixedQuantizer, given: MixedQuantizer) -> Tensor:
        """EBOPs with the shares of two mixtures; differentiable in their alphas."""
        per_bit = np.array([self.per_bit[w] for w in kernel.widths], np.float64)
        mean = ops.sum(kernel.shares() * ops.convert_to_tensor(per_bit, kernel.compute_dtype))
        return mean * given.expected_width() + float(self.biases)


def layer_cost(layer: QLinear) -> LayerCost:
    """Of a layer of a super-net with its present weights; a fully unrolled one: products with padding do not exist."""
    quantizer = layer.kernel_quantizer
    found, ones = {}, ops.ones((1, *layer.input_shape_))
    for width, m in zip(quantizer.widths, quantizer.mantissas(read(layer.kernel)), strict=True):
        bits = ops.convert_to_tensor(span(m).astype("float32"))
        products = np.asarray(ops.convert_to_numpy(layer._multiply(ones, bits)), np.float64)
        found[width] = round(products.sum())
    biases = 0
    if layer.bias_quantizer is not None:
        value = layer.bias_quantizer.quantized(read(layer.bias), training=False)
        types = layer.bias_quantizer.types(layer.bias_shape_)
        biases = bias_ebops(ops.convert_to_numpy(value), types.width, math.prod(layer.output_shape_[:-1]))
    return LayerCost(found, biases)


def policy_ebops(policy: Policy, costs: dict[str, LayerCost]) -> int:
    """EBOPs of a whole policy."""
    return sum(costs[name].ebops(bits.w, bits.a) for name, bits in policy.items())
