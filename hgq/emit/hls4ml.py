"""Writes the hls4ml project of an integer graph: C++ for Vitis or Vivado HLS, with every type stated by us.

hls4ml gets a finished list of layers (no Keras model) and may infer nothing: after it has built its own graph, that is
compared with the plan, so that no pass of a later version can change a type or drop a layer unnoticed.
hls4ml is imported inside the functions only: it costs most of a second.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hgq.emit.hls4ml_names import check_project_name
from hgq.emit.hls4ml_plan import Plan, PlannedLayer, plan
from hgq.errors import IRError
from hgq.fixed import FixedType
from hgq.ir import Graph

BACKENDS = ("Vitis", "Vivado")
IO_TYPES = ("io_parallel", "io_stream")
PART = "xcvu13p-flga2577-2-e"

logger = logging.getLogger(__name__)

_BUILT_AS = {"InputLayer": "Input", "Conv1D": "PointwiseConv1D"}
"""Planned class -> the one that hls4ml makes of it; the convolutions planned here have one tap."""


def emit_hls4ml(
    graph: Graph,
    out: Path,
    *,
    project_name: str = "myproject",
    backend: str = "Vitis",
    part: str = PART,
    clock_ns: float = 5.0,
    io_type: str = "io_parallel",
) -> dict[str, str]:
    """Writes the project of `graph` into the folder `out`; returns node name -> name of its hls4ml layer.

    Args:
        project_name: name of the top function in C++, a C++ identifier.
        backend: "Vitis" or "Vivado".
        part: FPGA part that the project's Tcl names.
        clock_ns: clock period in ns that the project's Tcl asks for.
        io_type: "io_parallel": arrays, a new input in every clock cycle. "io_stream": AXI streams of packets that hold
            the last axis, a packet in every clock cycle; types may differ from channel to channel only.

    Raises:
        ConversionError: ops, widths or constants that hls4ml cannot express; names the layers.
        ValueError: a bad option.
        IRError: hls4ml's graph is not the planned one (an hls4ml that hgq was not tested with).
    """
    check_project_name(project_name)
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is not supported; use one of {', '.join(BACKENDS)}")
    if io_type not in IO_TYPES:
        raise ValueError(f"io_type={io_type!r} is not supported; use one of {', '.join(IO_TYPES)}")
    if not clock_ns > 0:
        raise ValueError(f"clock_ns={clock_ns} is no clock period; use a positive number of ns, as 5")
    with _quiet():
        todo = plan(graph, {project_name.lower(), *_words_of_hls4ml()}, io_type)
        model = _model_graph(todo, out, project_name, backend, part, clock_ns, io_type)
        _check_unchanged(todo, model)
        _write(model, out)
    return todo.names


def layer_names(graph: Graph, project_name: str) -> dict[str, str]:
    """Node name -> name of its hls4ml layer in the project of arrays that `emit_hls4ml` wrote under `project_name`."""
    with _quiet():
        return plan(graph, {project_name.lower(), *_words_of_hls4ml()}).names


def _words_of_hls4ml() -> set[str]:
    """Every lower-case word in the files that hls4ml fills in: a port of that name could clash with a variable."""
    import hls4ml

    folder = Path(hls4ml.__file__).parent / "templates" / "vivado"
    files = [folder / "myproject_test.cpp", folder / "myproject_bridge.cpp", *(folder / "firmware").iterdir()]
    return {word for file in files for word in re.findall(r"[a-z_]\w*", file.read_text(encoding="utf-8"))}


def _model_graph(
    todo: Plan, out: Path, project_name: str, backend: str, part: str, clock_ns: float, io_type: str
) -> Any:
    from hls4ml.model import ModelGraph
    from hls4ml.model.types import Source
    from hls4ml.utils.config import create_config

    from hgq.emit.hls4ml_layers import FLOW

    config = create_config(str(out), project_name, backend, part=part, clock_period=clock_ns, io_type=io_type)
    precision = {
        layer.name: {"Precision": {role: _precision(kind) for role, kind in layer.types.items()}}
        for layer in todo.layers
    }
    model = {"Precision": "fixed<16,6>", "ReuseFactor": 1, "Strategy": "Latency", "BitExact": False}
    config["HLSConfig"] = {"Model": model, "LayerName": precision, "Flows": [FLOW]}
    config["InputData"] = config["OutputPredictions"] = None
    config["Stamp"] = "csim"  # hls4ml would draw a random one; same graph, same bytes
    layers = [
        copy.deepcopy(layer.attrs) | ({"code": Source(layer.code)} if layer.code else {}) for layer in todo.layers
    ]
    return ModelGraph.from_layer_list(config, layers, list(todo.inputs), list(todo.outputs))


def _precision(kind: FixedType) -> str:
    """hls4ml's text for a type that neither rounds nor saturates. Its integer bits include the sign."""
    return f"{'' if kind.signed else 'u'}fixed<{kind.width},{kind.width - kind.frac}>"


