"""MNIST, 196-64-32-10: python examples/mnist.py [--file mnist.npz] [--quick] [--out runs/mnist]

Digits of 28 x 28 pixels, averaged to 14 x 14: a wide input, where most weights are pruned away. The data: see
examples/datasets.py.
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
from hgq.layers import QDense
from hgq.training import BetaSchedule, ParetoFront


def train(
    data: Data, front: Path, epochs: int, beta: float, units: tuple[int, ...] = (64, 32), seed: int = 0
) -> keras.Model:
    """The cheapest checkpoint within 1 % of the best accuracy on the validation part."""
    keras.utils.set_random_seed(seed)
    hidden = [QDense(count, activation="relu") for count in units]
    model = keras.Sequential([keras.Input((196,), name="pixels"), *hidden, QDense(10)], name="mnist")
    steps = epochs * -(-len(data.x_train) // 512)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,
    )
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=512,
        epochs=epochs,
        validation_data=(data.x_val, data.y_val),
        validation_batch_size=2048,
        callbacks=[BetaSchedule(beta / 30, beta), ParetoFront(front, calibrate=data.x_train[:8192])],
        verbose=2,
    )
    return keras.saving.load_model(front / "best.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains, converts and verifies a classifier of MNIST digits.")
    parser.add_argument("--file", help=".npz with x_train, y_train, x_test, y_test, as Keras stores it")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"), help="folder for checkpoints and project")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--beta", type=float, default=1e-5, help="price of an EBOP at the end of training")
    parser.add_argument("--quick", action="store_true", help="one epoch, few samples, few neurons: to see it run")
    options = parser.parse_args()

    start = time.perf_counter()
    data = mnist(options.file)
    units = (64, 32)
    if options.quick:
        options.epochs, data, units = 1, data.head(2000), (8, 8)
    # A front that is there would be continued; each run of this example stands for itself.
    shutil.rmtree(options.out / "front", ignore_errors=True)
    model = train(data, options.out / "front", options.epochs, options.beta, units)
    trained = time.perf_counter()

    # The hardware of this model is large: the test part is enough to compare the engines on.
    project = hgq.convert(model, options.out / "project", calibrate=data.x_train, verify=data.x_test)
    converted = time.perf_counter()

    scores = project.predict(data.x_test)  # what the hardware gives
    accuracy = (scores.argmax(-1) == data.y_test).mean()
    print(project.summary())
    print(f"test accuracy {accuracy:.1%} on {len(data.y_test):,} digits that neither training nor selection saw")
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.html'}")


if __name__ == "__main__":
    main()
