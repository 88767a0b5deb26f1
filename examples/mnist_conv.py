"""MNIST with two convolutions: python examples/mnist_conv.py [--file mnist.npz] [--size 28] [--quick] [--out FOLDER]

Types of activations are learned per channel, so that all positions of an image share one kernel module in Verilog.
The data: see examples/datasets.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from datasets import Data, mnist

import hgq
from hgq.layers import QConv2D, QDense
from hgq.training import BetaSchedule, ParetoFront


def network(size: int) -> keras.Model:
    """Two convolutions of 3 x 3, each with a max pooling, and a dense layer."""
    return keras.Sequential(
        [
            keras.Input((size * size,), name="pixels"),
            keras.layers.Reshape((size, size, 1)),
            QConv2D(6, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            QConv2D(10, 3, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            QDense(10),
        ],
        name="mnist_conv",
    )


def train(data: Data, size: int, front: Path, epochs: int, beta: float, seed: int = 0) -> keras.Model:
    """The cheapest checkpoint within 1 % of the best accuracy on the validation part."""
    keras.utils.set_random_seed(seed)
    model = network(size)
    steps = epochs * -(-len(data.x_train) // 256)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,
    )
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=256,
        epochs=epochs,
        validation_data=(data.x_val, data.y_val),
        validation_batch_size=1024,
        callbacks=[BetaSchedule(beta / 30, beta), ParetoFront(front, calibrate=data.x_train[:4096])],
        verbose=2,
    )
    return keras.saving.load_model(front / "best.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains, converts and verifies a convolutional net on MNIST digits.")
    parser.add_argument("--file", help=".npz with x_train, y_train, x_test, y_test, as Keras stores it")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_conv"), help="folder for checkpoints and project")
    parser.add_argument("--size", type=int, choices=(14, 28), default=14, help="pixels along each side")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--beta", type=float, default=3e-6, help="price of an EBOP at the end of training")
    parser.add_argument("--quick", action="store_true", help="one epoch, few samples: to see it run")
    options = parser.parse_args()

    start = time.perf_counter()
    data = mnist(options.file, options.size)
    if options.quick:
        options.epochs, data = 1, data.head(2000)
    # A front that is there would be continued; each run of this example stands for itself.
    shutil.rmtree(options.out / "front", ignore_errors=True)
    model = train(data, options.size, options.out / "front", options.epochs, options.beta)
    trained = time.perf_counter()

    few = 2000 if options.quick else None  # corner vectors; by default as many as the size of the input allows
    project = hgq.convert(
        model, options.out / "project", calibrate=data.x_train[:20_000], verify=data.x_test, corners=few
    )
    converted = time.perf_counter()

    scores = project.predict(data.x_test)  # what the hardware gives
    accuracy = (scores.argmax(-1) == data.y_test).mean()
    print(project.summary())
    print(f"test accuracy {accuracy:.1%} on {len(data.y_test):,} digits that neither training nor selection saw")
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.json'}")


if __name__ == "__main__":
    main()
