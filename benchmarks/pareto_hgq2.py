"""Trains with HGQ2, in the peers' environment, for benchmarks/pareto.py: one request a line of JSON on stdin.

A request: task, recipe ("constant": the price of an EBOP as in HGQ2's notebook; "ramp": it rises all along; "settle":
it rises by 30 over the first half, then stays; "fall": it falls to beta from 10/3 of it meanwhile, at twice the
learning rate, "start": it begins at one price whatever beta is: ours of these names, less `Freeze`, which HGQ2 does
not have), beta, teacher (whether it labels), seed,
epochs, folder. The folder has the checkpoints of a front of (validation score, HGQ2's own EBOPs), at most `KEPT`,
ranges traced on the training part.
Quantizers as in its jet notebook: weights (b, i) from 3 bits, saturating; values from 3 fractional bits, wrapping.
"""

from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.utils.minmax_trace import TrainingFlagWrapper, _reset_minmax
from hgq.utils.sugar import BetaScheduler, FreeEBOPs, PieceWiseSchedule
from pareto_tasks import FALLING, TASKS, Task, arrays, front, labels, network, score, spread

from hgq.layers import QConv2D, QDense

KEPT = {"constant": 1, "settle": 1, "fall": 1, "start": 1, "ramp": 8}


class Front(keras.callbacks.Callback):
    """Weights of the epochs that are on the front, in memory; the package's own callback writes a file each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        point = {"epoch": epoch, "val": float(logs["val_score"]), "cost": float(logs["ebops"])}
        if point in front([*self.points, point], "val", "cost"):
            self.points = front([*self.points, point | {"weights": self.model.get_weights()}], "val", "cost")


def built(task: Task, shape: tuple[int, ...], beta: float) -> keras.Model:
    axes: dict[str, Any] = {"heterogeneous_axis": (-1,), "homogeneous_axis": None} if task.filters else {}
    weights = QuantizerConfigScope(place="all", k0=1, b0=3, i0=0, default_q_type="kbi", overflow_mode="sat_sym")
    values = QuantizerConfigScope(
        place="datalane", k0=0, default_q_type="kif", overflow_mode="wrap", f0=3, i0=3, **axes
    )
    with weights, values, LayerConfigScope(beta0=beta):
        return network(task, QDense, QConv2D, shape)


def tracer(model: keras.Model, x: np.ndarray) -> Callable[[], None]:
    """The package's `trace_minmax`, which runs op by op, compiled once: for the checkpoints of a run (JAX)."""
    flag = TrainingFlagWrapper("tracing")
    batches = x[np.arange(-(-len(x) // 2048) * 2048) % len(x)].reshape(-1, 2048, *x.shape[1:])

    @jax.jit
    def step(trained: Any, held: Any, batch: Any) -> Any:
        return model.stateless_call(trained, held, batch, training=flag)[1]

    def trace() -> None:
        _reset_minmax(model)
        held = [v.value for v in model.non_trainable_variables]
        for batch in batches:
            held = step([v.value for v in model.trainable_variables], held, batch)
        for variable, value in zip(model.non_trainable_variables, held, strict=True):
            variable.assign(value)

    return trace


def schedule(task: Task, recipe: str, beta: float, epochs: int) -> PieceWiseSchedule:
    if recipe == "constant":
        return PieceWiseSchedule([(0, beta, "constant")])
    if recipe in FALLING:
        return PieceWiseSchedule([(0, FALLING[recipe](beta), "log"), (epochs // 2, beta, "constant")])
    if recipe == "settle":
        return PieceWiseSchedule([(0, beta / 30, "log"), (epochs // 2, beta, "constant")])
    return PieceWiseSchedule([(0, task.low, "constant"), (epochs // 10, task.low, "log"), (epochs, task.high, "log")])


def save(model: keras.Model, file: Path, like: Path | None) -> Path:
    """As `model.save`, whose configuration takes seconds: that of a file of the same model is copied."""
    if like is None:
        model.save(file)
        return file
    model.save_weights(file.with_suffix(".weights.h5"))
    with zipfile.ZipFile(like) as old, zipfile.ZipFile(file, "w") as new:
        for name in ("metadata.json", "config.json"):
            new.writestr(name, old.read(name))
        new.write(file.with_suffix(".weights.h5"), "model.weights.h5")
    file.with_suffix(".weights.h5").unlink()
    return like


def train(
    task: str, recipe: str, beta: float, teacher: bool, seed: int, epochs: int, batch: int, folder: str, **_: Any
) -> dict[str, Any]:
    start = time.process_time()
    what = TASKS[task]
    data = arrays(what)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = built(what, data["x_train"].shape[1:], beta)
    steps = epochs * -(-len(data["x_train"]) // batch)
    # A ramp needs a rate that lets widths follow until the end.
    first = 1e-2 if recipe in FALLING else 5e-3
    rate = keras.optimizers.schedules.CosineDecay(first, steps, alpha=0.2 if recipe == "ramp" else 0.01)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=[score])
    found = Front()
    model.fit(
        data["x_train"],
        labels(data, teacher),
        batch_size=batch,
        epochs=epochs,
        verbose=0,
        validation_data=(data["x_val"], data["y_val"]),
        validation_batch_size=2048,
        callbacks=[BetaScheduler(schedule(what, recipe, beta, epochs)), FreeEBOPs(), found],
    )
    fitted = time.process_time()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    last = {"epoch": epochs - 1, "weights": model.get_weights()}
    points = [last] if KEPT[recipe] == 1 else spread(found.points, "cost", KEPT[recipe])
    trace, first = tracer(model, data["x_train"]), None
    for point in points:
        model.set_weights(point["weights"])
        trace()
        first = save(model, out / f"epoch{point['epoch']:04d}.keras", first)
    few = data["x_val"][:500]
    np.savez_compressed(out / "check.npz", x=few, y=model.predict(few, verbose=0))  # of the last that was saved
    cpu = [round(t - start, 1) for t in (fitted, time.process_time())]
    return {"cpu": cpu, "kept": [p["epoch"] for p in points]}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        done = train(**request)
        Path(request["folder"], "train.json").write_text(json.dumps(request | done))
        print(f"{request['folder']}: {done}", flush=True)
