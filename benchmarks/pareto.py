"""Fronts of LUTs against accuracy: ours beside HGQ2's, from the same data, epochs, batches and labels.

    HGQ_DATA=... python benchmarks/pareto_data.py          the data, with labels of a teacher
    python benchmarks/pareto.py train --tasks jets --sides hgq2 ours --recipes settle ramp --labels true teacher
    python benchmarks/pareto.py measure                    our compiler on each final net
    python benchmarks/pareto.py refine --labels teacher    `hgq.training.refine` on the final nets of both sides
    python benchmarks/pareto.py map --recipes fall         Yosys on the nets of each front
    python benchmarks/pareto.py report --against constant  table and plots

Everything is kept under runs/benchmarks/pareto and not done twice: nets/TASK/RUN/*.keras (checkpoints), results.jsonl
(a line for each checkpoint: `pareto_nets.measured`), yosys.jsonl. Checkpoints are chosen by their validation score; the
test part is read once, by `measure`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peers
from pareto_tasks import RUNS, TASKS, arrays

HERE = Path(__file__).resolve().parent
NETS = RUNS / "nets"
RESULTS, MAPPED = RUNS / "results.jsonl", RUNS / "yosys.jsonl"


def name_of(run: dict[str, Any]) -> str:
    beta = "" if run["recipe"] == "ramp" else f"-{run['beta']:g}"
    length = f"e{run['epochs']}" + ("" if run["batch"] == TASKS[run["task"]].batch else f"-b{run['batch']}")
    return f"{run['side']}-{run['recipe']}{beta}-{'teacher' if run['teacher'] else 'true'}-{length}-s{run['seed']}"


def wanted(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The trainings that the options ask for, seed by seed."""
    for seed in args.seeds:
        for task in args.tasks:
            what = TASKS[task]
            for labels in args.labels:
                for recipe in args.recipes:
                    for beta in [0.0] if recipe == "ramp" else (args.betas or what.betas):
                        for side in args.sides:
                            run = {"side": side, "task": task, "recipe": recipe, "beta": beta, "seed": seed}
                            run |= {"teacher": labels == "teacher", "epochs": args.epochs or what.epochs}
                            run |= {"batch": args.batch or what.batch}
                            yield run | {"folder": str(NETS / task / name_of(run))}


