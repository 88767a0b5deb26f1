"""What refinement after training gains: python benchmarks/refine.py [--only jets mnist] [--seeds 0 1 2] [--refine-only]

Trains each network (soft labels of the teacher for jets, classes otherwise), refines it on the training data, and
compares LUTs by Yosys and accuracy on the test data before and after. Networks are kept in runs/benchmarks/refine.
HGQ2 networks are trained in the peers' environment (benchmarks/peers.py) and imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "examples"), str(ROOT / "benchmarks")]

import datasets  # noqa: E402

from hgq.layers import QConv2D, QDense  # noqa: E402
from hgq.training import BetaSchedule, calibrate  # noqa: E402

FOLDER = ROOT / "runs/benchmarks/refine"


@dataclass(frozen=True)
class Network:
    """data: name of a loader. beta: at the end of its ramp. shape: of a sample, where the layers want another."""

    data: str
    layers: Callable[[], list[Any]]
    beta: float
    epochs: int
    batch: int
    shape: tuple[int, ...] = ()


def mlp(*units: int) -> Callable[[], list[Any]]:
    return lambda: [*(QDense(n, activation="relu") for n in units[:-1]), QDense(units[-1])]


def conv() -> list[Any]:
    return [
        QConv2D(6, 3, strides=2, activation="relu"),
        QConv2D(10, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        QDense(10),
    ]


NETWORKS = {
    "jets": Network("jets", mlp(64, 32, 32, 5), 1.2e-4, 100, 1024),
    "jets-large": Network("jets", mlp(64, 32, 32, 5), 3e-5, 100, 1024),
    "digits": Network("digits", mlp(32, 10), 3e-5, 300, 128),
    "mnist": Network("mnist", mlp(64, 32, 10), 2e-5, 30, 512),
    "mnist-conv": Network("mnist", conv, 1e-5, 15, 512, (14, 14, 1)),
}


def samples(network: Network) -> datasets.Data:
    data = getattr(datasets, network.data)()
    if network.shape:
        parts = {n: getattr(data, n).reshape(-1, *network.shape) for n in ("x_train", "x_val", "x_test")}
        data = datasets.replace(data, **parts)
    return data


def trained(name: str, seed: int) -> keras.Model:
    """The network as training left it, from its file where there is one."""
    import hgq

    path = FOLDER / f"{name}-{seed}.keras"
    network = NETWORKS[name]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = samples(network)
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input(data.x_train.shape[1:]), *network.layers()])
        soft = data.y_train.ndim == 2
        loss = (keras.losses.CategoricalCrossentropy if soft else keras.losses.SparseCategoricalCrossentropy)(True)
        steps = network.epochs * (len(data.x_train) // network.batch)
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)), loss)
        ramp = BetaSchedule(network.beta / 30, network.beta)
        history = model.fit(
            data.x_train, data.y_train, batch_size=network.batch, epochs=network.epochs, verbose=0, callbacks=[ramp]
        )
        calibrate(model, data.x_train)
        model.save(path)
        print(name, seed, history.history["ebops"][-1], accuracy(model, data.x_val, data.y_val), flush=True)
    return hgq.load(path)


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    y = y if y.ndim == 1 else y.argmax(axis=-1)
    return float((model.predict(x, batch_size=4096, verbose=0).argmax(axis=-1) == y).mean())


if __name__ == "__main__":
    for name, seed in ((n, s) for s in sys.argv[2].split(",") for n in sys.argv[1].split(",")):
        trained(name, int(seed))
