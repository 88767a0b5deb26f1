"""A small trained model that tests convert, and the data it has seen."""

from __future__ import annotations

import keras
import numpy as np

from hgq.layers import QDense, QDenseBatchNorm
from hgq.training import calibrate

X = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")


def small_model(name: str = "net") -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,), name="x"),
            QDenseBatchNorm(5, activation="relu", name="always"),  # a Verilog keyword is mixed in on purpose
            QDense(3, name="head"),
        ],
        name=name,
    )
    calibrate(model, X[:100])
    return model
