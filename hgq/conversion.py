"""`hgq.convert`: a Keras model becomes a verified project folder, complete or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import hgq
from hgq.data import tensors
from hgq.emit.constraints import PART_NAME, constraints
from hgq.emit.hls4ml import PART, emit_hls4ml
from hgq.emit.templates import template
from hgq.emit.testbench import save_vectors, testbench
from hgq.emit.verilog import emit_verilog
from hgq.errors import ConversionError, VerificationError
from hgq.fixed import FixedArray, FixedType, outside
from hgq.frontend.load import load_model
from hgq.frontend.model import input_shapes, read_model
from hgq.frontend.predict import float32_error, keras_engine
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.lower.cmvm.options import MAX_EFFORT, OBJECTIVES
from hgq.names import identifier
from hgq.netlist.delays import delay_model
from hgq.netlist.design import Design
from hgq.netlist.targets import target_of
from hgq.passes import shortest_clock
from hgq.plan import plan
from hgq.ports import Port, bus_width, pack
from hgq.project import ENGINES, Progress, Project
from hgq.report import layer_rows, to_html, totals
from hgq.report.text import facts
from hgq.report.timing import predictions
from hgq.sim.hls4ml_types import check_types
from hgq.sim.toolchain import ABSENT, missing, versions
from hgq.training import calibrate as find_ranges
from hgq.training import freeze_tables
from hgq.verify import corner_vectors, count_wraps, float32_certificate

BACKENDS = ("Vitis", "Vivado")
DEFAULT_CLOCK_NS = 5.0
STORED_VECTORS = 20_000
"""How many vectors the project's own test bench carries at most."""


def convert(
    model: keras.Model | str | Path,
    out: str | Path,
    *,
    calibrate: Any = None,
    verify: Any = None,
    data: Any = None,
    clock_ns: float | None = None,
    latency: int | None = None,
    backend: str = "Vitis",
    part: str | None = None,
    input_type: str | None = None,
    effort: int = 1,
    objective: str = "lut",
    corners: int | None = None,
    progress: Progress = lambda step: None,
) -> Project:
    """Makes an hls4ml project and Verilog of a model, and verifies that every engine computes the same integers.

    The model itself stays as it is: calibration changes a copy, which is saved in the project. The folder is written
    under another name and renamed when it is complete; an older project of that name is replaced then.

    Args:
        model: Sequential or functional model of hgq.layers, or the path of a .keras file.
        out: folder to make.
        calibrate: training data that the tracked ranges of activations are found on. Not needed if training saw data.
        verify: data to compare all engines on, which calibration must not have seen. None: corner vectors only.
            False: no verification at all, and the report says so.
        data: one set in place of both; every second sample calibrates, the others verify.
        clock_ns: clock period in ns that registers are placed for, by the delay model of the part; 5 by default. The
            pipeline has the fewest cycles that it allows, and of these the fewest register bits.
        latency: clock cycles in all, in place of `clock_ns`: the period is then the shortest that so many cycles allow.
        backend: "Vitis" or "Vivado": the HLS compiler that the C++ is for.
        part: FPGA part for the vendor's Tcl, as "xcvu13p-flga2577-2-e". The Verilog of a part that SILICON in
            hgq/netlist/targets.py knows (Xilinx 7 series, UltraScale, UltraScale+) adds three operands with one LUT a
            bit, as primitives of these families; without a part, or for another one, it is generic.
        input_type: type of the input port, as in "s16f8" (signed, 16 bits, 8 of them fractional); the hardware then
            quantises. By default the port has the type of the quantizer that reads it.
        effort: how hard to look for few LUTs, 0 to 6: 1 takes milliseconds for a layer, 2 seconds, each further level
            4 times as long; 0 shares nothing. The same input and options always give the same Verilog.
        objective: what is made small: "lut", or "adders" (their number, whatever their width).
        corners: number of corner vectors; by default 100,000, fewer for very wide inputs.
        progress: told each step as it begins.

    Raises:
        ConversionError: the model, an option or the folder; lists every reason.
        ValueError: data of the wrong shape or kind.
        VerificationError: two engines differ. What was made is kept beside `out` as ``out.failed``.
        ToolError: a tool is missing or failed.
    """
    options = _options(clock_ns, latency, backend, part, input_type, effort, objective)
    target = _target(Path(out))
    if verify is not False:
        _need_tools()
    progress("load the model")
    source = load_model(Path(model)) if isinstance(model, str | Path) else model
    shapes = input_shapes(source)
    calibration, verification, note = _data(calibrate, verify, data, shapes)
    work = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        copy = _copy(source, work / "model.keras")
        if calibration is not None:
            progress(f"calibrate on {len(calibration[0]):,} samples")
            find_ranges(copy, _as_given(calibration, shapes))
            copy.save(work / "model.keras")
        elif freeze_tables(copy):  # training leaves functions without their tables
            copy.save(work / "model.keras")
        progress("read the layers")
        graph = read_model(copy, FixedType.parse(input_type) if input_type else None)
        project = _write(graph, source.name, options, work, progress)
        project.report["calibration"] = {"samples": len(calibration[0]) if calibration else 0, "note": note}
        encoded = None
        if verification is not None:
            encoded = dict(zip(graph.inputs, project.encode(_as_given(verification, shapes)), strict=True))
            project.report["wraps"] = _wraps(graph, encoded, verification, input_type is None)
        _store_vectors(project, encoded)
        if verify is not False:
            raw = dict(zip(graph.inputs, verification, strict=True)) if verification and not input_type else None
            certificate = project.report["certificate"]
            engine = keras_engine(copy, graph, raw=raw, float64=not certificate["exact32"])
            try:
                project.report["verification"] = project.verify(
                    encoded, ENGINES, corners=corners, keras_engine=engine, progress=progress
                )
            except VerificationError as different:
                failed = target.with_name(f"{target.name}.failed")
                _finish(project)
                _replace(work, failed)
                raise VerificationError(f"{different}\nWhat was made is kept in {failed}.") from different
            if not certificate["exact32"]:
                certificate["float32_off"] = float32_error(copy, graph, encoded or _corners(project, STORED_VECTORS))
        _finish(project)
        _replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    project.path = target
    return project


