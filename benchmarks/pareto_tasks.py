"""The tasks of benchmarks/pareto.py: data, network and budget of each, the same for both sides.

Imported in our environment and in the peers', where `hgq` is HGQ2: nothing here may need more than Keras and NumPy.
Both packages have layers called QDense and QConv2D, so that one function makes the network of either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "benchmarks" / "pareto"


@dataclass(frozen=True)
class Task:
    """What is learned, by what network, with how many epochs.

    units: sizes of the dense layers. filters: of the 3 x 3 convolutions in front, each with a max pooling of 2 x 2.
    size: pixels of an edge, where convolutions need it.
    betas: prices of an EBOP for HGQ2's recipe with a constant price; the ramp goes from `low` to `high`.
    """

    name: str
    data: str
    units: tuple[int, ...]
    epochs: int
    batch: int
    betas: tuple[float, ...]
    low: float
    high: float
    filters: tuple[int, ...] = ()
    size: int = 0


TASKS = {
    task.name: task
    for task in (
        Task("digits", "digits", (32, 16, 10), 200, 64, (4e-5, 1.6e-4, 6e-4), 3e-6, 3e-3),
        Task("jets", "jets", (64, 32, 32, 5), 60, 1024, (2e-5, 7e-5, 2.5e-4), 1e-6, 1e-3),
        Task("mnist14", "mnist14", (64, 32, 10), 30, 512, (5e-6, 2e-5, 8e-5), 1e-6, 4e-4),
        Task("mnist28", "mnist28", (64, 32, 10), 20, 512, (5e-6, 2e-5, 8e-5), 1e-6, 4e-4),
        Task("fashion28", "fashion28", (64, 32, 10), 20, 512, (5e-6, 2e-5, 8e-5), 1e-6, 4e-4),
        Task("fashion14", "fashion14", (64, 32, 10), 30, 512, (5e-6, 2e-5, 8e-5), 1e-6, 4e-4),
        Task("fashion_conv", "fashion14", (10,), 15, 512, (1e-6, 4e-6, 1.6e-5), 3e-7, 1e-4, (8, 12), 14),
    )
}


START = 1.2e-4
"""The price of a LUT, or EBOP, that the recipe "start" begins with: of a net of dense layers, whatever it ends at."""

FALLING: dict[str, Callable[[float], float]] = {"fall": lambda beta: beta / 0.3, "start": lambda beta: START}
"""First price of the recipes that train with 1e-2 and a price that goes to beta over the first half, then stays."""


def network(task: Task, dense: Any, conv: Any, shape: tuple[int, ...], **settings: Any) -> Any:
    """The untrained network of a task.

    Args:
        dense, conv: classes of layers.
        settings: further arguments of each.
    """
    import keras

    layers: list[Any] = [keras.Input(shape)]
    if task.filters:
        layers.append(keras.layers.Reshape((task.size, task.size, 1)))
    for filters in task.filters:
        layers += [conv(filters, 3, activation="relu", **settings), keras.layers.MaxPooling2D(2)]
    if task.filters:
        layers.append(keras.layers.Flatten())
    layers += [dense(units, activation="relu", **settings) for units in task.units[:-1]]
    return keras.Sequential([*layers, dense(task.units[-1], **settings)], name=task.name)


def arrays(task: Task) -> dict[str, np.ndarray]:
    """The data that benchmarks/pareto_data.py made: see there."""
    with np.load(RUNS / "data" / f"{task.data}.npz") as held:
        return {name: held[name] for name in held.files}


def labels(data: dict[str, np.ndarray], teacher: bool) -> np.ndarray:
    """What the network is trained on: rows of probabilities."""
    return data["t_train"] if teacher else data["y_train"]


def score(truth: Any, given: Any) -> Any:
    """The mean probability of the predicted class: the accuracy where rows of truth are 0 and 1. A Keras metric."""
    from keras import ops

    return ops.sum(truth * ops.one_hot(ops.argmax(given, axis=-1), truth.shape[-1]), axis=-1)


def front(points: list[dict[str, Any]], gain: str, cost: str) -> list[dict[str, Any]]:
    """The points that no other beats in one and equals in the other, cheapest first."""
    kept: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p[cost], -p[gain])):
        if not kept or point[gain] > kept[-1][gain]:
            kept.append(point)
    return kept


def spread(points: list[dict[str, Any]], cost: str, count: int) -> list[dict[str, Any]]:
    """At most `count` of them, as even as can be in the logarithm of the cost, the ends included."""
    if len(points) <= count:
        return points
    where = np.log([max(p[cost], 1) for p in points])
    wanted = np.linspace(where[0], where[-1], count)
    chosen = {int(np.argmin(abs(where - goal))) for goal in wanted}
    return [points[n] for n in sorted(chosen)]
