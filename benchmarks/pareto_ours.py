"""Trains with ours for benchmarks/pareto.py: one request a line of JSON on stdin, as benchmarks/pareto_hgq2.py.

Recipes: "settle" is HGQ2's there with our layers, EBOPs-bar and nothing else: the published baseline. "luts" is that
with the LUTs to expect as cost. "calm" and "calm-luts" are these two with widths that stay for the last quarter of the
run and weights averaged over its steps (decay `AVERAGE`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
from pareto_tasks import TASKS, arrays, labels, network

from hgq.layers import QConv2D, QDense
from hgq.layers.walk import model_quantizers
from hgq.training import BetaSchedule, calibrate

CALM = 0.75
AVERAGE = 0.998


class Adam(keras.optimizers.Adam):
    """Adam with a variable `pace` that the rate of the variables named in `slow` is multiplied by."""

    slow: frozenset[str] = frozenset()

    def build(self, variables: list[Any]) -> None:
        super().build(variables)
        self.pace = self.add_variable((), "ones", name="pace")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = learning_rate * self.pace if variable.path in self.slow else learning_rate
        super().update_step(gradient, variable, rate)


class Calm(keras.callbacks.Callback):
    """Widths stay from `CALM` of the run on."""

    def __init__(self, epochs: int, widths: list[Any]):
        super().__init__()
        self.start, self.widths, self.held = int(epochs * CALM), widths, []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if epoch == self.start:
            self.model.optimizer.pace.assign(0.0)
            self.held = [keras.ops.convert_to_numpy(v) for v in self.widths]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if logs is not None:
            logs["ebops"] = 0  # else BetaSchedule counts them, which takes as long as a few steps

    def restore(self) -> None:
        """After `fit`, which has averaged widths too: over steps before they stayed."""
        for variable, value in zip(self.widths, self.held, strict=True):
            variable.assign(value)


def train(
    task: str, recipe: str, beta: float, teacher: bool, seed: int, epochs: int, folder: str, **_: Any
) -> dict[str, Any]:
    start = time.process_time()
    what = TASKS[task]
    data = arrays(what)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = network(what, QDense, QConv2D, data["x_train"].shape[1:])
    steps = epochs * -(-len(data["x_train"]) // what.batch)
    calm = recipe.startswith("calm")
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)
    widths = [v for _, _, q in model_quantizers(model) for v in q.trainable_variables]
    optimizer = Adam(rate, use_ema=calm, ema_momentum=AVERAGE)
    optimizer.slow = frozenset(v.path for v in widths)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    still = Calm(epochs if calm else 2 * epochs, widths)
    cost = "luts" if recipe.endswith("luts") else "ebops"
    model.fit(
        data["x_train"],
        labels(data, teacher),
        batch_size=what.batch,
        epochs=epochs,
        verbose=0,
        callbacks=[still, BetaSchedule(beta / 30, beta, ramp=0.5, cost=cost)],
    )
    if calm:
        still.restore()
    fitted = time.process_time()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    calibrate(model, data["x_train"])
    model.save(out / f"epoch{epochs - 1:04d}.keras")
    return {"cpu": [round(t - start, 1) for t in (fitted, time.process_time())], "kept": [epochs - 1]}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        done = train(**request)
        Path(request["folder"], "train.json").write_text(json.dumps(request | done))
        print(f"{request['folder']}: {done}", flush=True)
