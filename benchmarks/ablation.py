"""What each ingredient of training is worth alone: LUTs by Yosys and accuracy of final nets, over seeds.

    HGQ_DATA=... KERAS_BACKEND=jax python benchmarks/pareto_data.py jets mnist14        the data, once
    KERAS_BACKEND=jax python benchmarks/ablation.py train [--tasks jets] [--variants luts] [--seeds 0 1 2]
    python benchmarks/ablation.py measure [--yosys]
    python benchmarks/ablation.py report

Networks, data and epochs are those of benchmarks/pareto_tasks.py. Every net is the one after the last epoch: nothing
is selected. Accuracy is the mean probability of the predicted class over the test part, of the integer model.
Everything is kept under runs/benchmarks/ablation and not done twice.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pareto_tasks import ROOT, TASKS, arrays, labels, network

RUNS = ROOT / "runs" / "benchmarks" / "ablation"
RESULTS = RUNS / "results.jsonl"
_ALL = "luts, freeze, teacher"
BETAS = {"jets": (4e-5, 1.2e-4), "mnist14": (1e-5, 3e-5)}
VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {"cost": "ebops"},
    "luts": {"cost": "luts"},
    "freeze": {"cost": "ebops", "freeze": True},
    "teacher": {"cost": "ebops", "teacher": True},
    "luts, freeze": {"cost": "luts", "freeze": True},
    "freeze, teacher": {"cost": "ebops", "freeze": True, "teacher": True},
    "freeze, teacher, damping": {"cost": "ebops", "freeze": True, "teacher": True, "damping": 0.1},
    "freeze, teacher, Budget": {"cost": "ebops", "freeze": True, "teacher": True, "budget": "freeze, teacher"},
    _ALL: {"cost": "luts", "freeze": True, "teacher": True},
    "fall": {"cost": "ebops", "start": 10 / 3},
    "fall, 1e-2": {"cost": "ebops", "start": 10 / 3, "rate": 1e-2},
    "luts, fall, 1e-2": {"cost": "luts", "start": 10 / 3, "rate": 1e-2},
    f"{_ALL}, fall, 1e-2": {"cost": "luts", "freeze": True, "teacher": True, "start": 10 / 3, "rate": 1e-2},
    f"{_ALL}, Budget": {"cost": "luts", "freeze": True, "teacher": True, "budget": _ALL},
}
"""The baseline is EBOPs-bar, a ramp to a constant price, true labels: what is published. budget: the variant whose mean
LUTs, at the same beta, are the target of `Budget`. fall: from 10/3 of the last price. 1e-2: the learning
rate, in place of 5e-3."""

NAME = re.compile(r"(.+?)-([0-9.]+(?:e-?[0-9]+)?)-s([0-9]+)\.keras")
"""Variant, beta and seed in the name of a net."""


def train(args: argparse.Namespace) -> None:
    from fused_training import Fused

    for task in args.tasks:
        what, data = TASKS[task], arrays(TASKS[task])
        steps = what.epochs * (len(data["x_train"]) // what.batch)
        make = partial(untrained, task, data["x_train"].shape[1:])
        fused: dict[tuple[str, float], Fused] = {}
        for seed, variant in itertools.product(args.seeds, args.variants):
            cost, rate = VARIANTS[variant]["cost"], VARIANTS[variant].get("rate", 5e-3)
            for beta in args.betas or BETAS[task]:
                if not file_of(task, variant, beta, str(seed)).exists():
                    if (cost, rate) not in fused:
                        fused[cost, rate] = Fused(make, cost, steps, what.batch, rate=rate)
                    train_one(fused[cost, rate], task, variant, beta, seed, data)


def untrained(task: str, shape: tuple[int, ...]) -> Any:
    from hgq.layers import QConv2D, QDense

    return network(TASKS[task], QDense, QConv2D, shape)


def train_one(fused: Any, task: str, variant: str, beta: float, seed: int, data: dict[str, np.ndarray]) -> None:
    from hgq.training import BetaSchedule, Budget, calibrate

    kind, epochs, start = VARIANTS[variant], TASKS[task].epochs, time.process_time()
    schedule = BetaSchedule(kind.get("start", 1 / 30) * beta, beta, epochs=epochs)
    steering = Budget(mean_luts(task, kind["budget"], beta), epochs=epochs) if kind.get("budget") else None

    def price(epoch: int, luts: float, before: float) -> float:
        if steering is None:
            return schedule.beta(epoch)
        return steering.next_beta(epoch - 1, {"luts": luts}, before) if epoch else steering.first_beta

    held = math.ceil(0.8 * epochs) if kind.get("freeze") else epochs
    y = labels(data, kind.get("teacher", False))
    model = fused.run(data["x_train"], y, seed, epochs, price, held, "freeze" in kind, kind.get("damping", 0.0))
    trained = time.process_time() - start
    calibrate(model, data["x_train"])
    file = file_of(task, variant, beta, str(seed))
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    print(f"{task}: {variant}, beta {beta:g}, seed {seed}: {trained:.1f} s of CPU", flush=True)


def file_of(task: str, variant: str, beta: float, seed: str) -> Path:
    return RUNS / task / f"{variant.replace(', ', '+')}-{beta:g}-s{seed}.keras"


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def mean_luts(task: str, variant: str, beta: float) -> float:
    """Of the nets of a variant: what a budget is set to."""
    import hgq
    from hgq.resource import model_luts

    files = sorted((RUNS / task).glob(file_of(task, variant, beta, "*").name))
    return statistics.mean(model_luts(hgq.load(file)) for file in files)


def measure(args: argparse.Namespace) -> None:
    import pareto_nets as nets

    import hgq
    from hgq.resource import model_luts

    known = {(row["task"], row["file"]) for row in lines()}
    for task in args.tasks:
        data = arrays(TASKS[task])
        for file in sorted((RUNS / task).glob("*.keras"), key=lambda f: f.stem[-1]):
            if (task, file.name) in known:
                continue
            named = NAME.fullmatch(file.name)
            if named is None:
                raise SystemExit(f"{file}: not a net of this benchmark")
            variant, beta, seed = named.groups()
            row = {"task": task, "file": file.name, "variant": variant.replace("+", ", "), "beta": beta, "seed": seed}
            row |= nets.measured(file, data) | {"luts": model_luts(hgq.load(file))}
            if args.yosys:
                row["yosys"] = nets.mapped(file, flatten=True)
            with RESULTS.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(row, flush=True)


def report(args: argparse.Namespace) -> None:
    print("| task | ingredients | beta | LUTs by seed | LUTs | accuracy by seed (%) | accuracy |")
    print("|---|---|---|---|---|---|---|")
    rows = lines()
    for task in args.tasks:
        for variant in args.variants:
            for beta in sorted({r["beta"] for r in rows if r["task"] == task}, key=float):
                these = sorted(
                    (r for r in rows if (r["task"], r["variant"], r["beta"]) == (task, variant, beta)),
                    key=lambda r: r["seed"],
                )
                if not these:
                    continue
                luts = [r.get("yosys", r["estimate"]) for r in these]
                scores = [100 * r["test"] for r in these]
                cells = [task, variant, beta, " ".join(f"{n:,}" for n in luts), f"{statistics.mean(luts):,.0f}"]
                cells += [" ".join(f"{s:.2f}" for s in scores), f"{statistics.mean(scores):.2f}"]
                print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["train", "measure", "report"])
    parser.add_argument("--tasks", nargs="+", default=list(BETAS), choices=list(BETAS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--betas", nargs="+", type=float)
    parser.add_argument("--yosys", action="store_true")
    args = parser.parse_args()
    {"train": train, "measure": measure, "report": report}[args.command](args)


if __name__ == "__main__":
    main()
