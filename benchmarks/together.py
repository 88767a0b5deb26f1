"""Several models at once against one after the other: KERAS_BACKEND=jax python benchmarks/together.py [--models 6]

Networks 16-32-32-5 of learned widths that differ in seed and beta, random data, compiling included: what a user who
wants a front of several betas waits for. In turn is `model.fit` with a `BetaSchedule`. Both train by Adam, batch 512.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np

from hgq.layers import QDense
from hgq.training import BetaSchedule, fit_together

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    hidden = [QDense(32, "relu") for _ in range(2)]
    return keras.Sequential([keras.Input((16,)), *hidden, QDense(5)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=50_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(args.samples, 16)).astype(np.float32)
    y = (x[:, :5] + 0.3 * x[:, 5:10]).argmax(1).astype(np.int32)
    schedules = [
        BetaSchedule(1e-7, beta, epochs=args.epochs, cost="ebops") for beta in np.geomspace(1e-6, 1e-4, args.models)
    ]
    for way in ("together", "in turn"):
        models = [network(seed) for seed in range(args.models)]
        wall, cpu = time.perf_counter(), time.process_time()
        if way == "together":
            options = {"loss": LOSS, "epochs": args.epochs, "batch_size": 512, "schedules": schedules}
            fit_together(models, x, y, optimizer=keras.optimizers.Adam(5e-3), **options)
        else:
            for model, schedule in zip(models, schedules, strict=True):
                model.compile(keras.optimizers.Adam(5e-3), LOSS)
                model.fit(x, y, batch_size=512, epochs=args.epochs, callbacks=[schedule], verbose=0)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{args.models} models {way}: {wall:.1f} s, {cpu:.1f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
