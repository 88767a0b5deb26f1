"""Jets at the LHC, 16-64-32-32-5: python examples/jets.py [--file jets.npz] [--quick] [--out runs/jets]

Tells the five kinds of particle that start a jet from 16 numbers. The data: see examples/datasets.py. Where it comes
with probabilities from a teacher, those are the labels for training: a smaller circuit at the same accuracy.
"""

from __future__ import annotations

import keras
from datasets import jets
from steps import FALLING, Example, accuracy, main

from hgq.layers import QDense


def network(quick: bool) -> keras.Model:
    units = (8, 8) if quick else (64, 32, 32)
    hidden = [QDense(count, activation="relu") for count in units]
    return keras.Sequential([keras.Input((16,), name="jet"), *hidden, QDense(5)], name="jets")


EXAMPLE = Example(
    "jets",
    network,
    jets,
    keras.losses.CategoricalCrossentropy(from_logits=True),
    accuracy,
    epochs=60,
    beta=2e-5,
    batch=1024,
    metrics=["accuracy"],
    everything=True,
    **FALLING,
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies a jet tagger.")
