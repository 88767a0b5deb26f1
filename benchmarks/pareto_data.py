"""Makes the data of benchmarks/pareto.py: one .npz for each set, with labels of a teacher.

    HGQ_DATA=... python benchmarks/pareto_data.py [digits jets mnist14 mnist28 fashion28 fashion14]

x_train, y_train, t_train: inputs, rows of 0 and 1, rows of the teacher's probabilities. x_val, y_val: for choosing
checkpoints. x_test, y_test: used once. Of the jets: y_train is one class drawn from the teacher's probabilities (as
noisy as real labels are), y_val and y_test are these probabilities, the test part is half of the 20,000 that are held
out, and x_real, y_real are 600 real jets.

The teacher of images is a float convolutional network, trained here on the training part; its labels are the mean of
the true class and of its probabilities at temperature `TEMPERATURE`.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import numpy as np
from pareto_tasks import ROOT, RUNS

sys.path.insert(0, str(ROOT / "examples"))
import datasets

TEMPERATURE = 3.0
EPOCHS = {"digits": 60, "mnist14": 8, "mnist28": 8, "fashion28": 7}


def made(name: str) -> dict[str, np.ndarray]:
    if name == "jets":
        return jets()
    if name == "fashion14":  # the labels of the teacher that saw all pixels
        with np.load(RUNS / "data" / "fashion28.npz") as held:
            out = {key: held[key] for key in held.files}
        for part in ("x_train", "x_val", "x_test"):
            out[part] = out[part].reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
        return out
    if name == "digits":
        data = datasets.digits()
    else:
        kind, size = name[:-2], int(name[-2:])
        data = getattr(datasets, {"mnist": "mnist", "fashion": "fashion"}[kind])(None, size)
    rows = np.eye(10, dtype=np.float32)
    out = {"x_train": data.x_train, "y_train": rows[data.y_train], "x_val": data.x_val, "y_val": rows[data.y_val]}
    out |= {"x_test": data.x_test, "y_test": rows[data.y_test]}
    logits, accuracy = teacher(out, EPOCHS[name])
    print(f"{name}: the teacher has {accuracy:.2%} in validation", flush=True)
    z = logits / TEMPERATURE
    p = np.exp(z - z.max(-1, keepdims=True))
    soft = (p / p.sum(-1, keepdims=True) + out["y_train"]) / 2
    return out | {"t_train": soft.astype(np.float32)}


def teacher(data: dict[str, np.ndarray], epochs: int) -> tuple[np.ndarray, float]:
    """Its answers on the training part, and its accuracy in validation."""
    keras.utils.set_random_seed(0)
    size = int(data["x_train"].shape[1] ** 0.5)
    relu: dict[str, Any] = {"activation": "relu"}
    step = 2 if size > 14 else 1
    model = keras.Sequential(
        [
            keras.Input((size * size,)),
            keras.layers.Reshape((size, size, 1)),
            keras.layers.Conv2D(16, 3 + step, strides=step, padding="same", **relu),
            keras.layers.Conv2D(32, 3, strides=2, padding="same", **relu),
            keras.layers.Conv2D(48, 3, strides=2, padding="same", **relu),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(128, **relu),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(10),
        ]
    )
    batch = 128 if len(data["x_train"]) > 10_000 else 32
    steps = epochs * -(-len(data["x_train"]) // batch)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.01)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.02)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(data["x_train"], data["y_train"], batch_size=batch, epochs=epochs, verbose=0)
    logits = model.predict(data["x_train"], 2048, verbose=0)
    known = model.predict(data["x_val"], 2048, verbose=0)
    return logits, float((known.argmax(-1) == data["y_val"].argmax(-1)).mean())


def jets() -> dict[str, np.ndarray]:
    data = datasets.jets()
    held = np.load(f"{datasets._folder()}/jsc_surrogate.npz")["teacher_prob"][len(data.x_train) :].astype(np.float32)
    limits = np.random.default_rng(0).random((len(data.y_train), 1))
    drawn = np.eye(5, dtype=np.float32)[(data.y_train[:, :-1].cumsum(-1) < limits).sum(-1)]
    half = len(held) // 2
    return {
        "x_train": data.x_train,
        "y_train": drawn,
        "t_train": data.y_train,
        "x_val": data.x_val[:half],
        "y_val": held[:half],
        "x_test": data.x_val[half:],
        "y_test": held[half:],
        "x_real": data.x_test,
        "y_real": np.eye(5, dtype=np.float32)[data.y_test],
    }


if __name__ == "__main__":
    folder = RUNS / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ["digits", "jets", "mnist14", "mnist28", "fashion28", "fashion14"]:
        np.savez(folder / f"{name}.npz", **made(name))
