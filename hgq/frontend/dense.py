"""QDense and QDenseBatchNorm."""

from __future__ import annotations

from typing import Any

from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Value, mantissas


def dense(context: Context, layer: Any, x: Value) -> Value:
    """Input quantizer, matrix product with the constants as the layer computes them, activation, output quantizer."""
    x = context.quantize("in", x, layer.input_quantizer)
    attrs: dict[str, Any] = {}
    for name, (values, types) in layer.constants().items():
        attrs |= {name: mantissas(values, types), f"{name}_types": types}
    return finish(context, layer, context.add("sum", "dense", x, **attrs))
