"""How many samples wrap or saturate, and where: the sign that calibration data did not cover what comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.fixed import Overflow, as_objects, outside, round_off
from hgq.ir.evaluate import batch_size, evaluate_nodes
from hgq.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Wraps:
    """Of `samples`, how many left the range at one quantizer.

    node: the quantizer's node. layer: the Keras layer, and which of its quantizers. overflow: what happened to them.
    elements: the elements concerned, in C order.
    """

    node: str
    layer: str
    overflow: Overflow
    count: int
    samples: int
    elements: tuple[int, ...]


def count_wraps(graph: Graph, inputs: Mapping[str, np.ndarray]) -> list[Wraps]:
    """One entry for each quantizer that any sample leaves; inputs are integers of the ports."""
    samples = len(next(iter(inputs.values())))
    counts: dict[str, int] = {}
    elements: dict[str, np.ndarray] = {}
    size = batch_size(graph)
    for start in range(0, samples, size):
        values = evaluate_nodes(graph, {name: x[start : start + size] for name, x in inputs.items()})
        for node in graph:
            if node.op != "quantize":
                continue
            types, source = node.attrs["types"], graph[node.args[0]].range
            live = types.width > 0
            x = values[node.args[0]]
            drop = np.where(live, source.frac - types.frac, 0)
            if source.bits + int(np.maximum(-drop, 0).max(initial=0)) > 60:
                x = as_objects(x)
            rounded = round_off(x, drop, node.attrs["rounding"])
            out = (((rounded < types.lo) | (rounded > types.hi)) & live).astype(bool)
            flat = out.reshape(len(x), -1)
            counts[node.name] = counts.get(node.name, 0) + int(flat.any(axis=1).sum())
            elements[node.name] = elements.get(node.name, np.zeros(flat.shape[1], bool)) | flat.any(axis=0)
    return [
        Wraps(
            name,
            _quantizer(graph, name),
            graph[name].attrs["overflow"],
            count,
            samples,
            tuple(np.flatnonzero(elements[name]).tolist()),
        )
        for name, count in counts.items()
        if count
    ]


def wraps_everywhere(
    graph: Graph, encoded: Mapping[str, np.ndarray], raw: list[np.ndarray], at_port: bool
) -> list[dict[str, Any]]:
    """Where samples leave a range, at the ports, where the host rounds, and inside; as ``report.json`` has it.

    Args:
        encoded: the samples as integers of the ports. raw: the same as real numbers, in the order of the ports.
        at_port: the ports have the types of the model's own quantizers, so what wraps there wraps in the model.
    """
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


def _quantizer(graph: Graph, name: str) -> str:
    """The layer, and whether it quantises what it reads or what it makes; one inside goes by the name of its node."""
    node = graph[name]
    inside = name.removeprefix(f"{node.origin}.").rstrip("0123456789")
    if inside != name and inside not in ("in", "out"):
        return f"{node.origin} {inside}"
    makes = any(graph[arg].origin == node.origin for arg in node.args)
    return f"{node.origin} {'output' if makes else 'input'}"
