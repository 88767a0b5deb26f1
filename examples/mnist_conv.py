"""MNIST with two convolutions: python examples/mnist_conv.py [--file mnist.npz] [--quick] [--out runs/mnist_conv]

Images of 28 x 28 pixels. Types of activations are learned per channel, so that all positions of an image share one
kernel module in Verilog. The data: see examples/datasets.py.
"""

from __future__ import annotations

import keras
from datasets import Data, mnist
from steps import FALLING, Example, accuracy, main

from hgq.layers import QConv2D, QDense

SIZE = 28


def network(quick: bool) -> keras.Model:
    """Two convolutions of 3 x 3, each with a max pooling, and a dense layer."""
    return keras.Sequential(
        [
            keras.Input((SIZE * SIZE,), name="pixels"),
            keras.layers.Reshape((SIZE, SIZE, 1)),
            QConv2D(2 if quick else 6, 3, strides=3 if quick else 1, activation="relu"),
            keras.layers.MaxPooling2D(2),
            QConv2D(2 if quick else 10, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            QDense(10),
        ],
        name="mnist_conv",
    )


def data(file: str | None) -> Data:
    return mnist(file, SIZE)


EXAMPLE = Example(
    "mnist_conv",
    network,
    data,
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    accuracy,
    beta=1e-6,
    metrics=("accuracy",),
    **(FALLING | {"start": 3e-6}),
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies a convolutional net on MNIST digits.")
