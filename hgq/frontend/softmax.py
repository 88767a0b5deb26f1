"""QSoftmax: max, difference, table, sum, table, product."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Value
from hgq.frontend.function import looked_up
from hgq.frontend.merge import broadcast, reduced


def softmax(context: Context, layer: Any, x: Value) -> Value:
    """Each step as the layer computes it; masked elements are the constant 0."""
    x = context.quantize("in", x, layer.input_quantizer)
    kept, axes = layer.kept(), layer.axes_
    numbers = np.arange(kept.size).reshape(kept.shape)
    inside = np.where(kept, numbers, -1)
    if layer.stable:
        # In place of a masked element stands the first kept one of its row, which changes no max.
        first = np.where(kept, numbers, kept.size).min(axis=tuple(n - 1 for n in axes), keepdims=True)
        stand_in = np.where(kept, numbers, np.where(first < kept.size, first, -1))
        highest, _ = reduced(context, "max", context.take(stand_in, x), axes, True)
        difference = context.add("difference", "sub", broadcast(context, highest, kept.shape), x)
        x = context.quantize("difference", context.take(inside, difference), layer.difference_quantizer)
    e = context.take(inside, looked_up(context, "exp", x, layer.exp_table))
    total, _ = reduced(context, "sum", e, axes, True)
    total = context.quantize("total", total, layer.sum_quantizer)
    inverse = looked_up(context, "inverse", total, layer.inverse_table)
    return finish(context, layer, context.add("product", "mul", e, broadcast(context, inverse, kept.shape)))
