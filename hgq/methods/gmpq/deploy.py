"""From a policy to a quantised model: ranges for its widths on the data of the deployment, and fine-tuning there.

The policy may come from another data set or another head: it holds widths by layer, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.importers.types import Types
from hgq.methods.gmpq.cost import policy_ebops
from hgq.methods.gmpq.supernet import BIAS_WIDTH, SuperNet, bias_range, input_range, inputs_of, row_ranges
from hgq.methods.network import LayerTypes, averages, bias_value, build, kernel_value, weighted
from hgq.methods.policy import Policy
from hgq.resource import model_ebops, priced_layers

OTHER_WIDTH = 8
"""Bits of what a policy does not name: inputs of averages, input and scale of a normalisation that was not folded."""


def layer_types(
    folded: keras.Model, policy: Policy, x: np.ndarray, *, each_weight: bool = False
) -> dict[str, LayerTypes]:
    """Types with the widths of `policy`, and the power-of-two ranges that lose least (`least_error`).

    Args:
        folded: what `hgq.methods.network.fold` gave, of the deployment.
        x: samples of the deployment; some are read for the ranges of activations.
        each_weight: a type of its own for each weight, as HGQ training starts from; otherwise outputs share one width.

    Raises:
        ValueError: a layer of the model that the policy has no widths for, or too few bits for a value.
    """
    layers = weighted(folded)
    missing = [one.name for one in layers if one.name not in policy and not _is_norm(one)]
    if missing:
        raise ValueError(
            f"the policy has no widths for layer '{missing[0]}'; it has some for {', '.join(policy) or 'none'}. "
            "Fix: deploy on a network whose layers have the names of the one that was searched"
        )
    means = averages(folded)
    seen = inputs_of(folded, [one.name for one in [*layers, *means]], x)
    chosen = {one.name: _types(one, seen[one.name], policy, each_weight) for one in layers}
    return chosen | {one.name: LayerTypes(_input_types(seen[one.name], OTHER_WIDTH)) for one in means}


def _types(layer: Any, seen: np.ndarray, policy: Policy, each_weight: bool) -> LayerTypes:
    w, a = (OTHER_WIDTH, OTHER_WIDTH) if _is_norm(layer) else (policy[layer.name].w, policy[layer.name].a)
    least = 1 + bool(seen.min() < 0)
    if w < 2 or a < least:
        raise ValueError(
            f"layer '{layer.name}': {w} bits for weights and {a} for its input in the policy; the least are 2 "
            f"and {least}, for values with a sign have one bit for it"
        )
    kernel, bias = kernel_value(layer), bias_value(layer)
    ranges = row_ranges(layer, kernel, w)
    weights = _typed(np.broadcast_to(ranges, kernel.shape) if each_weight else ranges, w, True, Overflow.SAT_SYM)
    biases = None if bias is None else _typed(np.array([bias_range(bias)]), BIAS_WIDTH, True, Overflow.SAT_SYM)
    return LayerTypes(_input_types(seen, a), weights, biases)


def _input_types(seen: np.ndarray, width: int) -> Types:
    signed = bool(seen.min() < 0)
    ranges = np.full((1,) * (seen.ndim - 1), input_range(seen, width, signed))
    return _typed(ranges, width, signed, Overflow.SAT)


def _typed(ranges: np.ndarray, width: int, signed: bool, overflow: Overflow) -> Types:
    """Types of `width` bits, sign included, that reach up to the powers of two ``2**ranges``."""
    bits = np.full(ranges.shape, width - signed)
    return Types(np.full(ranges.shape, int(signed)), bits, bits - ranges, Rounding.RND, overflow)


def _is_norm(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def deploy(folded: keras.Model, policy: Policy, x: np.ndarray, *, each_weight: bool = False) -> keras.Model:
    """The quantised model of `layer_types`, with the weights of `folded`; not fine-tuned."""
    return build(folded, layer_types(folded, policy, x, each_weight=each_weight))


def other_ebops(folded: keras.Model, net: SuperNet, x: np.ndarray) -> int:
    """EBOPs of what no policy names, as normalisations that were not folded; exact before fine-tuning."""
    narrowest = net.narrowest()
    return model_ebops(deploy(folded, narrowest, x)) - policy_ebops(narrowest, net.costs)


def finetune(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int = 8,
    batch: int = 128,
    rate: float = 1e-3,
    loss: Any = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Trains the weights and ranges of a deployed model in place, straight through its roundings; widths stay.

    Adam from `rate` down a cosine. With `validation` the epoch of the least loss there is kept. To train widths too
    (HGQ from a warm start), compile and fit the model instead, or after this.

    Args:
        loss: of the model's outputs; by default the cross-entropy of logits and class numbers.
    """
    frozen = [q for layer, _ in priced_layers(model) for q in layer.quantizers().values()]
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    held = [variable for quantizer in frozen for variable in _widths_of(quantizer) if variable.trainable]
    betas = [layer.beta for layer, _ in priced_layers(model)]
    prices = [float(keras.ops.convert_to_numpy(beta)) for beta in betas]
    for variable in held:
        variable.trainable = False
    for beta in betas:
        beta.assign(0.0)  # the price of widths that stay would only hide the loss
    steps = epochs * -(-len(x) // batch)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)), loss)

    def told(epoch: int, logs: dict[str, float]) -> None:
        progress(f"fine-tuning, epoch {epoch + 1} of {epochs}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()))

    callbacks: list[Any] = [keras.callbacks.LambdaCallback(on_epoch_end=told)]
    if validation is not None:
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True))
    try:
        model.fit(x, y, batch_size=batch, epochs=epochs, validation_data=validation, callbacks=callbacks, verbose=0)
    finally:  # after Ctrl-C as well
        for variable in held:
            variable.trainable = True
        for beta, price in zip(betas, prices, strict=True):
            beta.assign(price)
        model.compiled = False


def _widths_of(quantizer: Any) -> list[Any]:
    """The variables of a quantizer that its widths follow from."""
    return [getattr(quantizer, name) for name in ("b", "f") if hasattr(quantizer, name)]
