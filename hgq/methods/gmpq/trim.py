"""The EBOPs over a budget, taken from the smallest weights; and weights of 0 that training leaves there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.resource import model_ebops, priced_layers


def trim(model: keras.Model, budget: int) -> int:
    """Sets as few weights of kernels to 0 as bring the exact EBOPs of `model` to `budget`; returns how many.

    Those go first whose quantised value is smallest in parts of their layer's root mean square. Changes the model.

    Raises:
        ValueError: what is no kernel costs more than the budget.
    """
    if model_ebops(model) <= budget:
        return 0
    layers = [layer for layer, _ in priced_layers(model) if "kernel" in layer.constants()]
    kernels = [np.asarray(ops.convert_to_numpy(layer.kernel)) for layer in layers]
    order = np.argsort(np.concatenate([_sizes(layer) for layer in layers]), kind="stable")
    pruned = sum(int((layer.constants()["kernel"][0] == 0).sum()) for layer in layers)

    def cost(count: int) -> int:
        gone = np.zeros(len(order), bool)
        gone[order[:count]] = True
        parts = np.split(gone, np.cumsum([kernel.size for kernel in kernels])[:-1])
        for layer, kernel, part in zip(layers, kernels, parts, strict=True):
            layer.kernel.assign(np.where(part.reshape(kernel.shape), 0, kernel))
        return model_ebops(model)

    few, many = pruned, len(order)
    if cost(many) > budget:
        cost(0)
        raise ValueError(
            f"a budget of {budget:,} EBOPs, but the biases and normalisations of '{model.name}' cost more. "
            "Fix: a larger one"
        )
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if cost(middle) <= budget else (middle, many)
    cost(many)
    return many - pruned


@contextmanager
def zeros_held(model: keras.Model) -> Iterator[None]:
    """While it lasts, training leaves weights of kernels at 0 whose quantised value is 0 now.

    For a compiled model: compile it within.
    """
    layers = [layer for layer, _ in priced_layers(model) if "kernel" in layer.constants()]
    before = [layer.kernel.constraint for layer in layers]
    for layer, also in zip(layers, before, strict=True):
        used = (layer.constants()["kernel"][0] != 0).reshape(layer.kernel.shape)
        kept = ops.convert_to_tensor(used.astype(layer.kernel.dtype))
        layer.kernel.assign(layer.kernel * kept)
        layer.kernel.constraint = lambda w, kept=kept, also=also: (w if also is None else also(w)) * kept
    try:
        yield
    finally:
        for layer, constraint in zip(layers, before, strict=True):
            layer.kernel.constraint = constraint


def _sizes(layer: Any) -> np.ndarray:
    value = np.abs(layer.constants()["kernel"][0]).ravel()
    return value / max(float(np.sqrt(np.square(value).mean())), np.finfo(np.float64).tiny)
