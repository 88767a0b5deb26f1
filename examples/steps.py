"""What the image examples have in common: the options, training, conversion with verification, what is printed."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from datasets import Data

import hgq
from hgq.training import BetaSchedule, ParetoFront


@dataclass(frozen=True)
class Example:
    """An example: its name, the settings of its training, and how a result is judged.

    network: makes the model; gets ``quick`` as its only argument.
    data: reads the data of a file, or of the default place; targets are labels, or the inputs themselves.
    beta: price of an EBOP at the end of training.
    tolerance: what the chosen checkpoint may lose of the best one's metric; see `ParetoFront`.
    judge: says how good the outputs of the hardware for the test part are.
    """

    name: str
    network: Callable[[bool], keras.Model]
    data: Callable[[str | None], Data]
    loss: keras.losses.Loss
    judge: Callable[[np.ndarray, Data], str]
    epochs: int = 20
    beta: float = 1e-6
    batch: int = 256
    rate: float = 5e-3
    metrics: tuple[str, ...] = ()
    tolerance: float = 0.01


def train(example: Example, model: keras.Model, data: Data, front: Path, epochs: int, beta: float) -> keras.Model:
    """The cheapest checkpoint close to the best on the validation part."""
    steps = epochs * -(-len(data.x_train) // example.batch)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(example.rate, steps, alpha=0.01)),
        example.loss,
        metrics=list(example.metrics),
        steps_per_execution=16,
    )
    chosen = ParetoFront(front, calibrate=data.x_train[:4096], tolerance=example.tolerance)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=example.batch,
        epochs=epochs,
        validation_data=(data.x_val, data.y_val),
        validation_batch_size=1024,
        callbacks=[BetaSchedule(beta / 30, beta), chosen],
        verbose=2,
    )
    return keras.saving.load_model(front / "best.keras")


def main(example: Example, description: str) -> None:
    """The whole example, as the command line says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--file", help=".npz with x_train, y_train, x_test, y_test, as Keras stores it")
    parser.add_argument("--out", type=Path, default=Path("runs") / example.name, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=example.epochs)
    parser.add_argument("--beta", type=float, default=example.beta, help="price of an EBOP at the end of training")
    parser.add_argument("--quick", action="store_true", help="one epoch, few samples: to see it run")
    options = parser.parse_args()

    start = time.perf_counter()
    data = example.data(options.file)
    if options.quick:
        options.epochs, data = 1, data.head(2000)
    keras.utils.set_random_seed(0)
    # A front that is there would be continued; each run of an example stands for itself.
    shutil.rmtree(options.out / "front", ignore_errors=True)
    model = train(example, example.network(options.quick), data, options.out / "front", options.epochs, options.beta)
    trained = time.perf_counter()

    # The hardware of images is large: the test part is enough to compare the engines on.
    few = 2000 if options.quick else None  # corner vectors; by default as many as the size of the input allows
    project = hgq.convert(
        model, options.out / "project", calibrate=data.x_train[:20_000], verify=data.x_test, corners=few
    )
    converted = time.perf_counter()

    print(project.summary())
    print(example.judge(project.predict(data.x_test), data))  # what the hardware gives
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.html'}")


def accuracy(scores: np.ndarray, data: Data) -> str:
    """For classifiers."""
    part = (scores.argmax(-1) == data.y_test).mean()
    return f"test accuracy {part:.1%} on {len(data.y_test):,} images that neither training nor selection saw"
