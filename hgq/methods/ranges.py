"""What values the input of each layer takes: measured on data."""

from __future__ import annotations

import keras
import numpy as np

from hgq.methods.network import averages, weighted

Ranges = dict[str, tuple[np.ndarray, np.ndarray]]
"""Layer -> smallest and largest value of its input, in the rank of the input without its batch axis."""


def measured(folded: keras.Model, data: np.ndarray, per_channel: bool = False, batch: int = 256) -> Ranges:
    """The ranges that the inputs of `weighted` and `averages` take on `data`.

    Args:
        data: what the model takes, with a batch axis.
        per_channel: one range for each index of the last axis, or one for the tensor.
    """
    layers = [*weighted(folded), *averages(folded)]
    taps = keras.Model(folded.inputs, [layer.input for layer in layers])
    found: Ranges = {}
    for start in range(0, len(data), batch):
        seen = taps(keras.ops.convert_to_tensor(data[start : start + batch]), training=False)
        for layer, values in zip(layers, seen if isinstance(seen, list) else [seen], strict=True):
            x = np.asarray(keras.ops.convert_to_numpy(values))
            axes = tuple(range(x.ndim - 1)) if per_channel else tuple(range(x.ndim))
            shape = (1,) * (x.ndim - 2) + (-1,)
            lo, hi = (end(x, axis=axes).reshape(shape) for end in (np.min, np.max))
            if layer.name in found:
                lo, hi = np.minimum(lo, found[layer.name][0]), np.maximum(hi, found[layer.name][1])
            found[layer.name] = lo, hi
    return found
