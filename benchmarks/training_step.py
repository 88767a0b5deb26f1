"""Time of a training step: the same MLP in float, with our default quantizers, and with HGQ2's.

    python benchmarks/training_step.py [--backends tensorflow xla jax] [--batches 1024 16384] [--steps 1 16]

16-64-32-32-5 with ReLU on random data, Adam, `model.fit` on NumPy arrays as a user calls it. Each model lives in a
process of its own (HGQ2's in the peers' environment) and epochs take turns: float, ours, HGQ2, float, ... A ratio is
the median over the rounds of (model / float in the same round), so that what else the machine does hits both sides.
"xla" is TensorFlow with `compile(jit_compile=True)`, for all three models; Keras leaves it off on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import peers

MODELS = ("float", "ours", "hgq2")
SAMPLES = 1 << 18
PORTION = {1024: 1 << 17, 16384: 1 << 18}
"""Samples of an epoch: long enough that what fit does once an epoch (about 10 ms) does not count."""


class Trainer:
    """One model in one process."""

    def __init__(self, kind: str, jit: bool | str):
        import keras
        import numpy as np

        self.kind, self.jit = kind, jit
        draw = np.random.default_rng(0)
        self.x = draw.standard_normal((SAMPLES, 16), np.float32)
        self.y = draw.integers(0, 5, SAMPLES)
        keras.utils.set_random_seed(0)

    def make(self) -> Any:
        import keras

        if self.kind == "float":
            dense = keras.layers.Dense
        else:  # hgq is ours in our environment, and HGQ2 in the peers'; both with their default quantizers and EBOPs
            import hgq.layers

            dense = hgq.layers.QDense
        hidden = [dense(units, activation="relu") for units in (64, 32, 32)]
        return keras.Sequential([keras.Input((16,)), *hidden, dense(5)])

    def __call__(self, batch: int, steps: int, fresh: bool = False) -> dict[str, float]:
        """Trains for an epoch; `fresh` compiles first. Seconds a step, and of the processor."""
        import keras

        count = PORTION[batch]
        if fresh:
            keras.backend.clear_session()
            self.model = self.make()
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self.model.compile(keras.optimizers.Adam(1e-3), loss, steps_per_execution=steps, jit_compile=self.jit)
        wall, cpu = time.perf_counter(), time.process_time()
        self.model.fit(self.x[:count], self.y[:count], batch_size=batch, epochs=1, verbose=0)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall": wall, "cpu": cpu, "steps": count // batch}


def measure(backend: str, batches: list[int], steps: list[int], epochs: int, kinds: list[str]) -> list[dict[str, Any]]:
    """One row for each batch size, number of steps and model; times in ms a step."""
    here = Path(__file__).resolve()
    workers = {}
    for kind in kinds:
        interpreter = peers.python() if kind == "hgq2" else sys.executable
        options = ["--serve", kind, *(["--jit"] if backend == "xla" else [])]
        workers[kind] = peers.Worker(interpreter, here, *options, backend={"xla": "tensorflow"}.get(backend, backend))
    rows = []
    for batch in batches:
        for count in steps:
            first = {kind: worker.ask(batch=batch, steps=count, fresh=True) for kind, worker in workers.items()}
            times: dict[str, list[dict[str, float]]] = {kind: [] for kind in workers}
            for _ in range(epochs):
                for kind, worker in workers.items():
                    times[kind].append(worker.ask(batch=batch, steps=count))
            for kind, done in times.items():
                row: dict[str, Any] = {"backend": backend, "batch": batch, "steps": count, "model": kind}
                for clock in ("wall", "cpu"):
                    ms = [t[clock] / t["steps"] * 1e3 for t in done]
                    ratios = [a[clock] / b[clock] for a, b in zip(done, times["float"], strict=True)]
                    row |= {clock: [statistics.median(ms), min(ms), max(ms)]}
                    row |= {f"{clock}_ratio": [statistics.median(ratios), min(ratios), max(ratios)]}
                row["first_epoch_s"] = first[kind]["wall"]
                rows.append(row)
                print(line(row), flush=True)
    for worker in workers.values():
        worker.close()
    return rows


HEAD = (
    "| backend | batch | steps per execution | model | ms a step: median (min to max) | / float: median (min to max) |"
    " CPU ms | CPU / float | first epoch, compiling (s) |\n|---|---|---|---|---|---|---|---|---|"
)


def line(row: dict[str, Any]) -> str:
    def spread(key: str, digits: int = 2) -> str:
        middle, low, high = row[key]
        return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    cells = [row["backend"], f"{row['batch']:,}", row["steps"], row["model"], spread("wall"), spread("wall_ratio")]
    cells += [f"{row['cpu'][0]:.2f}", f"{row['cpu_ratio'][0]:.2f}", f"{row['first_epoch_s']:.1f}"]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "xla", "jax"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1024, 16384], choices=sorted(PORTION))
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 16], help="steps per execution")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    parser.add_argument("--serve", metavar="MODEL", help="for the processes that this one starts")
    parser.add_argument("--jit", action="store_true", help="with --serve")
    args = parser.parse_args()
    if args.serve:
        peers.serve(Trainer(args.serve, jit=args.jit or "auto"))
        return
    print(HEAD)
    rows: list[dict[str, Any]] = []
    for backend in args.backends:
        rows += measure(backend, args.batches, args.steps, args.epochs, args.models)
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
