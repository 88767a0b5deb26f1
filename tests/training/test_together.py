"""Models trained together are the models that would have been trained one by one. JAX only: run in a process of its own
where Keras runs on something else."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from hgq.layers import QDense
from hgq.training import BetaSchedule, fit_together, hold_widths

RNG = np.random.default_rng
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def data():
    x = RNG(0).uniform(-1, 1, (96, 4)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def model(seed=0, units=3, activation="relu", **options):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), QDense(units, activation, **options), QDense(2)])


def together_is_in_turn():
    """Run by the test below on JAX."""
    x, y = data()
    schedules = [BetaSchedule(1e-6, beta, epochs=3) for beta in (1e-6, 1e-2, 1e-2)]

    made = [model(seed) for seed in (0, 0, 5)]

    def mean(y, z):
        return keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True)

    history = fit_together(  # a loss that gives a number for each sample
        made, x, y, optimizer=keras.optimizers.Adam(0.01), loss=mean, epochs=3, batch_size=96,
        schedules=schedules, validation_data=(x, y),
    )  # fmt: skip
    assert {name: found.shape for name, found in history.items()} == dict.fromkeys(
        ("loss", "val_loss", "val_metric"), (3, 3)
    )
    cheap, dear = ([np.asarray(v) for v in one.trainable_variables] for one in made[:2])
    assert any((a != b).any() for a, b in zip(cheap, dear, strict=True))  # the price differs, and nothing else
    # as Keras trains one; a batch holds all samples, so that their order is none
    plain = model(5)
    plain.compile(keras.optimizers.Adam(0.01), LOSS, jit_compile=True)
    told = plain.fit(x, y, batch_size=96, epochs=3, shuffle=False, callbacks=[schedules[2]], verbose=0)
    assert np.allclose(told.history["loss"], history["loss"][:, 2], rtol=1e-4)
    for a, b in zip(plain.get_weights(), made[2].get_weights(), strict=True):
        assert np.allclose(a, b, atol=1e-4)
    scores = np.asarray(made[2](x))
    assert np.isclose(history["val_metric"][-1, 2], (scores.argmax(1) == y).mean())


def on_jax(code):
    pytest.importorskip("jax")
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(__file__).parents[2])}
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_together as t; {code}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_together_is_in_turn():
    on_jax("t.together_is_in_turn(); t.what_does_not_match()")


def refused(message, models, **arguments):
    x, y = data()
    options = dict(optimizer=keras.optimizers.Adam(), loss=LOSS, epochs=2, batch_size=32) | arguments
    with pytest.raises(ValueError, match=message):
        fit_together(models, options.pop("x", x), options.pop("y", y), **options)


def what_does_not_match():
    """Run by the test above on JAX."""
    refused("no models", [])
    refused(r"model 1 has the variable kernel \(4, 4\) where model 0 has kernel \(4, 3\)", [model(), model(units=4)])
    refused("90 samples, 96 labels", [model()], x=data()[0][:90])
    refused("batches of 200", [model()], batch_size=200)
    refused("1 schedules for 2 models", [model(), model()], schedules=[BetaSchedule(1e-6, 1e-4, epochs=2)])
    unlike = [BetaSchedule(1e-6, 1e-4, epochs=2, cost=cost) for cost in ("ebops", "luts")]
    refused("ebops and of luts", [model(), model()], schedules=unlike)
    # The step is compiled from model 0: what another computes with the same variables would never be asked.
    for other in ({"activation": "hard_tanh"}, {"gamma": 1e-3}, {"cost": "luts"}):
        refused("model 1 computes something else", [model(), model(seed=1, **other)])
    held = model(1)
    hold_widths(held)
    refused("widths of model 1 are held", [model(), held])
    one = model()
    refused("given twice", [one, one])
    refused("model 0 is not built", [keras.Sequential([QDense(2)])])
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    refused("no quantised layer", [plain], schedules=[BetaSchedule(1e-6, 1e-4, epochs=2)])
    refused("use_ema", [model()], optimizer=keras.optimizers.Adam(use_ema=True))
    used = keras.optimizers.Adam()
    used.build(one.trainable_variables)
    used.iterations.assign(7)
    refused("has done 7 steps", [model()], optimizer=used)
    refused("x is a list", [model()], x=data()[0].tolist())
    x, y = data()
    refused("x holds nan at index", [model()], x=np.where(x > 0.9, np.nan, x))
    refused("y holds classes from 5 to 6, and the models give 2. Fix: class numbers from 0 to 1", [model()], y=y + 5)
    refused(r"validation_data\[0\] have the shape \(3,\) where x has", [model()], validation_data=(x[:, :3], y))
    refused("of unequal length", [model()], validation_data=(x, y[:5]))
    for no_pair in (x, (x,), (x, y, y)):
        refused("validation_data is no pair", [model()], validation_data=no_pair)


def test_another_back_end_is_refused_by_name():
    if keras.backend.backend() != "jax":
        refused("tensorflow.*KERAS_BACKEND=jax", [model()])