def _options(
    clock_ns: float | None,
    latency: int | None,
    backend: str,
    part: str | None,
    input_type: str | None,
    effort: int,
    objective: str,
) -> dict[str, Any]:
    problems = []
    if clock_ns is not None and latency is not None:
        problems.append(
            f"  - clock_ns={clock_ns} and latency={latency}: each follows from the other\n      Fix: give one of them"
        )
    if latency is not None and (not isinstance(latency, int) or isinstance(latency, bool) or latency < 0):
        problems.append(f"  - latency={latency!r}: clock cycles are a whole number\n      Fix: latency=5")
    clock_ns = DEFAULT_CLOCK_NS if clock_ns is None else clock_ns
    if not (isinstance(clock_ns, int | float) and math.isfinite(clock_ns) and clock_ns > 0):
        problems.append(f"  - clock_ns={clock_ns}: a clock period in ns is a number above 0\n      Fix: clock_ns=5")
    if backend not in BACKENDS:
        problems.append(f"  - backend={backend!r} is not supported\n      Fix: choose one of {', '.join(BACKENDS)}")
    if input_type is not None:
        try:
            FixedType.parse(input_type)
        except (ValueError, TypeError) as reason:
            problems.append(f"  - input_type: {reason}\n      Fix: input_type='s16f8'")
    if not (isinstance(effort, int) and not isinstance(effort, bool) and 0 <= effort <= MAX_EFFORT):
        problems.append(
            f"  - effort={effort!r}: how hard to look for few LUTs is an integer from 0 to {MAX_EFFORT}\n"
            "      Fix: effort=1; 2 takes seconds for a layer, each further level 4 times as long"
        )
    if objective not in OBJECTIVES:
        problems.append(
            f"  - objective={objective!r} is nothing that can be made small\n"
            f"      Fix: choose one of {', '.join(OBJECTIVES)}"
        )
    if part is not None and not re.fullmatch(PART_NAME, part):
        problems.append(f"  - part={part!r} is no FPGA part\n      Fix: write it as the vendor does, e.g. {PART!r}")
    if problems:
        raise ConversionError(problems)
    return {
        "clock_ns": float(clock_ns),
        "latency": latency,
        "backend": backend,
        "part": part or PART,
        "target": target_of(part).name,
        "input_type": input_type,
        "effort": effort,
        "objective": objective,
    }


