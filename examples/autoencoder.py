"""An autoencoder of MNIST digits: python examples/autoencoder.py [--file mnist.npz] [--quick] [--out runs/autoencoder]

14 x 14 pixels to 12 numbers and back by transpose convolutions, as for finding what does not look like the training
data. The data: see examples/datasets.py.
"""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
from datasets import Data, mnist
from steps import FALLING, Example, main

from hgq.layers import QConv2D, QConv2DTranspose, QDense


def network(quick: bool) -> keras.Model:
    channels, latent = (2, 4) if quick else (4, 12)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((196,), name="pixels"),
            layers.Reshape((14, 14, 1)),
            QConv2D(channels, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            QDense(latent, name="latent"),
            QDense(49 * channels, activation="relu"),
            layers.Reshape((7, 7, channels)),
            QConv2DTranspose(channels, 3, strides=2, padding="same", activation="relu"),
            QConv2D(1, 3, padding="same"),
            layers.Flatten(),
        ],
        name="autoencoder",
    )


def data(file: str | None) -> Data:
    """The targets are the inputs."""
    digits = mnist(file)
    return replace(digits, y_train=digits.x_train, y_val=digits.x_val, y_test=digits.x_test)


def error(outputs: np.ndarray, data: Data) -> str:
    """The mean square of what is lost, beside that of replacing every digit by the mean of all."""
    squares = ((outputs - data.x_test) ** 2).mean()
    mean = ((data.x_train.mean(0) - data.x_test) ** 2).mean()
    return (
        f"test reconstruction error {squares:.4f} (mean square; {mean:.4f} for the mean digit) on "
        f"{len(data.x_test):,} digits that neither training nor selection saw"
    )


EXAMPLE = Example(
    "autoencoder",
    network,
    data,
    keras.losses.MeanSquaredError(),
    error,
    beta=1e-7,
    tolerance=0.1,
    **(FALLING | {"start": 3e-7}),
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies an autoencoder of MNIST digits.")
