"""Every engine that needs no compiler, on one model: Keras = IR = netlist, and the Verilog is written.

`check(spec)` gives an `Outcome`. A refusal is fine if it is a `ConversionError`, or a complaint of a layer, that names
what the user called it; whatever else is raised is a failure, as is any difference.
"""

from __future__ import annotations

import re
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from hgq.emit.hls4ml import PART
from hgq.emit.verilog import emit_verilog
from hgq.errors import ConversionError
from hgq.fixed import FixedType, encode
from hgq.frontend.model import read_model
from hgq.frontend.predict import keras_engine
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.ir.text import parse
from hgq.netlist.delays import delay_model
from hgq.netlist.evaluate import evaluate_design
from hgq.netlist.targets import target_of
from hgq.passes import shortest_clock
from hgq.plan import plan
from hgq.ports import Port
from hgq.report import layer_rows, totals
from hgq.report.timing import predictions
from hgq.verify import corner_vectors, first_difference, float32_certificate
from hgq.verify.proof import Layout
from tests.fuzz.model import Spec, build, data

if keras.backend.backend() == "numpy":
    # Keras' back end of NumPy predicts only, but op by op at a tenth of the cost of TensorFlow's. It rounds float64 to
    # float32 wherever two tensors meet, and lets JAX convolve: both can be taught to keep it.
    import jax
    from keras.src.backend.common import dtypes

    jax.config.update("jax_enable_x64", True)
    dtypes.BIT64_TO_BIT32_DTYPE |= {"float64": "float64", "int64": "int64"}

VECTORS = 96, 160
"""Samples and corner vectors for each model."""


@dataclass
class Outcome:
    """What became of one spec.

    kind: "equal", "refused", or what failed: "crash: TypeError in read", "difference: netlist" ...
    text: the message or the traceback.
    rtl: Verilog, ports, inputs and golden outputs of an equal one, for `hgq` engines that need a compiler.
    """

    kind: str
    text: str = ""
    rtl: Rtl | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.kind not in ("equal", "refused")


@dataclass
class Rtl:
    """A design as Verilog, with vectors. layout: what the proof is told, the latency among it."""

    top: str
    files: dict[str, str]
    graph: Graph
    inputs: list[Port]
    outputs: list[Port]
    layout: Layout
    x: dict[str, np.ndarray]
    golden: dict[str, np.ndarray]


def check(spec: Spec) -> Outcome:
    """Runs the levels on one spec."""
    stage = "build"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about models whose weights overflow float32
            model = build(spec)
            stage = "read"
            graph = read_model(model, FixedType.parse(spec["input_type"]) if spec["input_type"] else None)
            stage = "evaluate"
            x, raw = _vectors(spec, graph)
            golden = evaluate(graph, x)
            stage = "Keras"
            facts = {"ops": sorted({node.op for node in graph}), "nodes": len(graph.nodes)}
            found = _against_keras(model, graph, x, raw, golden, facts)
            if found is None:
                stage = "text"
                if str(parse(str(graph))) != str(graph):
                    return Outcome("difference: text of the IR", str(graph))
                stage = "plan"
                found, rtl = _design(spec, graph, x, golden, facts)
            return found or Outcome("equal", rtl=rtl, facts=facts)
    except Exception as error:  # noqa: BLE001 (whatever comes is what we look for)
        return _raised(spec, error, stage)


def _raised(spec: Spec, error: Exception, stage: str) -> Outcome:
    text = str(error)
    names = [node["name"] for node in spec["nodes"]] + [f"x{k}" for k in range(len(spec["inputs"]))]
    names += [node["config"]["layer"]["name"] for node in spec["nodes"] if "layer" in node.get("config", {})]
    # keras.ops have the names that Keras gives them.
    named = any(name in text for name in names) or re.search(r"^  - \w+ '\w+': ", text, re.MULTILINE) is not None
    if named and (isinstance(error, ConversionError) or (stage == "build" and type(error) in (ValueError, TypeError))):
        return Outcome("refused", text)
    return Outcome(f"crash: {type(error).__name__} in {stage}", traceback.format_exc(limit=-8))


