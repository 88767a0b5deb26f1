"""Fashion-MNIST: python examples/fashion_conv.py [--file fashion_mnist.npz] [--quick] [--out runs/fashion_conv]

Images of 28 x 28 pixels of ten kinds of clothes. A strided convolution, a residual block of a separable and a depthwise
convolution, and a separable convolution before the classifier. The data: see examples/datasets.py.
"""

from __future__ import annotations

import keras
from datasets import Data, fashion
from steps import FALLING, Example, accuracy, main

from hgq.layers import QConv2D, QDense, QDepthwiseConv2D, QSeparableConv2D

SIZE = 28


def network(quick: bool) -> keras.Model:
    """Convolution to 14 x 14 or less, the residual block, pooling, separable convolution, dense layer."""
    channels = 2 if quick else 8
    pixels = keras.Input((SIZE * SIZE,), name="pixels")
    x = keras.layers.Reshape((SIZE, SIZE, 1))(pixels)
    x = QConv2D(channels, 3, strides=4 if quick else 2, padding="same", activation="relu")(x)
    y = QSeparableConv2D(channels, 3, padding="same", activation="relu", name="block_separable")(x)
    y = QDepthwiseConv2D(3, padding="same", name="block_depthwise")(y)
    x = keras.layers.Add(name="residual")([x, y])
    x = keras.layers.MaxPooling2D(2)(x)
    x = QSeparableConv2D(2 * channels, 3, activation="relu", name="separable")(x)
    return keras.Model(pixels, QDense(10)(keras.layers.Flatten()(x)), name="fashion_conv")


def data(file: str | None) -> Data:
    return fashion(file, SIZE)


EXAMPLE = Example(
    "fashion_conv",
    network,
    data,
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    accuracy,
    beta=5e-7,
    metrics=("accuracy",),
    **(FALLING | {"start": 1.5e-6}),
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies a convolutional net on pictures of clothes.")
