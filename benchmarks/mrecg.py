"""MRECG against its two bases, and on the published jet networks: python benchmarks/mrecg.py images|jets|table

    images      BRECQ and QDrop, each alone and with units joined, at 2/4 and 3/3 bits; --network mobilenet or cifar
    jets        the published MLPs with 400 jets, converted, verified, tested on 600 jets, LUTs by Yosys
    table       what was measured, as tables, and pictures of the losses of units (needs matplotlib)

Each run is kept in runs/benchmarks/mrecg and not repeated. KERAS_BACKEND=tensorflow compiles these small units fastest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from methods_networks import accuracy, data, trained

import hgq
from hgq.methods import mrecg
from hgq.methods.mrecg import LossLog, Settings, largest, oscillation, plot_losses
from hgq.methods.network import fold

FOLDER = Path(__file__).parents[1] / "runs" / "benchmarks" / "mrecg"
WIDTHS = (2, 4), (3, 3)
"""Bits of weights and activations; the first and the last layer have 8."""
WAYS = {
    "BRECQ": ("brecq", 0),
    "BRECQ + MRECG": ("brecq", None),
    "QDrop": ("qdrop", 0),
    "QDrop + MRECG": ("qdrop", None),
}
SAMPLES, BATCH = 512, 32
JETS = (4, 6), (6, 8), (3, 5)


def images(network: str, seeds: list[int], steps: int, scales: str, samples: int, batch: int) -> None:
    """All ways and widths for the network of each seed."""
    held, twin = data(network), None
    for seed in seeds:
        folded = fold(trained(network, seed))
        if twin is not None and keras.backend.backend() == "tensorflow":
            # What is compiled reads biases from their variables there: it serves for the next network as well.
            twin.folded.set_weights(folded.get_weights())
            folded = twin.folded
        best = accuracy(folded, held.x_test, held.y_test)
        # Samples of the training part, without labels.
        x = held.x_train[np.random.default_rng(seed).permutation(len(held.x_train))[:samples]]
        for (w, a), (way, (base, joined)) in itertools.product(WIDTHS, WAYS.items()):
            path = (
                FOLDER / f"{network}-{seed}-w{w}a{a}-{way.replace(' ', '')}-{kind(steps, scales, samples, batch)}.json"
            )
            if path.is_file():
                continue
            start = time.process_time()
            settings = Settings(base, joined, steps=steps, batch=batch, rate=10 / steps, scales=scales, seed=seed)
            found = mrecg.reconstruct(folded, x, mrecg.uniform(folded, w, a), settings, twin=twin)
            spent, twin, log = time.process_time() - start, found.twin, found.losses
            row = {"float": best, "accuracy": accuracy(found.model, held.x_test, held.y_test), "cpu_s": spent}
            row |= {"before": log.before.tolist(), "after": log.after.tolist(), "units": log.names}
            _keep(path, row | {"groups": found.groups, "capacities": found.capacities.tolist()})


def kind(steps: int, scales: str, samples: int, batch: int) -> str:
    """Of a run, in the names of files."""
    other = [] if (samples, batch) == (SAMPLES, BATCH) else [str(samples), str(batch)]
    return "-".join([str(steps)] + [scales] * (scales != "power") + other)


def jets(seeds: list[int], steps: int) -> None:
    """The published MLPs at all widths; the first is converted, verified and counted."""
    held = data("jets")
    for seed, (w, a) in itertools.product(seeds, JETS):
        path = FOLDER / f"jets-{seed}-w{w}a{a}-{steps}.json"
        if path.is_file():
            continue
        start, model = time.process_time(), trained("jets", seed)
        settings = Settings(steps=steps, rate=10 / steps)
        result = mrecg.quantize(model, held.extra, bits=w, activation_bits=a, ends=None, settings=settings)
        row: dict[str, Any] = {"cpu_s": time.process_time() - start, "ebops": result.ebops}
        row["float"] = accuracy(model, held.x_test, held.y_test)
        row["accuracy"] = accuracy(result.model, held.x_test, held.y_test)
        if seed == 0:
            project = hgq.convert(result.model, FOLDER / path.stem, verify=held.x_test, corners=2000)
            row["hardware"] = float((project.predict(held.x_test).argmax(-1) == held.y_test).mean())
            row["luts"] = project.resources("xcup")["total"]["luts"]
            print(project.summary(), flush=True)
        _keep(path, row)


def _keep(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(path.stem, {name: value for name, value in row.items() if isinstance(value, int | float)}, flush=True)


def _kept(pattern: str) -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob(pattern)):
        yield json.loads(path.read_text(encoding="utf-8"))


def table(network: str, steps: int, scales: str, samples: int, batch: int) -> None:
    """A row for each way, a number for each seed; then the jets; and the plot of the losses of seed 0."""
    heads = "W/A", "method", "test accuracy (%)", "largest loss", "oscillation", "at the ends of groups"
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for (w, a), way in itertools.product(WIDTHS, WAYS):
        rows = list(_kept(f"{network}-*-w{w}a{a}-{way.replace(' ', '')}-{kind(steps, scales, samples, batch)}.json"))
        if rows:
            losses = [np.array(row["after"]) for row in rows]
            # Inside of a group nothing asks a unit to give what it gave: these may differ more, and still end closer.
            joined = f"{network}-*-w{w}a{a}-{way.split()[0]}+MRECG-{kind(steps, scales, samples, batch)}.json"
            groups = next(_kept(joined))["groups"]
            ends = [one[[group[-1] for group in groups]] for one in losses]
            columns = [
                [100 * row["accuracy"] for row in rows],
                *([measure(one) for one in losses] for measure in (largest, oscillation)),
                [oscillation(one) for one in ends],
            ]
            cells = [", ".join(f"{number:.1f}" for number in column) for column in columns]
            print(f"| {w}/{a} | {way} | {' | '.join(cells)} |")
    for (w, a), row in ((width, row) for width in JETS for row in _kept("jets-*-w{}a{}-*.json".format(*width))):
        print(f"jets {w}/{a}: {row}")
    plot(network, kind(steps, scales, samples, batch))


def plot(network: str, kind: str) -> None:
    """The loss of each unit of seed 0, rounded to nearest and by the four ways; a picture for each pair of widths."""
    for w, a in WIDTHS:
        kept = {way: list(_kept(f"{network}-0-w{w}a{a}-{way.replace(' ', '')}-{kind}.json")) for way in WAYS}
        logs = {
            way: LossLog(tuple(row["units"]), np.array(row["before"]), np.array(row["after"]))
            for way, rows in kept.items()
            for row in rows
        }
        if logs:
            plot_losses(FOLDER / f"losses-{network}-w{w}a{a}.svg", logs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures MRECG.")
    parser.add_argument("what", choices=("images", "jets", "table"))
    parser.add_argument("--network", choices=("mobilenet", "cifar"), default="mobilenet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150, help="of Adam, for each unit")
    parser.add_argument("--scales", choices=("power", "float"), default="power", help="float: as in the paper")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--batch", type=int, default=BATCH)
    options = parser.parse_args()
    if options.what == "table":
        table(options.network, options.steps, options.scales, options.samples, options.batch)
    elif options.what == "images":
        images(options.network, options.seeds, options.steps, options.scales, options.samples, options.batch)
    else:
        jets(options.seeds, options.steps)


if __name__ == "__main__":
    main()