def _vectors(spec: Spec, graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Integers of the ports: encoded data, some of it beyond what was calibrated, then corners; and the data itself."""
    samples, corners = VECTORS
    given = dict(zip([f"x{k}" for k in range(len(spec["inputs"]))], data(spec, "verify", samples, 1.5), strict=True))
    ports = {name: graph[name] for name in graph.inputs}
    types, overflows = {n: node.types for n, node in ports.items()}, {n: p.attrs["overflow"] for n, p in ports.items()}
    extra = corner_vectors(types, corners, overflows)
    x = {
        name: np.concatenate([encode(given[name], n.types, n.attrs["rounding"], n.attrs["overflow"]), extra[name]])
        for name, n in ports.items()
    }
    return x, None if spec["input_type"] else {name: given[name] for name in ports}


def _against_keras(
    model: keras.Model,
    graph: Graph,
    x: dict[str, np.ndarray],
    raw: dict[str, np.ndarray] | None,
    golden: dict[str, np.ndarray],
    facts: dict[str, Any],
) -> Outcome | None:
    certificate = float32_certificate(graph)
    facts["float"] = "float32" if certificate.exact32 else "float64" if certificate.exact64 else "wider"
    if not certificate.exact64:
        return None
    results = keras_engine(model, graph, raw=raw, float64=not certificate.exact32)(x)
    return _compare("Keras", graph, golden, results)


def _compare(
    engine: str, graph: Graph, golden: dict[str, np.ndarray], results: dict[str, np.ndarray]
) -> Outcome | None:
    for name in graph.outputs:
        found = first_difference(engine, graph[name].origin, graph[name].types, golden[name], results[name])
        if found is not None:
            return Outcome(f"difference: {engine}", str(found))
    return None


def _advice(text: str) -> dict[str, Any]:
    """What the fix in a message about time says."""
    if clock := re.search(r"a clock of at least ([\d.]+) ns", text):
        return {"clock_ns": float(clock[1])}
    if re.search(r"Fix: latency=\d+, or clock_ns=", text):
        return {"clock_ns": 1000.0, "latency": None}
    raise ValueError(f"a message about time without advice: {text}")


def _design(
    spec: Spec, graph: Graph, x: dict[str, np.ndarray], golden: dict[str, np.ndarray], facts: dict[str, Any]
) -> tuple[Outcome | None, Rtl | None]:
    given = spec["options"]
    options = {**given, "part": given["part"] or PART, "target": target_of(given["part"]).name}
    top = f"fuzz{spec['seed']}"
    try:
        combinational, pipeline = plan(graph, top, options)
        if options["latency"] is not None:
            options["clock_ns"] = shortest_clock(combinational, options["latency"], model=delay_model(options["part"]))
        design = pipeline(combinational)
    except ConversionError as error:  # too fast a clock, too few or too many cycles: do what the message advises
        options |= _advice(str(error))
        combinational, pipeline = plan(graph, top, options)
        design = pipeline(combinational)
    flat = {wire: x[name].reshape(len(x[name]), -1) for wire, name in zip(design.inputs, graph.inputs, strict=True)}
    made = evaluate_design(design, flat)
    wires = dict(zip(graph.outputs, design.outputs, strict=True))
    results = {name: made[wires[name]].reshape(golden[name].shape) for name in graph.outputs}
    found = _compare("netlist", graph, golden, results)
    if found is not None:
        return found, None
    totals(layer_rows(graph, design), design)
    predictions(design, delay_model(options["part"]))
    inputs = [Port(n, graph[n].types, graph[n].attrs["rounding"], graph[n].attrs["overflow"]) for n in graph.inputs]
    outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
    files = emit_verilog(design, inputs, outputs, clock_ns=options["clock_ns"], version="fuzz")
    facts |= {"latency": design.latency, "carry": bool(design.target.carry)}
    return None, Rtl(top, files, graph, inputs, outputs, Layout.of(design, inputs, outputs), x, golden)
