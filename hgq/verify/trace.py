"""One sample, layer by layer: what every engine computes, and how much of each type's range the data use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hgq.fixed import decode
from hgq.ir.evaluate import batch_size, evaluate_nodes
from hgq.ir.graph import Graph, Node
from hgq.verify.wraps import count_wraps


def trace(
    graph: Graph,
    one: Mapping[str, np.ndarray],
    engines: Mapping[str, Mapping[str, np.ndarray]],
    data: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """One entry for each node of the graph, in its order.

    Args:
        one: integers of the input ports for the sample.
        engines: real values by engine and node, shape ``(1, *node.shape)``; what an engine does not show is absent.
        data: integers of the input ports for the samples whose ranges are counted.

    Returns:
        Dicts with ``layer``, ``node``, ``op``, ``types``, ``golden`` and, for each engine, its values (real numbers);
        ``difference``: the first engine and element that is not the golden one, or None; ``used``, ``allotted``: lowest
        and highest real value in the data, and of the types; ``spare_bits``: how many high bits of its widest use no
        element needs; ``overflow``: for quantizers, how ("WRAP", "SAT" ...), how many samples of the data, and which
        elements of this sample.
    """
    golden = evaluate_nodes(graph, one)
    used = _used(graph, data)
    many = {wrap.node: wrap for wrap in count_wraps(graph, data)}
    here = {wrap.node: wrap for wrap in count_wraps(graph, one)}
    rows = []
    for node in graph:
        values = {"golden": decode(golden[node.name], node.range.frac)}
        values |= {engine: found[node.name] for engine, found in engines.items() if node.name in found}
        row: dict[str, Any] = {
            "layer": node.origin,
            "node": node.name,
            "op": node.op,
            "types": _types(node),
            "shape": list(node.shape),
        }
        row |= {engine: np.asarray(value, np.float64).ravel().tolist() for engine, value in values.items()}
        row["difference"] = _difference(values)
        row |= _ranges(node, *used[node.name])
        if "overflow" in node.attrs:
            count = many[node.name].count if node.name in many else 0
            elements = list(here[node.name].elements) if node.name in here else []
            row["overflow"] = {"how": str(node.attrs["overflow"]), "samples": count, "elements": elements}
        rows.append(row)
    return rows


def first_difference_of(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """The first difference on the way through the graph, in words."""
    for row in rows:
        found = row["difference"]
        if found is not None:
            index = "".join(f"[{i}]" for i in found["element"])
            return (
                f"{found['engine']} is the first to differ, at layer '{row['layer']}' ({row['op']}), element {index}: "
                f"expected {found['expected']:g}, got {found['got']:g}"
            )
    return None


def _difference(values: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    golden = values["golden"]
    for engine, got in values.items():
        wrong = np.argwhere(np.asarray(got != golden))
        if len(wrong):
            where = tuple(int(i) for i in wrong[0])
            expected = float(golden[where])
            return {"engine": engine, "element": list(where[1:]), "expected": expected, "got": float(got[where])}
    return None


def _used(graph: Graph, data: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lowest and highest integer of each element of each node."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    size, samples = batch_size(graph), len(next(iter(data.values())))
    for start in range(0, samples, size):
        values = evaluate_nodes(graph, {name: x[start : start + size] for name, x in data.items()})
        for name, x in values.items():
            lo, hi = x.min(axis=0), x.max(axis=0)
            if name in found:
                lo, hi = np.minimum(lo, found[name][0]), np.maximum(hi, found[name][1])
            found[name] = lo, hi
    return found


def _ranges(node: Node, lo: np.ndarray, hi: np.ndarray) -> dict[str, Any]:
    real = [decode(one[None], node.range.frac) for one in (lo, hi)]
    allotted = [decode(one[None], node.types.frac) for one in (node.types.lo, node.types.hi)]
    need = np.vectorize(lambda low, high: max(int(high).bit_length(), (-1 - int(low)).bit_length() if low < 0 else 0))
    whole = need(node.types.lo, node.types.hi) - (node.types.frac - node.range.frac) if node.types.size else np.zeros(1)
    spare = whole - need(lo, hi) if node.types.size else np.zeros(1)
    live = node.types.width > 0
    return {
        "used": [float(real[0].min()), float(real[1].max())],
        "allotted": [float(allotted[0].min()), float(allotted[1].max())],
        "spare_bits": int(spare[live].min()) if live.any() else 0,
    }


def _types(node: Node) -> str:
    names = sorted({str(t) if t else "0" for t in node.types})
    return " ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
