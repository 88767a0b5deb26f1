"""Max and average pooling, Keras' own and ours."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from hgq.fixed import FixedArray
from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Unconvertible, Value
from hgq.layers.pool import equal_halvings, pool_windows
from hgq.windows import Windows


def max_pool(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.MaxPooling1D and 2D."""
    return context.add("max", "max_pool", x, **_geometry(_windows(context, layer, x)))


def global_max(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.GlobalMaxPooling1D and 2D."""
    y = context.add("max", "max_pool", x, **_geometry(_everything(context, layer, x)))
    return _shaped(context, layer, y)


def average(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.AveragePooling1D and 2D, where the average is exact."""
    return _exact_mean(context, layer, x, _windows(context, layer, x))


def global_average(context: Context, layer: Any, x: Value) -> Value:
    """keras.layers.GlobalAveragePooling1D and 2D, where the average is exact."""
    return _shaped(context, layer, _exact_mean(context, layer, x, _everything(context, layer, x)))


def q_average(context: Context, layer: Any, x: Value) -> Value:
    """An exact sum, times the constant that the layer owns."""
    x = context.quantize("in", x, layer.input_quantizer)
    windows = layer.windows((None, *context.shape(x)))
    halvings = layer.halvings()
    y = context.add("sum", "sum_pool", x, **_geometry(windows), halvings=(halvings or 0,))
    if halvings is None:
        m, frac = layer.averaging_constants()
        shape = context.shape(y)
        # One constant for each channel where all windows are alike, else one for each element.
        m = np.full(shape[-1:], m[0]) if len(set(m.tolist())) == 1 else np.broadcast_to(m[:, None], (m.size, shape[-1]))
        m = np.ascontiguousarray(m) if m.ndim == 1 else m.reshape(shape)
        zero = np.zeros(m.shape, np.int64)
        constants = {"scale": m, "scale_types": FixedArray.holding(zero, m, zero + frac)}
        y = context.add("mean", "affine", y, **constants, offset=zero, offset_types=FixedArray(zero, zero, zero))
    return finish(context, layer, context.reshape(y, tuple(layer.output_shape_)))


def _exact_mean(context: Context, layer: Any, x: Value, windows: Windows) -> Value:
    halvings = equal_halvings(windows)
    if halvings is None:
        counts = sorted(set(windows.counts.tolist()))
        raise Unconvertible(
            f"its windows hold {' or '.join(map(str, counts))} elements (pool_size={windows.size}, "
            f"padding={getattr(layer, 'padding', 'valid')!r}), and 1/{counts[-1] if len(counts) == 1 else 'n'} is no "
            "exact binary number",
            f"use hgq.layers.Q{type(layer).__name__}, which owns a fixed-point constant",
        )
    return context.add("mean", "sum_pool", x, **_geometry(windows), halvings=(halvings,))


def _windows(context: Context, layer: Any, x: Value) -> Windows:
    _channels_last(layer)
    shape = context.shape(x)
    if layer.padding not in ("valid", "same"):
        raise Unconvertible(f"padding={layer.padding!r} is not supported", "use 'valid' or 'same'")
    size, strides = (
        (value,) * (len(shape) - 1) if isinstance(value, int) else tuple(value)
        for value in (layer.pool_size, layer.strides)
    )
    return pool_windows(shape[:-1], size, strides, layer.padding)


def _everything(context: Context, layer: Any, x: Value) -> Windows:
    _channels_last(layer)
    spatial = context.shape(x)[:-1]
    return pool_windows(spatial, spatial, spatial, "valid")


def _channels_last(layer: Any) -> None:
    if layer.data_format != "channels_last":
        raise Unconvertible(f"data_format={layer.data_format!r} is not supported", "use 'channels_last'")


def _shaped(context: Context, layer: Any, y: Value) -> Value:
    return y if layer.keepdims else context.reshape(y, context.shape(y)[-1:])


def _geometry(windows: Windows) -> dict[str, Any]:
    padding = tuple(chain(*zip(windows.before, windows.after, strict=True)))
    return {"size": windows.size, "strides": windows.strides, "padding": padding}
