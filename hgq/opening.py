"""Reads the files of a project folder, which may have been edited, cut off or mixed up since they were written."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hgq.errors import HGQError, ProjectError
from hgq.ir.graph import Graph
from hgq.ir.text import parse
from hgq.netlist.targets import TARGETS
from hgq.ports import Port, bus_width, unpack

REPORT = {"model": str, "options": dict, "layers": list, "totals": dict, "certificate": dict}
"""What report.json must hold for the commands to work; everything else may be missing from an older one."""
PORTS = {"top": str, "latency": int, "inputs": list, "outputs": list}


def read_project(path: Path) -> tuple[Graph, dict[str, Any], dict[str, Any]]:
    """The integer graph, the report and the map of the ports in folder `path`, which fit each other.

    Raises:
        ProjectError: a file is missing, or damaged, or of another project; naming it.
    """
    texts = {name: _text(path, name) for name in ("model.ir", "report.json", "ports.json")}
    try:
        graph = parse(texts["model.ir"])
    except (HGQError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError, MemoryError) as why:
        raise ProjectError(path / "model.ir", f"it is damaged ({why or type(why).__name__})") from why
    report = _json(path / "report.json", texts["report.json"], REPORT)
    if not isinstance(report["certificate"].get("exact32"), bool):
        raise ProjectError(path / "report.json", "it is damaged (certificate.exact32 is missing)")
    options = report["options"]
    for name, kind in (("part", str), ("clock_ns", (int, float)), ("effort", int), ("objective", str)):
        if not isinstance(options.get(name), kind):
            raise ProjectError(path / "report.json", f"it is damaged (options.{name} is {options.get(name)!r})")
    if options.get("target", next(iter(TARGETS))) not in TARGETS:
        raise ProjectError(path / "report.json", f"it is damaged (options.target is {options['target']!r})")
    ports = _json(path / "ports.json", texts["ports.json"], PORTS)
    _check_ports(path / "ports.json", ports, graph)
    return graph, report, ports


def stored_vectors(file: Path, inputs: list[Port]) -> list[np.ndarray]:
    """The input vectors of tb/vectors.npz as integers of the ports.

    Raises:
        ProjectError: there are none, or not for these ports.
    """
    if not file.is_file():
        raise ProjectError(file, "there are no stored vectors", "pass data (hgq-simulate --data x.npy)")
    wanted = -(-bus_width(inputs) // 32)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            words = arrays["inputs"]
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, TypeError) as why:
        raise ProjectError(file, f"it is damaged ({why})") from why
    if words.dtype != np.uint32 or words.ndim != 2 or words.shape[1] != wanted or not len(words):
        raise ProjectError(
            file, f"its inputs are {words.dtype} of shape {words.shape}; these ports take uint32 of shape (n, {wanted})"
        )
    return unpack(inputs, words)


def _text(path: Path, name: str) -> str:
    if not (path / name).is_file():
        raise ProjectError(path, f"it has no {name}, so it is no project")
    try:
        return (path / name).read_text(encoding="utf-8")
    except UnicodeDecodeError as why:
        raise ProjectError(path / name, f"it is damaged ({why})") from why


def _json(file: Path, text: str, wanted: Mapping[str, type]) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as why:
        raise ProjectError(file, f"it is damaged ({why})") from why
    for key, kind in wanted.items():
        value = found.get(key) if isinstance(found, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ProjectError(file, f"it is damaged ({key} is {'missing' if value is None else repr(value)[:60]})")
    return found


def _check_ports(file: Path, ports: dict[str, Any], graph: Graph) -> None:
    """That the map is of this graph: the simulators believe it."""
    if not re.fullmatch(r"[A-Za-z]\w*", ports["top"], re.ASCII):
        raise ProjectError(file, f"it is damaged (top is {ports['top']!r}, no name of a module)")
    if ports["latency"] < 0:
        raise ProjectError(file, f"it is damaged (latency is {ports['latency']})")
    for way, names in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        try:
            found = [Port.from_json(port) for port in ports[way]]
        except (ValueError, KeyError, TypeError, AttributeError) as why:
            raise ProjectError(file, f"it is damaged ({way}: {why})") from why
        if [port.name for port in found] != list(names):
            raise ProjectError(
                file, f"its {way} are {[port.name for port in found]}, those of model.ir are {list(names)}"
            )
        for port in found:
            types = graph[port.name].types
            if port.types != (types if way == "inputs" else Port.output(port.name, types).types):
                raise ProjectError(file, f"the types of '{port.name}' are not those of model.ir")
