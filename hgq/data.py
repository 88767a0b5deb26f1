"""What users pass as data: checked, and as one array for each model input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def tensors(x: Any, shapes: Mapping[str, tuple[int, ...]], what: str = "data") -> list[np.ndarray]:
    """One float32 array for each input, in the order of `shapes`. Keras computes in float32, so data is that first.

    Args:
        x: an array; a list or dict of arrays where there are several inputs.
        shapes: shape of each input without the samples axis, by name.
        what: what to call it in messages.

    Raises:
        ValueError: wrong number, names, shapes or kind of values; naming the input.
    """
    if isinstance(x, dict):
        if set(x) != set(shapes):
            raise ValueError(f"{what} has the inputs {sorted(x)}, the model has {sorted(shapes)}")
        parts = [x[name] for name in shapes]
    elif isinstance(x, list | tuple) and len(shapes) > 1:
        parts = list(x)
    else:
        parts = [x]
    if len(parts) != len(shapes):
        raise ValueError(f"{what} has {len(parts)} array(s), the model has {len(shapes)} inputs: {', '.join(shapes)}")
    arrays = [_numbers(part, name, shape, what) for part, (name, shape) in zip(parts, shapes.items(), strict=True)]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(f"{what}: the inputs have different numbers of samples: {[len(a) for a in arrays]}")
    return arrays


def _numbers(part: Any, name: str, shape: tuple[int, ...], what: str) -> np.ndarray:
    array = np.asarray(part)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} for input '{name}' is of type {array.dtype}; give numbers")
    if array.ndim == 0 or array.shape[1:] != shape:
        wanted = ", ".join(["samples", *map(str, shape)])
        raise ValueError(f"{what} for input '{name}' has shape {array.shape}; the model takes ({wanted})")
    if not len(array):
        raise ValueError(f"{what} for input '{name}' holds no sample")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named below
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        where = tuple(int(n) for n in np.argwhere(~np.isfinite(single))[0])
        why = ", which float32 cannot hold" if np.isfinite(array[where]) else ""
        raise ValueError(f"{what} for input '{name}' holds {array[where]} at index {where}{why}; remove or replace it")
    return single
