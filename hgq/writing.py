"""What a project folder holds: written from the integer graph; the files that tell what was done come last."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import hgq
from hgq.emit.constraints import constraints
from hgq.emit.hls4ml import emit_hls4ml
from hgq.emit.hls4ml_names import project_name
from hgq.emit.templates import template
from hgq.emit.testbench import save_vectors, testbench
from hgq.emit.verilog import emit_verilog
from hgq.fixed import FixedArray
from hgq.folder import Progress
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.names import identifier
from hgq.netlist.delays import delay_model
from hgq.netlist.design import Design
from hgq.passes import shortest_clock
from hgq.plan import plan
from hgq.ports import Port, bus_width, pack
from hgq.project import Project
from hgq.report import layer_rows, to_html, totals
from hgq.report.text import facts
from hgq.report.timing import predictions
from hgq.sim.hls4ml_types import check_types
from hgq.sim.toolchain import ABSENT, versions
from hgq.verify import float32_certificate
from hgq.verify.proof import Layout

STORED_VECTORS = 20_000
"""How many vectors the project's own test bench carries at most."""


def write_project(graph: Graph, name: str, options: dict[str, Any], folder: Path, progress: Progress) -> Project:
    """Everything that follows from the graph."""
    top = project_name(identifier(name, 64))  # it begins the name of every module
    inputs = [Port(n, graph[n].types, graph[n].attrs["rounding"], graph[n].attrs["overflow"]) for n in graph.inputs]
    outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
    progress("lower to adders and registers")
    combinational, pipeline = plan(graph, top, options)
    model = delay_model(options["part"])
    if options["latency"] is not None:
        progress(f"look for the shortest clock that {options['latency']} cycles allow")
        options["clock_ns"] = shortest_clock(combinational, options["latency"], model=model)
    design = pipeline(combinational)
    progress("write Verilog")
    verilog = emit_verilog(design, inputs, outputs, clock_ns=options["clock_ns"], version=hgq.__version__)
    sources = [f"rtl/{file}" for file in verilog]
    files = {f"rtl/{file}": text for file, text in verilog.items()}
    files |= testbench(top, sources, bus_width(inputs), bus_width(outputs), design.latency)
    files |= constraints(
        top, [s for s in sources if not s.startswith("rtl/sim/")], options["clock_ns"], options["part"]
    )
    files["model.ir"] = str(graph)
    ports = {
        "top": top,
        "latency": design.latency,
        "interval": 1,
        "in_width": bus_width(inputs),
        "out_width": bus_width(outputs),
        "inputs": _ports_json(inputs),
        "outputs": _ports_json(outputs),
        "wires": Layout.of(design, inputs, outputs).wires_json(),
    }
    files["ports.json"] = json.dumps(ports, indent=1) + "\n"
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    progress("write the hls4ml project")
    names = emit_hls4ml(
        graph,
        folder / "hls4ml",
        project_name=top,
        backend=options["backend"],
        part=options["part"],
        clock_ns=options["clock_ns"],
        io_type=options["io_type"],
    )
    check_types(folder / "hls4ml", graph, names)
    return Project(folder, graph, _report(graph, name, options, design), ports)


def _ports_json(ports: list[Port]) -> list[dict]:
    low, result = 0, []
    for port in ports:
        result.append(port.to_json(low))
        low += port.width
    return result


def _report(graph: Graph, name: str, options: dict[str, Any], design: Design) -> dict[str, Any]:
    certificate = float32_certificate(graph)
    layer, bits = certificate.widest
    rows = layer_rows(graph, design)
    return {
        "model": name,
        "options": options,
        "layers": rows,
        "totals": totals(rows, design),
        "timing": predictions(design, delay_model(options["part"])),
        "certificate": {"exact32": certificate.exact32, "widest": layer, "bits": bits, "layers": certificate.bits},
        "calibration": {"samples": 0, "note": ""},
        "wraps": [],
        "verification": {"data": 0, "corners": 0, "engines": {}},
        "histograms": _histograms(graph),
        "versions": {tool: text for tool, text in versions().items() if text != ABSENT},
    }


def _histograms(graph: Graph) -> dict[str, dict[str, int]]:
    """How many weights and activations have which width."""
    weights = [n.attrs["kernel_types"] for n in graph if "kernel_types" in n.attrs]
    activations = [n.attrs["types"] for n in graph if "types" in n.attrs]
    return {"weights": _count(weights), "activations": _count(activations)}


def _count(types: Iterable[FixedArray]) -> dict[str, int]:
    counts = Counter(int(w) for t in types for w in t.width.ravel())
    return {str(width): counts[width] for width in sorted(counts)}


def store_vectors(project: Project, encoded: dict[str, np.ndarray] | None) -> None:
    """tb/vectors.npz: the verification data, or corner vectors where there is none."""
    graph = project.graph
    x = encoded or project.corners(STORED_VECTORS // 10)
    x = {name: values[:STORED_VECTORS] for name, values in x.items()}
    golden = evaluate(graph, x)
    save_vectors(
        project.path,
        pack(project.inputs, [x[name] for name in graph.inputs]),
        pack(project.outputs, [golden[name] for name in graph.outputs]),
    )


def write_reports(project: Project) -> None:
    """The files that tell what was done."""
    report = project.report
    buses = [("in_data", p) for p in project.inputs] + [("out_data", p) for p in project.outputs]
    kinds = [(bus, {"name": p.name, "types": p.types, "width": p.width, "kinds": _kinds(p.types)}) for bus, p in buses]
    widths = bus_width(project.inputs), bus_width(project.outputs)
    readme = template("project.md.j2").render(
        report=report, facts=facts(report), top=project.top, in_width=widths[0], out_width=widths[1], ports=kinds
    )
    texts = {"report.json": json.dumps(report, indent=1) + "\n", "report.html": to_html(report), "README.md": readme}
    for name, text in texts.items():
        (project.path / name).write_text(text, encoding="utf-8")


def _kinds(types: FixedArray) -> str:
    names = sorted({str(t) for t in types if t})
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
