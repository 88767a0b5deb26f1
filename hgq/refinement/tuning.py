"""A short training of the weights at frozen widths, between two rounds of refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from hgq.frontend.model import functional_of, input_shapes
from hgq.layers.walk import model_quantizers
from hgq.refinement.targets import PROBABILITIES, Target
from hgq.resource import priced_layers
from hgq.training.calibrate import calibrate
from hgq.training.copy import copy_model

BATCH = 256


def tuned(
    model: keras.Model,
    x: Mapping[str, np.ndarray],
    targets: Sequence[Target],
    samples: int,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> keras.Model:
    """A copy of `model`, its weights trained by Adam (cosine to 0) on the first `samples`, its ranges found on them.

    Types of weights and fractional bits of activations stay; what is pruned stays so. Nothing is paid for bits. The
    order of samples and what Dropout draws follow from `seed` alone; the user's generators are left where they are.
    """
    net = copy_model(model)
    for _, _, quantizer in model_quantizers(net):
        for variable in quantizer.trainable_variables:
            variable.trainable = False
    for layer, _ in priced_layers(net):
        layer.beta.assign(0.0)
        layer.gamma = 0.0
    given = [x[name][:samples] for name in input_shapes(model)]
    steps = epochs * -(-samples // BATCH)
    outputs = [tuple(size or 1 for size in tensor.shape[1:]) for tensor in net.outputs]
    wanted = [t.values[:samples].reshape(samples, *shape) for t, shape in zip(targets, outputs, strict=True)]
    flat = functional_of(net)
    fitted = keras.Model(flat.inputs, flat.outputs)  # whose inputs go by their order, where the model's are a dict
    fitted.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        [_keras_loss(target) for target in targets],
    )
    rng = np.random.default_rng(seed)
    for variable in fitted.variables:
        if variable.name == "seed_generator_state":  # of Dropout and noise
            variable.assign([rng.integers(2**31), 0])
    one = len(given) == 1, len(wanted) == 1
    for _ in range(epochs):
        order = rng.permutation(samples)
        x_now, y_now = ([array[order] for array in arrays] for arrays in (given, wanted))
        fitted.fit(x_now[0] if one[0] else x_now, y_now[0] if one[1] else y_now, BATCH, shuffle=False, verbose=0)
    calibrate(fitted, given[0] if one[0] else given)
    for (layer, _), (twin, _) in zip(priced_layers(net), priced_layers(model), strict=True):  # names may be alike
        layer.beta.assign(twin.beta)
        layer.gamma = twin.gamma
    return copy_model(net)


def _keras_loss(target: Target) -> keras.losses.Loss:
    logits = not target.loss.endswith(PROBABILITIES)
    return {
        "crossentropy": lambda: keras.losses.CategoricalCrossentropy(from_logits=logits),
        "binary_crossentropy": lambda: keras.losses.BinaryCrossentropy(from_logits=logits),
        "mse": keras.losses.MeanSquaredError,
        "mae": keras.losses.MeanAbsoluteError,
    }[target.loss.removesuffix(PROBABILITIES)]()
