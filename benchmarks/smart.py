"""SQ: python benchmarks/smart.py train|luts|verify [--data mnist fashion] [--epochs 24] (KERAS_BACKEND=jax, HGQ_DATA)

train: for each data set and seed a float MLP 196-64-32-10, then from it nets of binary, ternary and adaptive weights
(`hgq.methods.smart`), with activations of learned widths; all those of a data set are trained together. Prints and
keeps accuracy (validation, test), depths, zeros, memory, EBOPs; the nets go to runs/benchmarks/smart/EPOCHS.
luts: converts the nets of seed 0 and counts their LUTs with Yosys. verify: converts one with every check.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import datasets
import keras
import numpy as np

import hgq
from hgq.methods import smart
from hgq.quantizers import BinaryTernaryQuantizer
from hgq.resource import model_ebops
from hgq.training import calibrate, fit_together

FOLDER = Path(__file__).parents[1] / "runs" / "benchmarks" / "smart"
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
GAMMAS = (0.1, 0.3, 0.35, 0.4, 0.45, 0.5)
BATCH, FLOAT_EPOCHS = 512, 6


def float_net(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(n, "relu", name=f"dense{k}") for k, n in enumerate((64, 32))]
    return keras.Sequential([keras.Input((196,)), *layers, keras.layers.Dense(10, name="dense2")])


def together(models: list[keras.Model], held: datasets.Data, epochs: int, rate: float) -> np.ndarray:
    """Trains them; the accuracy on the validation part after the last epoch."""
    steps = epochs * (len(held.x_train) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)
    told = fit_together(
        models,
        held.x_train,
        held.y_train,
        optimizer=keras.optimizers.Adam(schedule),
        loss=LOSS,
        epochs=epochs,
        batch_size=BATCH,
        validation_data=(held.x_val, held.y_val),
    )
    return told["val_metric"][-1]


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    return float((model.predict(x, batch_size=2000, verbose=0).argmax(1) == y).mean())


def train(name: str, seeds: int, epochs: int, gammas: list[float], folder: Path) -> None:
    held = getattr(datasets, name)(None, 14)
    start = time.process_time()
    floats = [float_net(seed) for seed in range(seeds)]
    validated = together(floats, held, FLOAT_EPOCHS, 3e-3)
    for seed, net in enumerate(floats):
        keep(path(folder, name, seed, "float"), net, held, {"val": float(validated[seed])})
    folded = [smart.fold(net) for net in floats]
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "adaptive": [(f"gamma {gamma}", {"gamma": gamma}) for gamma in gammas],
        "ternary": [("ternary", {"depth": "ternary"})],
        "binary": [("binary", {"depth": "binary"})],
    }
    for group in groups.values():
        made = [
            (seed, label, smart.build(net, BinaryTernaryQuantizer(**arguments)))
            for seed, net in enumerate(folded)
            for label, arguments in group
        ]
        validated = together([model for *_, model in made], held, epochs, 1.5e-3)
        for (seed, label, model), found in zip(made, validated, strict=True):
            calibrate(model, held.x_train[:20_000])
            rows = smart.depths(model)
            told = {
                "val": float(found),
                "depths": [row.depth for row in rows],
                "zeros": [round(row.zeros, 3) for row in rows],
                "memory": sum(row.memory_bits for row in rows),
                "weights": sum(row.weights for row in rows),
                "ebops": model_ebops(model),
            }
            keep(path(folder, name, seed, label), model, held, told)
    print(f"{name}: {time.process_time() - start:.0f} s of CPU")


def keep(file: Path, model: keras.Model, held: datasets.Data, told: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {"net": file.stem} | told | {"test": accuracy(model, held.x_test, held.y_test)}
    model.save(file)
    file.with_suffix(".json").write_text(json.dumps(told))
    print(json.dumps(told), flush=True)


def path(folder: Path, name: str, seed: int, label: str) -> Path:
    return folder / f"{name}-{seed}-{label.replace(' ', '_')}.keras"


def luts(name: str, labels: list[str], folder: Path) -> None:
    """Adders and LUTs (Yosys, xcup) of the nets of seed 0; no other engine."""
    held = getattr(datasets, name)(None, 14)
    for label in labels:
        out = folder / "projects" / f"{name}-{label.replace(' ', '_')}"
        model = hgq.load(path(folder, name, 0, label))
        project = hgq.convert(model, out, calibrate=held.x_train[:20_000], verify=False, proof=False)
        found = project.resources("xcup", per_layer=False, simulate=False)
        row = {"data": name, "net": label, "ebops": project.report["totals"]["ebops"], "resources": found["total"]}
        print(json.dumps(row), flush=True)


def verify(name: str, label: str, folder: Path) -> None:
    """One net, with every engine and the proof, on the whole test part."""
    held = getattr(datasets, name)(None, 14)
    project = hgq.convert(
        hgq.load(path(folder, name, 0, label)),
        folder / "verified",
        calibrate=held.x_train[:20_000],
        verify=held.x_test,
    )
    print(project.summary())
    print("test accuracy of the hardware", (project.predict(held.x_test).argmax(1) == held.y_test).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "luts", "verify"])
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion"], choices=["mnist", "fashion"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--nets", nargs="+", default=["binary", "ternary", *(f"gamma {g}" for g in GAMMAS)])
    parser.add_argument("--gammas", type=float, nargs="+", default=GAMMAS)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    folder = FOLDER / str(args.epochs)
    for name in args.data:
        if args.what == "train":
            train(name, args.seeds, args.epochs, args.gammas, folder)
        elif args.what == "luts":
            luts(name, args.nets, folder)
        else:
            verify(name, args.nets[0], folder)


if __name__ == "__main__":
    main()
