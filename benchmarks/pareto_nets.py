"""What a final net is worth, of either side: through `hgq.load`, our compiler and Yosys. For benchmarks/pareto.py.

Both sides' files are read by `hgq.load` (HGQ2's by the importer, bit for bit), become the same integer graph, and are
compiled with the same options: generic Verilog, effort 1, 5 ns. Accuracy is that of the integer model.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pareto_tasks import labels

import hgq
from hgq.emit.verilog import emit_verilog
from hgq.fixed import decode, encode
from hgq.frontend.model import read_model
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.netlist.cost import lut_estimate
from hgq.netlist.design import Design
from hgq.options import PART
from hgq.plan import plan
from hgq.ports import Port
from hgq.resource import model_ebops
from hgq.sim.yosys import synthesise

CLOCK_NS = 5.0
OPTIONS: dict[str, Any] = {"clock_ns": CLOCK_NS, "part": PART, "objective": "lut", "effort": 1}


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    """What the hardware answers to real inputs."""
    port, out = graph[graph.inputs[0]], graph.outputs[0]
    integers = encode(x, port.types, port.attrs["rounding"], port.attrs["overflow"])
    return decode(evaluate(graph, {port.name: integers})[out], graph[out].types.frac)


def score(graph: Graph, x: np.ndarray, y: np.ndarray) -> float:
    """The mean probability of the predicted class; of two that are equally large the first is predicted."""
    given = np.concatenate([outputs(graph, x[n : n + 4096]) for n in range(0, len(x), 4096)])
    return float(np.take_along_axis(y, given.argmax(-1)[:, None], 1).mean())


def estimate(design: Design) -> int:
    """LUTs of all instances, by our model of Yosys' mapping."""
    copies = Counter(one.module for one in design.instances)
    return sum(count * lut_estimate(design.modules[name]) for name, count in copies.items())


def measured(file: Path, data: dict[str, np.ndarray]) -> dict[str, Any]:
    """Accuracies, exact EBOPs, estimated LUTs and pipeline stages of a saved net."""
    model = hgq.load(file)
    graph = read_model(model)
    design, pipeline = plan(graph, "net", OPTIONS)
    found = {"ebops": model_ebops(model), "estimate": estimate(design), "cycles": pipeline(design).latency}
    for part in ("val", "test", "real"):
        if f"x_{part}" in data:
            found[part] = score(graph, data[f"x_{part}"], data[f"y_{part}"])
    return found


def mapped(file: Path, flatten: bool) -> int:
    """LUTs by Yosys for xcup, route-throughs included.

    Args:
        flatten: the whole pipelined design at once; otherwise module by module, times its instances.
    """
    graph = read_model(hgq.load(file))
    design, pipeline = plan(graph, "net", OPTIONS)
    design = pipeline(design)
    port = graph[graph.inputs[0]]
    inputs = [Port(port.name, port.types, port.attrs["rounding"], port.attrs["overflow"])]
    result = [Port.output(name, graph[name].types) for name in graph.outputs]
    texts = emit_verilog(design, inputs, result, clock_ns=CLOCK_NS, version="benchmark")
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for name, text in texts.items():
            if not name.startswith("sim/"):
                sources.append(Path(folder, Path(name).name))
                sources[-1].write_text(text)
        if flatten:
            return synthesise(sources, "net", "xcup").counts["luts"]
        copies = Counter(one.module for one in design.instances)
        return sum(n * synthesise(sources, name, "xcup").counts["luts"] for name, n in copies.items())


def refined(file: Path, out: Path, data: dict[str, np.ndarray], teacher: bool, lam: float, samples: int) -> float:
    """Refines a net on its own training data and labels, and saves it; CPU seconds."""
    from hgq.training import refine

    start = time.process_time()
    done = refine(hgq.load(file), data["x_train"], labels(data, teacher), lam=lam, samples=samples)
    print(done, flush=True)
    done.model.save(out)
    return round(time.process_time() - start, 1)


def check(file: Path, x: np.ndarray, y: np.ndarray) -> int:
    """In how many of the samples the integer model differs from what the package itself predicted."""
    return int((outputs(read_model(hgq.load(file)), x) != y).any(axis=1).sum())
