"""MNIST, 196-64-32-10: python examples/mnist.py [--file mnist.npz] [--quick] [--out runs/mnist]

Digits of 28 x 28 pixels, averaged to 14 x 14: a wide input, where most weights are pruned away. The data: see
examples/datasets.py.
"""

from __future__ import annotations

import keras
from datasets import mnist
from steps import FALLING, Example, accuracy, main

from hgq.layers import QDense


def network(quick: bool) -> keras.Model:
    units = (8, 8) if quick else (64, 32)
    hidden = [QDense(count, activation="relu") for count in units]
    return keras.Sequential([keras.Input((196,), name="pixels"), *hidden, QDense(10)], name="mnist")


EXAMPLE = Example(
    "mnist",
    network,
    mnist,
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    accuracy,
    epochs=30,
    beta=8e-6,
    batch=512,
    metrics=("accuracy",),
    **FALLING,
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies a classifier of MNIST digits.")
