"""Layers and operations that only move elements, and layers that do nothing at inference.

Where an element goes is not derived from attributes: Keras itself moves numbered elements, so that every argument
means what it means in Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
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


def move(context: Context, layer: Any, *xs: Value) -> Value:
    """A layer that moves elements, repeats them or puts zeros between them."""
    return moved(context, lambda *numbers: layer(numbers[0] if len(xs) == 1 else list(numbers)), xs)[0]


def upsampling(context: Context, layer: Any, x: Value) -> Value:
    if getattr(layer, "interpolation", "nearest") != "nearest":
        raise Unconvertible(
            f"interpolation={layer.interpolation!r} is not supported, only 'nearest'", "use interpolation='nearest'"
        )
    return move(context, layer, x)


def moved(context: Context, function: Callable[..., Any], xs: Sequence[Value]) -> list[Value]:
    """What `function`, which must only move elements, makes of tensors."""
    sizes = [int(np.prod(context.shape(x), dtype=np.int64)) for x in xs]
    total = sum(sizes)
    if total >= 1 << 23:
        raise Unconvertible(
            f"it moves {total} elements, of which float32 cannot number more than 2**23", "make it less"
        )
    numbers, start = [], 1
    for x, size in zip(xs, sizes, strict=True):
        one = np.arange(start, start + size, dtype=np.float32).reshape(context.shape(x))
        numbers.append(keras.ops.convert_to_tensor(np.stack([one, one + np.float32(total)])))
        start += size
    results = _arrays(function(*numbers))
    # The first and second of three samples: what counts samples, as a slice of two or a shift by two, shows.
    again = _arrays(function(*(keras.ops.concatenate([n, n[:1]]) for n in numbers)))
    if not all(y.ndim and len(z) == 3 and np.array_equal(y, z[: len(y)]) for y, z in zip(results, again, strict=True)):
        raise Unconvertible(*_MIXES)
    return [context.take(_index(y, total), *xs) for y in results]


def _arrays(made: Any) -> list[np.ndarray]:
    results = made if isinstance(made, list | tuple) else [made]
    return [np.asarray(keras.ops.convert_to_numpy(y)) for y in results]


_MIXES = "it mixes samples, or drops or moves the batch axis", "leave the first axis alone"


def _index(y: np.ndarray, total: int) -> np.ndarray:
    """Where each element of one sample comes from, -1 for zeros."""
    first = y[0] if y.ndim and len(y) == 2 else np.full(1, -1.0)
    apart = np.where(first == 0, 0, first + total)
    whole = (first == np.floor(first)).all() and (first >= 0).all() and (first <= total).all()
    if y.ndim == 0 or len(y) != 2 or not whole or not (y[1] == apart).all():
        raise Unconvertible(*_MIXES)
    if first.ndim == 0 or not first.size:
        raise Unconvertible(f"it leaves elements of shape {first.shape}", "keep at least one axis and one element")
    return first.astype(np.int64) - 1
