"""What refinement after training gains, on networks trained here with default quantizers and a ramp of EBOPs.

    python benchmarks/refine.py train --networks jets mnist digits mnist-conv --seeds 0 1 2
    python benchmarks/refine.py measure --networks ...     fewest LUTs at the same unseen loss, Yosys, test data
    python benchmarks/refine.py overfit --seeds 0          MNIST on 2,048 samples, with and without the rules

Networks are kept in runs/benchmarks/refine, results in results.jsonl there. Imported HGQ2 networks are refined by
benchmarks/pareto.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pareto_tasks import ROOT

sys.path.append(str(ROOT / "examples"))

import datasets

from hgq.emit.verilog import emit_verilog
from hgq.frontend.model import read_model
from hgq.layers import QConv2D, QDense
from hgq.netlist.cost import lut_estimate
from hgq.options import PART
from hgq.plan import plan
from hgq.ports import Port
from hgq.sim.yosys import synthesise
from hgq.training import BetaSchedule, calibrate, refine

FOLDER = ROOT / "runs/benchmarks/refine"


@dataclass(frozen=True)
class Network:
    """data: name of a loader. beta: at the end of its ramp. shape: of a sample, where the layers want another."""

    data: str
    layers: Callable[[], list[Any]]
    beta: float
    epochs: int
    batch: int
    shape: tuple[int, ...] = ()


def mlp(*units: int) -> Callable[[], list[Any]]:
    return lambda: [*(QDense(n, activation="relu") for n in units[:-1]), QDense(units[-1])]


def conv() -> list[Any]:
    return [
        QConv2D(6, 3, strides=2, activation="relu"),
        QConv2D(10, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        QDense(10),
    ]


NETWORKS = {
    "jets": Network("jets", mlp(64, 32, 32, 5), 1.2e-4, 100, 1024),
    "jets-large": Network("jets", mlp(64, 32, 32, 5), 3e-5, 100, 1024),
    "digits": Network("digits", mlp(32, 10), 3e-5, 300, 128),
    "mnist": Network("mnist", mlp(64, 32, 10), 2e-5, 30, 512),
    "mnist-conv": Network("mnist", conv, 1e-5, 15, 512, (14, 14, 1)),
}


def samples(network: Network) -> datasets.Data:
    data = getattr(datasets, network.data)()
    if network.shape:
        parts = {n: getattr(data, n).reshape(-1, *network.shape) for n in ("x_train", "x_val", "x_test")}
        data = datasets.replace(data, **parts)
    return data


def trained(name: str, seed: int) -> keras.Model:
    """The network as training left it, from its file where there is one."""
    import hgq

    path = FOLDER / f"{name}-{seed}.keras"
    network = NETWORKS[name]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        data = samples(network)
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input(data.x_train.shape[1:]), *network.layers()])
        soft = data.y_train.ndim == 2
        loss = (keras.losses.CategoricalCrossentropy if soft else keras.losses.SparseCategoricalCrossentropy)(True)
        steps = network.epochs * (len(data.x_train) // network.batch)
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)), loss)
        ramp = BetaSchedule(network.beta / 30, network.beta, cost="ebops")
        history = model.fit(
            data.x_train, data.y_train, batch_size=network.batch, epochs=network.epochs, verbose=0, callbacks=[ramp]
        )
        calibrate(model, data.x_train)
        model.save(path)
        print(name, seed, history.history["ebops"][-1], accuracy(model, data.x_val, data.y_val), flush=True)
    return hgq.load(path)


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    y = y if y.ndim == 1 else y.argmax(axis=-1)
    return float((model.predict(x, batch_size=4096, verbose=0).argmax(axis=-1) == y).mean())


def luts(model: keras.Model, name: str) -> dict[str, int]:
    """LUTs of the pipeline at 5 ns, generic Verilog, effort 1: our estimate, and Yosys' for xcup module by module."""
    graph = read_model(model)
    design, pipeline = plan(graph, name, {"clock_ns": 5.0, "part": PART, "objective": "lut", "effort": 1})
    design = pipeline(design)
    port = graph[graph.inputs[0]]
    inputs = [Port(port.name, port.types, port.attrs["rounding"], port.attrs["overflow"])]
    outputs = [Port.output(out, graph[out].types) for out in graph.outputs]
    texts = emit_verilog(design, inputs, outputs, clock_ns=5.0, version="benchmark")
    used = [one.module for one in design.instances]
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for path, text in texts.items():
            if not path.startswith("sim/"):
                sources.append(Path(folder, Path(path).name))
                sources[-1].write_text(text)
        each = {module: synthesise(sources, module, "xcup").counts["luts"] for module in set(used)}
    return {
        "estimate": sum(lut_estimate(design.modules[module]) for module in used),
        "yosys": sum(each[module] for module in used),
    }


def note(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
    with (FOLDER / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def scores(model: keras.Model, data: datasets.Data) -> dict[str, float]:
    """Accuracy; of jets by the teacher's class on validation data, by the true one on the test data (600 real jets)."""
    return {part: accuracy(model, getattr(data, f"x_{part}"), getattr(data, f"y_{part}")) for part in ("val", "test")}


def measure(name: str, seed: int, rounds: int) -> None:
    data, model = samples(NETWORKS[name]), trained(name, seed)
    start = time.process_time()
    found = refine(model, data.x_train, data.y_train, seed=seed, rounds=rounds, verbose=True)
    row = {"network": name, "seed": seed, "rounds": rounds, "cpu": round(time.process_time() - start, 1)}
    row |= {"losses": [found.losses[0][2], found.losses[1][2]], "kept": dict(found.kept)}
    for when, one in (("before", model), ("after", found.model)):
        row[when] = scores(one, data) | luts(one, "net")
    note(row)


def overfit(seed: int, count: int = 2048) -> None:
    """MNIST, few samples, class numbers: the test that the third part of the data is not fitted as well."""
    data, model = samples(NETWORKS["mnist"]), trained("mnist", seed)
    rules = {
        "as it is": {},
        "no held-out test": {"accept": False},
        "no held-out test, no margin": {"accept": False, "caution": 0.0},
    }
    for label, rule in rules.items():
        found = refine(model, data.x_train[:count], data.y_train[:count], lam=NETWORKS["mnist"].beta, seed=seed, **rule)
        row = {"overfit": label, "seed": seed, "luts": found.luts, "losses": found.losses, "trail": found.trail}
        note(row | {"before": scores(model, data), "after": scores(found.model, data)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "measure", "overfit"))
    parser.add_argument("--networks", nargs="+", default=["jets", "digits", "mnist", "mnist-conv"], choices=NETWORKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    for seed in args.seeds:
        for name in args.networks if args.what != "overfit" else ["mnist"]:
            if args.what == "overfit":
                overfit(seed)
            elif args.what == "measure":
                measure(name, seed, args.rounds)
            else:
                trained(name, seed)
