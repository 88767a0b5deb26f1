"""What most examples have in common: the options, training, conversion with verification, what is printed."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from datasets import Data, first

import hgq
from hgq.training import BetaSchedule, Freeze, ParetoFront

FALLING: dict[str, Any] = {"cost": "luts", "start": 1.2e-4, "freeze": 0.25, "rate": 1e-2}
"""Settings with the fewest LUTs on dense nets, whatever the price ends at. Where a weight is used at many positions, as
in a convolution, such a start is too high."""


@dataclass(frozen=True)
class Example:
    """An example: its name, the settings of its training, and how a result is judged.

    network: makes the model; gets ``quick`` as its only argument.
    data: reads the data of a file, or of the default place; targets are labels, or the inputs themselves.
    loss, loss_weights, metrics: as `compile` takes them.
    judge: says how good the outputs of the hardware for the test part are.
    cost: what is priced, "ebops" or "luts".
    beta: price of one at the end of training. start: what it begins at, None for beta / 30; ramp: part of the epochs
        between.
    freeze: the part of the epochs, at the end, in which widths are held and weights averaged; 0 for none.
    select, tolerance: what picks the checkpoint, and what it may lose of the best one's; see `ParetoFront`.
    everything: whether the engines are compared on all samples; otherwise on those of the test part.
    corners: number of corner vectors; None for as many as the size of the input allows.
    """

    name: str
    network: Callable[[bool], keras.Model]
    data: Callable[[str | None], Data]
    loss: Any
    judge: Callable[[Any, Data], str]
    epochs: int = 20
    cost: str = "ebops"
    beta: float = 1e-6
    start: float | None = None
    ramp: float = 0.5
    freeze: float = 0.0
    batch: int = 256
    rate: float = 5e-3
    loss_weights: dict[str, float] | None = None
    metrics: Any = None
    select: str = "auto"
    tolerance: float = 0.01
    everything: bool = False
    corners: int | None = None


def compiled(example: Example, data: Data, options: argparse.Namespace) -> keras.Model:
    """The network with the settings of its training."""
    keras.utils.set_random_seed(0)
    model = example.network(options.quick)
    samples = len(keras.tree.flatten(data.x_train)[0])
    steps = options.epochs * -(-samples // example.batch)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(example.rate, steps, alpha=0.01)),
        example.loss,
        loss_weights=example.loss_weights,
        metrics=example.metrics,
        steps_per_execution=1 if options.quick else 16,
        run_eagerly=options.quick,  # for the few steps of a quick run, tracing a graph takes longer than they do
    )
    return model


def train(example: Example, data: Data, options: argparse.Namespace) -> keras.Model:
    """The cheapest checkpoint close to the best on the validation part."""
    front = options.out / "front"
    # A front that is there would be continued; each run of an example stands for itself.
    shutil.rmtree(front, ignore_errors=True)
    # The one epoch of a quick run has no schedule.
    begin = options.beta if options.quick else example.start or options.beta / 30
    schedule = BetaSchedule(begin, options.beta, ramp=example.ramp, cost=example.cost)
    freeze = [Freeze(example.freeze)] if example.freeze and not options.quick else []
    few = first(data.x_train, 4096)
    compiled(example, data, options).fit(
        data.x_train,
        data.y_train,
        batch_size=example.batch,
        epochs=options.epochs,
        validation_data=(data.x_val, data.y_val),
        validation_batch_size=1024,
        callbacks=[schedule, *freeze, ParetoFront(front, example.select, example.tolerance, calibrate=few)],
        verbose=2,
    )
    return hgq.load(front / "best.keras")


def arguments(description: str, name: str, epochs: int, beta: float) -> argparse.ArgumentParser:
    """The options that all have, with their defaults; an example may add its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--file", help=".npz with the data, see examples/datasets.py")
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--beta", type=float, default=beta, help="price of an EBOP, or LUT, at the end of training")
    parser.add_argument("--quick", action="store_true", help="one epoch, few samples: to see it run")
    return parser


def main(example: Example, description: str) -> None:
    """An example without options of its own, from the command line."""
    run(example, arguments(description, example.name, example.epochs, example.beta).parse_args())


def run(example: Example, options: argparse.Namespace) -> None:
    """The whole example: training, conversion with verification, judgement."""
    start = time.perf_counter()
    data = example.data(options.file)
    if options.quick:
        options.epochs, data = 1, data.head(500)
    model = train(example, data, options)
    trained = time.perf_counter()

    project = hgq.convert(
        model,
        options.out / "project",
        calibrate=first(data.x_train, 20_000),
        verify=data.everything() if example.everything else data.x_test,
        corners=2000 if options.quick else example.corners,
    )
    converted = time.perf_counter()

    print(project.summary())
    print(f"data: {data.source}")
    print(example.judge(project.predict(data.x_test), data))  # what the hardware gives
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.html'}")


def accuracy(scores: Any, data: Data) -> str:
    """For classifiers with class numbers as test labels."""
    part = (scores.argmax(-1) == data.y_test).mean()
    return f"test accuracy {part:.1%} on {len(scores):,} samples that neither training nor selection saw"