def _target(out: Path) -> Path:
    """The folder to make, if it may be made."""
    out = out.absolute()
    if out.is_file():
        raise ConversionError([f"  - {out}: this is a file, not a folder\n      Fix: name another folder"])
    if out.is_dir() and any(out.iterdir()) and not (out / "model.ir").is_file():
        raise ConversionError(
            [
                f"  - {out}: the folder exists and holds no hgq project, so it is not replaced\n"
                "      Fix: name another folder, or remove this one"
            ]
        )
    parent = next(folder for folder in out.parents if folder.exists())
    if not os.access(parent, os.W_OK) or not parent.is_dir():
        raise ConversionError([f"  - {parent}: no permission to write there\n      Fix: name another folder"])
    return out


def _need_tools() -> None:
    absent = missing()
    if absent:
        raise ConversionError(
            [
                f"  - verification needs {tool}\n      Fix: install it, or convert without verification"
                for tool in absent
            ]
        )


def _data(
    calibrate: Any, verify: Any, data: Any, shapes: dict[str, tuple[int, ...]]
) -> tuple[list[np.ndarray] | None, list[np.ndarray] | None, str]:
    """Calibration data, verification data, and a sentence about where they come from."""
    if data is not None:
        if calibrate is not None or (verify is not None and verify is not False):
            raise ValueError("data= stands in place of calibrate= and verify=; give either it or them")
        both = tensors(data, shapes, "data")
        if len(both[0]) < 2:
            raise ValueError("data= is split in two, so it needs at least 2 samples")
        note = "data: every second sample calibrated, the others verified"
        return [x[0::2] for x in both], None if verify is False else [x[1::2] for x in both], note
    found = tensors(calibrate, shapes, "calibration data") if calibrate is not None else None
    if verify is None or verify is False:
        return found, None, ""
    return found, tensors(verify, shapes, "verification data"), ""


def _as_given(arrays: list[np.ndarray], shapes: dict[str, tuple[int, ...]]) -> Any:
    return arrays[0] if len(shapes) == 1 else dict(zip(shapes, arrays, strict=True))


def _copy(model: keras.Model, file: Path) -> keras.Model:
    """The model as it comes back from a file: what is converted is what is saved."""
    model.save(file)
    return load_model(file)


def _write(graph: Graph, name: str, options: dict[str, Any], folder: Path, progress: Progress) -> Project:
    """Everything that follows from the graph."""
    top = identifier(name)
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


def _wraps(graph: Graph, encoded: dict[str, np.ndarray], raw: list[np.ndarray], at_port: bool) -> list[dict[str, Any]]:
    """Where verification samples leave a range: at the ports, where the host rounds, and inside."""
    found = []
    for name, x in zip(graph.inputs, raw, strict=True):
        node = graph[name]
        out = outside(x, node.types, node.attrs["rounding"]).reshape(len(x), -1)
        if out.any():
            where = np.flatnonzero(out.any(axis=0)).tolist()
            how = f"{node.attrs['overflow']}{'' if at_port else ', at the port'}"
            samples = int(out.any(axis=1).sum())
            found.append(
                {"layer": f"input {name}", "overflow": how, "count": samples, "samples": len(x), "elements": where}
            )
    for wrap in count_wraps(graph, encoded):
        found.append(
            {
                "layer": wrap.layer,
                "overflow": str(wrap.overflow),
                "count": wrap.count,
                "samples": wrap.samples,
                "elements": list(wrap.elements),
            }
        )
    return found


def _store_vectors(project: Project, encoded: dict[str, np.ndarray] | None) -> None:
    """tb/vectors.npz: the verification data, or corner vectors where there is none."""
    graph = project.graph
    x = encoded or _corners(project, STORED_VECTORS // 10)
    x = {name: values[:STORED_VECTORS] for name, values in x.items()}
    golden = evaluate(graph, x)
    save_vectors(
        project.path,
        pack(project.inputs, [x[name] for name in graph.inputs]),
        pack(project.outputs, [golden[name] for name in graph.outputs]),
    )


def _corners(project: Project, count: int) -> dict[str, np.ndarray]:
    return corner_vectors({port.name: port.types for port in project.inputs}, count)


def _finish(project: Project) -> None:
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


def _replace(made: Path, target: Path) -> None:
    """Gives the finished folder its name; an older one of that name goes only once the new one is there."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)
