"""Handwritten digits, from training to verified Verilog: python examples/digits.py [--quick] [--out runs/digits]

Three parts of the data: training fits the weights and the widths, validation picks the checkpoint, and the test part is
read once, at the end. The comparison of the engines runs on all 1,797 samples and 100,000 corner vectors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from datasets import digits

import hgq
from hgq.layers import QDense
from hgq.training import BetaSchedule, Freeze, ParetoFront


def train(front: Path, epochs: int, seed: int = 0) -> keras.Model:
    """The cheapest checkpoint within 1 % of the best accuracy on the validation part."""
    keras.utils.set_random_seed(seed)
    data = digits()
    noise = keras.layers.GaussianNoise(0.2)  # a thousand digits are few: this keeps them from being learned by heart
    layers = [keras.Input((64,), name="pixels"), noise, QDense(32, activation="relu"), QDense(10)]
    model = keras.Sequential(layers, name="digits")
    steps = epochs * -(-len(data.x_train) // 64)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps, alpha=0.01)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=64,
        epochs=epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=[BetaSchedule(1.2e-4, 1.2e-5), Freeze(0.25), ParetoFront(front, calibrate=data.x_train)],
        verbose=2,
    )
    return hgq.load(front / "best.keras")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains, converts and verifies a classifier of handwritten digits.")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for checkpoints and project")
    parser.add_argument("--quick", action="store_true", help="a few epochs: to see it run, not to get good numbers")
    options = parser.parse_args()

    start = time.perf_counter()
    # A front that is there would be continued; each run of this example stands for itself.
    shutil.rmtree(options.out / "front", ignore_errors=True)
    model = train(options.out / "front", epochs=4 if options.quick else 200)
    trained = time.perf_counter()

    data = digits()
    project = hgq.convert(model, options.out / "project", calibrate=data.x_train, verify=data.everything())
    converted = time.perf_counter()

    scores = project.predict(data.x_test)  # what the hardware gives
    accuracy = (scores.argmax(-1) == data.y_test).mean()
    print(project.summary())
    print(f"test accuracy {accuracy:.1%} on {len(data.y_test)} digits that neither training nor selection saw")
    print(f"training {trained - start:.0f} s, conversion and verification {converted - trained:.0f} s")
    print(f"report: {project.path / 'report.html'}")


if __name__ == "__main__":
    main()
