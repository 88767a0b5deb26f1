"""Trains with ours for benchmarks/pareto.py: one request a line of JSON on stdin, as benchmarks/pareto_hgq2.py.

Recipes: "settle" is HGQ2's there with our layers, EBOPs-bar and nothing else: the published baseline. "luts" is that
with the LUTs to expect as cost. "calm" and "calm-luts" are these two with `Freeze` for the last quarter of the run.
"fall" is "calm-luts" with a price that falls to beta from 10/3 of it, over the first half, and twice the learning rate;
one compiled call an epoch trains it (benchmarks/fused_training.py), in a third of the CPU time of `fit`. "start" is
"fall" from one price, `pareto_tasks.START`, whatever beta is.

A run of fewer epochs than the task has is cut into about as many pieces (`steps_per_epoch`), because callbacks count in
these: a ramp of three steps is none, nor is an average of one weight.
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from fused_training import Fused
from pareto_tasks import FALLING, TASKS, arrays, labels, network

from hgq.layers import QConv2D, QDense
from hgq.training import BetaSchedule, Freeze, calibrate


def train(
    task: str, recipe: str, beta: float, teacher: bool, seed: int, epochs: int, batch: int, folder: str, **_: Any
) -> dict[str, Any]:
    start = time.process_time()
    what = TASKS[task]
    data = arrays(what)
    if recipe in FALLING:
        price = BetaSchedule(FALLING[recipe](beta), beta, ramp=0.5, epochs=epochs)
        model = falling(task, price, labels(data, teacher), seed, epochs, batch, data["x_train"])
        return saved(model, data["x_train"], epochs, folder, start)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = network(what, QDense, QConv2D, data["x_train"].shape[1:])
    batches = -(-len(data["x_train"]) // batch)
    steps = epochs * batches
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)
    model.compile(keras.optimizers.Adam(rate), keras.losses.CategoricalCrossentropy(from_logits=True))
    pieces = max(n for n in range(1, max(what.epochs // epochs, 1) + 1) if batches % n == 0)
    freeze = [Freeze(0.25)] if recipe.startswith("calm") else []
    cost = "luts" if recipe.endswith("luts") else "ebops"
    model.fit(
        data["x_train"],
        labels(data, teacher),
        batch_size=batch,
        epochs=epochs * pieces,
        steps_per_epoch=batches // pieces if pieces > 1 else None,
        verbose=0,
        callbacks=[BetaSchedule(beta / 30, beta, ramp=0.5, cost=cost), *freeze],
    )
    return saved(model, data["x_train"], epochs, folder, start)


def falling(
    task: str, price: BetaSchedule, y: np.ndarray, seed: int, epochs: int, batch: int, x: np.ndarray
) -> keras.Model:
    fused = compiled(task, epochs * (len(x) // batch), batch, x.shape[1:])
    held = Freeze(0.25, epochs=epochs).start
    return fused.run(x, y, seed, epochs, lambda epoch, luts, before: price.beta(epoch), held, average=True)


@cache
def compiled(task: str, steps: int, batch: int, shape: tuple[int, ...]) -> Fused:
    return Fused(lambda: network(TASKS[task], QDense, QConv2D, shape), "luts", steps, batch, rate=1e-2)


def saved(model: keras.Model, x: np.ndarray, epochs: int, folder: str, start: float) -> dict[str, Any]:
    fitted = time.process_time()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    calibrate(model, x)
    model.save(out / f"epoch{epochs - 1:04d}.keras")
    return {"cpu": [round(t - start, 1) for t in (fitted, time.process_time())], "kept": [epochs - 1]}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        done = train(**request)
        Path(request["folder"], "train.json").write_text(json.dumps(request | done))
        print(f"{request['folder']}: {done}", flush=True)
