"""Digits read row by row: python examples/sequence.py [--cell gru|lstm] [--data digits|mnist] [--quick] [--out FOLDER]

A GRU or an LSTM sees one row of pixels at each time step; hardware holds one copy of it for each row, of which all but
the first are instances of one Verilog module. The data: see examples/datasets.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from datasets import Data, digits, mnist

import hgq
from hgq.layers import QGRU, QLSTM, QDense
from hgq.training import BetaSchedule, ParetoFront


def network(rows: int, cell: str, units: int) -> keras.Model:
    """The last state after all rows, and a dense layer."""
    return keras.Sequential(
        [
            keras.Input((rows * rows,), name="pixels"),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Reshape((rows, rows)),
            {"gru": QGRU, "lstm": QLSTM}[cell](units, name=cell),
            QDense(10, name="scores"),
        ],
        name="sequence",
    )


def train(model: keras.Model, data: Data, front: Path, epochs: int, beta: float) -> keras.Model:
    """The cheapest checkpoint within 1 % of the best accuracy on the validation part."""
    batch = 64 if len(data.x_train) < 10_000 else 256
    steps = epochs * -(-len(data.x_train) // batch)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=batch,
        epochs=epochs,
        validation_data=(data.x_val, data.y_val),
        validation_batch_size=1024,
        callbacks=[BetaSchedule(beta / 30, beta, ramp=0.7), ParetoFront(front, calibrate=data.x_train[:4096])],
        verbose=2,
    )
    return keras.saving.load_model(front / "best.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains, converts and verifies a recurrent net on rows of digits.")
    parser.add_argument("--cell", choices=("gru", "lstm"), default="gru")
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits", help="8 rows of 8 pixels, or 14 of 14")
    parser.add_argument("--file", help="for mnist: .npz with x_train, y_train, x_test, y_test, as Keras stores it")
    parser.add_argument("--out", type=Path, default=Path("runs/sequence"), help="folder for checkpoints and project")
    parser.add_argument("--units", type=int, default=16, help="width of the state")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--beta", type=float, default=3e-6, help="price of an EBOP at the end of training")
    parser.add_argument("--quick", action="store_true", help="two epochs, few units: to see it run")
    options = parser.parse_args()
    if options.quick:
        options.epochs, options.units = 2, 3

    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    data = mnist(options.file) if options.data == "mnist" else digits()
    rows = 14 if options.data == "mnist" else 8
    # A front that is there would be continued; each run of this example stands for itself.
    shutil.rmtree(options.out / "front", ignore_errors=True)
    model = network(rows, options.cell, options.units)
    model = train(model, data, options.out / "front", options.epochs, options.beta)
    trained = time.perf_counter()

    # Fewer corner vectors than by default: what is unrolled over time is large.
    corners = 1000 if options.quick else 10_000
    everything = data.everything() if options.data == "digits" else data.x_test
    project = hgq.convert(
        model, options.out / "project", calibrate=data.x_train[:20_000], verify=everything, corners=corners
    )
    converted = time.perf_counter()

    scores = project.predict(data.x_test)  # what the hardware gives
    accuracy = (scores.argmax(-1) == data.y_test).mean()
    print(project.summary())
    print(f"test accuracy {accuracy:.1%} on {len(data.y_test):,} digits that neither training nor selection saw")
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.html'}")


if __name__ == "__main__":
    main()
