"""Layers that only rename elements, and layers that do nothing at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.frontend.context import Context, Unconvertible, Value


def identity(context: Context, layer: Any, x: Value) -> Value:
    """Dropout and its kin."""
    return x


def flatten(context: Context, layer: Any, x: Value) -> Value:
    if layer.data_format != "channels_last":
        raise Unconvertible(f"data_format={layer.data_format!r} is not supported", "use 'channels_last'")
    return context.reshape(x, (int(np.prod(context.shape(x), dtype=np.int64)),))


def reshape(context: Context, layer: Any, x: Value) -> Value:
    """target_shape may hold one -1."""
    size = int(np.prod(context.shape(x), dtype=np.int64))
    known = int(np.prod([n for n in layer.target_shape if n != -1], dtype=np.int64))
    return context.reshape(x, tuple(size // known if n == -1 else int(n) for n in layer.target_shape))
