"""Jets at the LHC, 16-64-32-32-5: python examples/jets.py [--file jets.npz] [--quick] [--out runs/jets]

Tells the five kinds of particle that start a jet from 16 numbers. The data: see examples/datasets.py. Where it comes
with probabilities from a teacher, those are the labels for training: a smaller circuit at the same accuracy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from datasets import JET_CLASSES, Data, jets

import hgq
from hgq.layers import QDense
from hgq.training import BetaSchedule, ParetoFront


def probabilities(labels: np.ndarray) -> np.ndarray:
    """Class numbers as rows of 0 and 1; rows of probabilities as they are."""
    return labels if labels.ndim == 2 else np.eye(len(JET_CLASSES), dtype=np.float32)[labels]


def train(data: Data, front: Path, epochs: int, beta: float, seed: int = 0) -> keras.Model:
    """The cheapest checkpoint within 1 % of the best accuracy on the validation part."""
    keras.utils.set_random_seed(seed)
    hidden = [QDense(units, activation="relu") for units in (64, 32, 32)]
    model = keras.Sequential([keras.Input((16,), name="jet"), *hidden, QDense(5)], name="jets")
    steps = epochs * -(-len(data.x_train) // 1024)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,
    )
    model.fit(
        data.x_train,
        probabilities(data.y_train),
        batch_size=1024,
        epochs=epochs,
        validation_data=(data.x_val, probabilities(data.y_val)),
        validation_batch_size=4096,
        callbacks=[BetaSchedule(beta / 30, beta), ParetoFront(front, calibrate=data.x_train[:8192])],
        verbose=2,
    )
    return keras.saving.load_model(front / "best.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains, converts and verifies a jet tagger.")
    parser.add_argument("--file", help=".npz with x (n, 16) and y (n,), classes 0..4 for g q t w z")
    parser.add_argument("--out", type=Path, default=Path("runs/jets"), help="folder for checkpoints and project")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--beta", type=float, default=3e-5, help="price of an EBOP at the end of training")
    parser.add_argument("--quick", action="store_true", help="one epoch, few samples: to see it run")
    options = parser.parse_args()

    start = time.perf_counter()
    data = jets(options.file)
    if options.quick:
        options.epochs, data = 1, data.head(2000)
    # A front that is there would be continued; each run of this example stands for itself.
    shutil.rmtree(options.out / "front", ignore_errors=True)
    model = train(data, options.out / "front", options.epochs, options.beta)
    trained = time.perf_counter()

    project = hgq.convert(model, options.out / "project", calibrate=data.x_train, verify=data.everything())
    converted = time.perf_counter()

    scores = project.predict(data.x_test)  # what the hardware gives
    accuracy = (scores.argmax(-1) == data.y_test).mean()
    print(project.summary())
    print(f"data: {data.source}")
    print(f"test accuracy {accuracy:.1%} on {len(data.y_test):,} jets that neither training nor selection saw")
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.html'}")


if __name__ == "__main__":
    main()
