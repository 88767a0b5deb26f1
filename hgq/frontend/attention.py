"""QMultiHeadAttention: its parts, one after the other, each under a name of its own."""

from __future__ import annotations

from typing import Any

from hgq.frontend.context import Context, Value
from hgq.frontend.einsum import einsum, einsum_dense
from hgq.frontend.softmax import softmax


def attention(context: Context, layer: Any, query: Value, value: Value, key: Value | None = None) -> Value:
    """Projections, scores, softmax, weighted sum, projection; the parts are called ``layer/part``."""
    whole = context.origin

    def part(handler: Any, made_by: Any, *xs: Value) -> Value:
        context.origin = f"{whole}/{made_by.name}"
        return handler(context, made_by, *xs)

    try:
        q = part(einsum_dense, layer.query_dense, query)
        k = part(einsum_dense, layer.key_dense, value if key is None else key)
        v = part(einsum_dense, layer.value_dense, value)
        scores = part(einsum, layer.scores, q, k)
        if layer.power:
            scores = context.add("scaled", "scale", scores, power=layer.power)
        combined = part(einsum, layer.combine, part(softmax, layer.softmax, scores), v)
        return part(einsum_dense, layer.output_dense, combined)
    finally:
        context.origin = whole
