"""`Project.trace`: one sample through every engine of a project folder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hgq.disk import whole
from hgq.errors import HGQError
from hgq.fixed import decode
from hgq.folder import Progress
from hgq.plan import plan
from hgq.ports import pack
from hgq.project import Project
from hgq.sim.csim_probe import probe_csim
from hgq.sim.waveform import write_waveform
from hgq.verify import wraps_everywhere
from hgq.verify.localise import probe_rtl
from hgq.verify.trace import trace


def trace_sample(
    project: Project, sample: int, data: Any = None, *, progress: Progress = lambda _: None
) -> dict[str, Any]:
    """Writes ``trace/trace.json`` and ``trace/sample_N.vcd`` into the project, and returns what the former holds.

    Args:
        sample: which one, counted from 0.
        data: real numbers for the input ports; without them the vectors of the conversion.

    Returns:
        ``layers`` as `hgq.verify.trace.trace` has them; ``ports``: samples outside the range of a port (only where real
        numbers were given); ``not_seen``: engines that could not be asked, and why.

    Raises:
        ValueError: no such sample.
        ToolError: Verilator or g++ is missing.
    """
    graph = project.graph
    encoded = project.encode(data) if data is not None else project.stored()
    samples = len(encoded[0])
    if not 0 <= sample < samples:
        raise ValueError(f"sample {sample}: there are {samples:,}, counted from 0; give one of 0 to {samples - 1}")
    vectors = project.named(encoded)
    one = {name: x[sample : sample + 1] for name, x in vectors.items()}
    engines: dict[str, dict[str, np.ndarray]] = {}
    not_seen: dict[str, str] = {}
    if project.beyond_keras:
        not_seen["Keras"] = project.beyond_keras
    else:
        progress("Keras, layer by layer")
        engines["Keras"] = project.keras_layers(one)
    progress("C simulation, layer by layer")
    try:
        engines["C simulation"] = probe_csim(project.path / "hls4ml", graph, one)
        if not engines["C simulation"]:
            del engines["C simulation"]
            not_seen["C simulation"] = "streams show no layer; hgq-simulate --engine csim compares what comes out"
    except HGQError as why:
        not_seen["C simulation"] = str(why).splitlines()[0]
    progress("Verilog, layer by layer")
    combinational, pipeline = plan(graph, project.top, project.report["options"])
    try:
        probed = probe_rtl(graph, pipeline, combinational, project.path / "rtl", project.inputs, one)
        engines["Verilog"] = {name: decode(got, types.frac) for name, (types, got) in probed.items()}
    except HGQError as why:
        not_seen["Verilog"] = str(why).splitlines()[0]
    progress("waveform")
    folder = project.path / "trace"
    folder.mkdir(exist_ok=True)
    wave = folder / f"sample_{sample}.vcd"
    with whole(wave) as made:
        write_waveform(project.rtl_design(), pack(project.inputs, [one[name] for name in graph.inputs])[0], made)
    progress("ranges")
    rows = trace(graph, one, engines, vectors)
    ports = []
    if data is not None:
        inputs = project.real(data)
        ports = [row for row in wraps_everywhere(graph, vectors, inputs, True) if row["layer"].startswith("input ")]
    found = {
        "sample": sample,
        "samples": samples,
        "engines": list(engines),
        "not_seen": not_seen,
        "ports": ports,
        "waveform": wave.name,
        "layers": rows,
    }
    with whole(folder / "trace.json") as made:
        made.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found