def _check_unchanged(todo: Plan, model: Any) -> None:
    """Raises IRError unless hls4ml's graph has exactly the planned layers, links, types, constants and code."""
    found = {node.name: node for node in model.get_layers()}
    planned = [layer.name for layer in todo.layers]
    if list(found) != planned:
        raise IRError(f"hls4ml changed the layers: planned {planned}, got {list(found)}")
    for what, names, got in (("inputs", todo.inputs, model.inputs), ("outputs", todo.outputs, model.outputs)):
        if list(got) != names:
            raise IRError(f"hls4ml changed the {what}: planned {names}, got {list(got)}")
    for layer in todo.layers:
        _check_layer(layer, found[layer.name])


def _check_layer(layer: PlannedLayer, node: Any) -> None:
    kind = layer.attrs["class_name"]
    _equal(layer, "class", _BUILT_AS.get(kind, kind), node.class_name)
    if layer.attrs["inputs"]:
        _equal(layer, "inputs", layer.attrs["inputs"], list(node.inputs))
    if layer.code:
        _equal(layer, "code", [layer.code], [str(code) for code in node.code.values()])
    for role, planned in layer.types.items():
        stated = [node.get_output_variable().type if role == "result" else node.types[f"{role}_t"]]
        stated += [node.get_weights(role).type] if role in node.weights else []
        for kind in stated:
            _equal(layer, f"type of {role}", planned.to_ap_fixed(), _full_name(kind.precision))
    for role, values in layer.constants.items():
        if not np.array_equal(values, node.get_weights(role).data):
            raise IRError(f"hls4ml changed the {role} of layer {layer.name}")


def _full_name(precision: Any) -> str:
    """ap_fixed<...> of an hls4ml precision, with nothing left to default."""
    sign = "" if precision.signed else "u"
    modes = f"AP_{precision.rounding_mode},AP_{precision.saturation_mode},{precision.saturation_bits}"
    return f"ap_{sign}fixed<{precision.width},{precision.integer},{modes}>"


def _equal(layer: PlannedLayer, what: str, planned: Any, got: Any) -> None:
    if planned != got:
        raise IRError(f"hls4ml changed the {what} of layer {layer.name}: planned {planned}, got {got}")


def _write(model: Any, out: Path) -> None:
    """hls4ml's writer, without what depends on the clock, the machine or on Keras."""
    import yaml

    out.mkdir(parents=True, exist_ok=True)
    base = type(model.config.backend.writer)

    class Writer(base):  # type: ignore[valid-type,misc]
        def write_yml(self, _model: Any) -> None:
            """Left out: hls4ml's imports Keras and writes the path of the folder."""

    Writer().write_hls(model)
    settings = model.config.config | {"OutputDir": "."}
    (out / "hls4ml_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What hls4ml prints and warns goes to our log instead of the user's terminal."""
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(said):
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for line in (*said.getvalue().splitlines(), *(str(warning.message) for warning in caught)):
                logger.info("hls4ml: %s", line)