def train(args: argparse.Namespace) -> None:
    """What is missing of the wanted: one process a side after the other, each with all its runs."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(RUNS / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    for side in args.sides:
        todo = [run for run in wanted(args) if run["side"] == side and not Path(run["folder"], "train.json").exists()]
        if not todo:
            continue
        if side == "hgq2":
            command, env = [str(peers.python()), "-E", str(HERE / "pareto_hgq2.py")], {}
        else:
            command, env = [sys.executable, str(HERE / "pareto_ours.py")], {"PYTHONPATH": str(peers.ROOT)}
        subprocess.run(
            [*shlex.split(args.prefix), *command],
            input="".join(json.dumps(run) + "\n" for run in todo),
            text=True,
            env=peers.environment("jax", threads=1) | cache | env,
            check=True,
        )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def append(file: Path, row: dict[str, Any]) -> None:
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")
    print(row, flush=True)


def measure(args: argparse.Namespace) -> None:
    import pareto_nets as nets

    known = {row["net"] for row in lines(RESULTS)}
    for task in args.tasks:
        data = arrays(TASKS[task])
        for made in sorted((NETS / task).glob("*/train.json")):
            run = json.loads(made.read_text())
            for file in sorted(made.parent.glob("epoch????.keras")):
                net = str(file.relative_to(NETS))
                if net in known:
                    continue
                row = {key: run[key] for key in ("side", "task", "recipe", "beta", "teacher", "seed", "epochs", "cpu")}
                row |= {"net": net, "batch": run.get("batch", TASKS[task].batch)} | nets.measured(file, data)
                check = made.parent / "check.npz"
                if check.exists() and file.stem == f"epoch{run['kept'][-1]:04d}":
                    held = np.load(check)
                    row["wrong"] = nets.check(file, held["x"], held["y"])
                append(RESULTS, row)


def refine(args: argparse.Namespace) -> None:
    """`hgq.training.refine` on the final nets of both sides: one net more for each price of a LUT."""
    import pareto_nets as nets

    for row in [row for row in lines(RESULTS) if row["task"] in args.tasks and row["side"] in args.sides]:
        source = Path(row["net"])
        made = json.loads((NETS / source.parent / "train.json").read_text())
        asked = row["recipe"] in args.recipes and ("teacher" if row["teacher"] else "true") in args.labels
        if row.get("refined") or not asked or not made["beta"] or row["seed"] not in args.seeds:
            continue
        for lam in args.lams:
            price = lam * made["beta"]
            file = source.with_name(f"{source.stem}-refined-{lam:g}.keras")
            if (NETS / file).exists():
                continue
            cpu = nets.refined(
                NETS / source, NETS / file, arrays(TASKS[row["task"]]), row["teacher"], price, args.samples
            )
            data = arrays(TASKS[row["task"]])
            same = ("side", "task", "recipe", "beta", "teacher", "seed", "epochs", "batch", "cpu")
            kept = {key: row[key] for key in same if key in row}
            kept |= {"refined": lam, "samples": args.samples, "refine_cpu": cpu, "net": str(file)}
            append(RESULTS, kept | nets.measured(NETS / file, data))


def synthesise(args: argparse.Namespace) -> None:
    """Yosys' count of the nets on the front of each side, recipe and labels."""
    import pareto_nets as nets
    import pareto_report as text

    known = {row["net"] for row in lines(MAPPED)}
    wanted = [row for row in lines(RESULTS) if row["task"] in args.tasks and row["side"] in args.sides]
    wanted = [row for row in wanted if row["recipe"] in args.recipes and bool(row.get("refined")) == args.refined]
    wanted = [row for row in wanted if ("teacher" if row["teacher"] else "true") in args.labels]
    for (task, name), rows in sorted(text.groups(wanted, recipes=True).items()):
        if not any(recipe in name for recipe in args.recipes):
            continue
        for row in text.front([row for row in rows if row["estimate"]], "val", "estimate"):
            if row["net"] not in known:
                luts = nets.mapped(NETS / row["net"], flatten=not TASKS[task].filters)
                append(MAPPED, {"net": row["net"], "luts": luts, "estimate": row["estimate"]})
                known.add(row["net"])


def report(args: argparse.Namespace) -> None:
    import pareto_report as text

    counted = {row["net"]: row["luts"] for row in lines(MAPPED)}
    rows = [row | ({"luts": counted[row["net"]]} if row["net"] in counted else {}) for row in lines(RESULTS)]
    print(text.table(rows, args.tasks, args.against))
    ends = tuple(f"({recipe}), teacher" for recipe in args.against)
    found = {key: held for key, held in sorted(text.groups(rows, recipes=True).items()) if key[1].endswith(ends)}
    for task in args.tasks:
        kinds = {name: held for (t, name), held in found.items() if t == task and len(held) >= text.PLOTTED}
        if kinds:
            text.plot(task, kinds, HERE / f"pareto-{task}.svg")


COMMANDS = {"train": train, "measure": measure, "refine": refine, "map": synthesise, "report": report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=list(COMMANDS))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--sides", nargs="+", default=["hgq2", "ours"], choices=["hgq2", "ours"])
    parser.add_argument("--recipes", nargs="+", default=["settle", "ramp"])
    parser.add_argument("--labels", nargs="+", default=["true", "teacher"], choices=["true", "teacher"])
    parser.add_argument("--betas", nargs="+", type=float)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="of training; by default those of the task")
    parser.add_argument("--batch", type=int, help="samples in a step; by default those of the task")
    parser.add_argument("--samples", type=int, default=30_000, help="samples that refinement uses")
    parser.add_argument(
        "--against", nargs="+", default=["constant", "fall", "start"], help="report: recipes of HGQ2, and of plots"
    )
    parser.add_argument("--refined", action="store_true", help="map: the refined nets, not the trained")
    parser.add_argument("--prefix", default="", help="put in front of the command of each training, such as nice -n 5")
    parser.add_argument("--lams", nargs="+", type=float, default=[1.0], help="price of a LUT in refinement, by beta")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
