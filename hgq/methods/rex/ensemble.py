"""The ensemble: the orders of all kernels in groups, each group a network of its own that runs beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from hgq.methods.network import kernel_value, weighted
from hgq.methods.rex.expand import Expansion


def ensemble(folded: keras.Model, expansions: dict[str, Expansion], groups: Sequence[int]) -> keras.Model:
    """``g_1(x) + ... + g_M(x)``, where g_m is the network with only the orders of group m; a float Keras model.

    Exact where the network is linear, and with one group. Else an approximation, better the more orders are in the
    first group. How the paper splits the orders is known in outline only: reconstructed.

    Args:
        folded: a folded model with one output; layers come out as ``name_m``.
        expansions: of the kernel of each layer of ``weighted(folded)``, by name.
        groups: how many orders each group has, the first first; they add up to the orders of the expansions.

    Raises:
        ValueError: they do not, or the model has several outputs, or a normalisation that was not folded.
    """
    orders = {len(one.orders) for one in expansions.values()}
    if orders != {sum(groups)} or min(groups, default=0) < 1:
        raise ValueError(f"groups={tuple(groups)} add up to {sum(groups)}; the expansions have {sorted(orders)} orders")
    if len(folded.outputs) != 1:
        raise ValueError(f"{folded.name}: it has {len(folded.outputs)} outputs; an ensemble adds up one")
    normalised = [layer.name for layer in weighted(folded) if type(layer).__name__ == "BatchNormalization"]
    if normalised:
        raise ValueError(f"BatchNormalization '{normalised[0]}' was not folded, so it cannot be split into a sum")
    results, start = [], 0
    for number, size in enumerate(groups):
        results.append(_member(folded, expansions, number, slice(start, start + size)))
        start += size
    total = results[0] if len(results) == 1 else keras.layers.Add(name="ensemble")(results)
    return keras.Model(_inputs(folded), total, name=folded.name)


def _inputs(folded: keras.Model) -> Any:
    return folded.inputs if len(folded.inputs) > 1 else folded.inputs[0]


def _member(folded: keras.Model, expansions: dict[str, Expansion], number: int, orders: slice) -> keras.KerasTensor:
    """The result of one member, on the inputs of the model; biases are the first's."""

    def renamed(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config(layer.get_config() | {"name": f"{layer.name}_{number + 1}"})

    member = keras.models.clone_model(folded, input_tensors=_inputs(folded), clone_function=renamed)
    for layer in weighted(folded):
        value = np.sum([order.value for order in expansions[layer.name].orders[orders]], axis=0)
        copy = member.get_layer(f"{layer.name}_{number + 1}")
        copy.kernel.assign(value.astype(np.float32).reshape(kernel_value(layer).shape))
        if layer.bias is not None:
            copy.bias.assign(layer.bias if number == 0 else np.zeros(layer.bias.shape, np.float32))
    return member.outputs[0]
