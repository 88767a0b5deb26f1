"""Two inputs, two outputs: python examples/jets_mass.py [--file jets.npz] [--quick] [--out runs/jets_mass]

A trigger often needs the kind of a jet and a number about it at once. One input has the 13 numbers about the jet's
shape, the other the two about its particles (how many, how evenly they share the energy); one output has the scores of
the five kinds, the other the jet's mass, in units of its spread, which neither input contains. The data: see
examples/datasets.py.
"""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
from datasets import JET_FEATURES, Data, jets
from steps import FALLING, Example, main

from hgq.layers import QDense

MASS = JET_FEATURES.index("mass_mmdt")
PARTICLES = [JET_FEATURES.index(name) for name in ("zlogz", "multiplicity")]
SHAPE = [n for n in range(len(JET_FEATURES)) if n not in (MASS, *PARTICLES)]


def network(quick: bool) -> keras.Model:
    wide, few = (8, 4) if quick else (48, 12)
    shape = keras.Input((len(SHAPE),), name="shape")
    particles = keras.Input((len(PARTICLES),), name="particles")
    x = QDense(wide, activation="relu", name="of_shape")(shape)
    y = QDense(few, activation="relu", name="of_particles")(particles)
    both = QDense(wide, activation="relu", name="of_both")(keras.layers.Concatenate()([x, y]))
    scores, mass = QDense(5, name="scores"), QDense(1, name="mass")
    return keras.Model([shape, particles], [scores(both), mass(both)], name="jets_mass")


def data(file: str | None) -> Data:
    """Inputs and labels by name."""
    all_of = jets(file)

    def inputs(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"shape": x[:, SHAPE], "particles": x[:, PARTICLES]}

    def labels(x: np.ndarray, kinds: np.ndarray) -> dict[str, np.ndarray]:
        return {"scores": kinds, "mass": x[:, MASS, None]}

    return replace(
        all_of,
        x_train=inputs(all_of.x_train),
        y_train=labels(all_of.x_train, all_of.y_train),
        x_val=inputs(all_of.x_val),
        y_val=labels(all_of.x_val, all_of.y_val),
        x_test=inputs(all_of.x_test),
        y_test=labels(all_of.x_test, all_of.y_test),
        extra=None if all_of.extra is None else inputs(all_of.extra),
    )


def judge(outputs: list[np.ndarray], data: Data) -> str:
    """Accuracy of the kinds, and the error of the masses beside their spread."""
    scores, mass = outputs
    right = (scores.argmax(-1) == data.y_test["scores"]).mean()
    error = np.sqrt(((mass - data.y_test["mass"]) ** 2).mean()) / data.y_test["mass"].std()
    return (
        f"test accuracy {right:.1%}, mass to {error:.1%} of its spread (root of the mean square), on {len(mass):,} "
        "jets that neither training nor selection saw"
    )


EXAMPLE = Example(
    "jets_mass",
    network,
    data,
    {"scores": keras.losses.CategoricalCrossentropy(from_logits=True), "mass": keras.losses.MeanSquaredError()},
    judge,
    epochs=40,
    beta=2e-5,
    batch=1024,
    metrics={"scores": ["accuracy"]},
    select="val_loss",
    tolerance=0.02,
    everything=True,
    corners=20_000,
    **FALLING,
)

if __name__ == "__main__":
    main(EXAMPLE, "Trains, converts and verifies a model with two inputs and two outputs on jets.")
