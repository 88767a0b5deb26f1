"""A float network of two convolutions for tests of GMPQ, and widths that it may take."""

from __future__ import annotations

import keras

from hgq.methods.gmpq import Candidates
from hgq.methods.policy import Bits

L = keras.layers
CANDIDATES = Candidates((2, 3, 4), (2, 3, 5))
MIXED = {"conv": Bits(3, 5), "depthwise": Bits(4, 2), "scores": Bits(2, 3)}


def network(head: str, classes: int = 3) -> keras.Model:
    """Two convolutions on 6 x 6 pixels, random weights, and a head."""
    keras.utils.set_random_seed(0)
    x = pixels = keras.Input((6, 6, 1), name="pixels")
    x = L.Conv2D(3, 3, strides=2, padding="same", activation="relu", bias_initializer="normal", name="conv")(x)
    x = L.DepthwiseConv2D(3, padding="same", bias_initializer="normal", name="depthwise")(x)
    x = L.ReLU(name="features")(x)
    x = L.GlobalAveragePooling2D()(x) if head == "pooled" else L.Flatten()(x)
    if head == "deep":
        x = L.Dense(4, activation="relu", name="hidden")(x)
    return keras.Model(pixels, L.Dense(classes, bias_initializer="normal", name="scores")(x))
