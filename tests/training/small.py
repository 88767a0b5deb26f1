"""A model of two neurons, its data, and what tests of training look at."""

import keras
import numpy as np
from keras import ops

from hgq.layers import QDense
from hgq.quantizers import WidthQuantizer


def data(seed=0, samples=48):
    x = np.random.default_rng(seed).uniform(-1, 1, (samples, 3)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def model(eager=True):
    """Eager: tracing a graph takes longer than these few steps."""
    keras.utils.set_random_seed(3)
    made = keras.Sequential([keras.Input((3,)), QDense(2, kernel_quantizer=WidthQuantizer(b0=2.2))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"], run_eagerly=eager, jit_compile=False)
    return made


def fit(made, *callbacks, epochs, **arguments):
    x, y = data()
    given = dict(batch_size=48, shuffle=False, validation_data=data(1)) | arguments
    return made.fit(x, y, epochs=epochs, verbose=0, callbacks=list(callbacks), **given)


def values(variables):
    return [np.array(ops.convert_to_numpy(v.value)) for v in variables]


def widths(made):
    return [v for v in made.trainable_variables if v.name in ("b", "i", "f")]


def same(one, other):
    return all((a == b).all() for a, b in zip(one, other, strict=True))
