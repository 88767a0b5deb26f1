"""Cuts a failing spec down: fewer nodes, fewer arguments, smaller numbers, as long as it fails in the same way."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.fuzz.model import Spec

PLAIN = {"clock_ns": 5.0, "latency": None, "part": None, "effort": 1, "objective": "lut"}


def shrink(spec: Spec, fails: Callable[[Spec], bool], seconds: float = 60.0) -> Spec:
    """The smallest spec found in that time of which `fails` still holds."""
    end = time.monotonic() + seconds
    progress = True
    while progress and time.monotonic() < end:
        progress = False
        for smaller in candidates(spec):
            if time.monotonic() > end:
                break
            if fails(smaller):
                spec, progress = smaller, True
                break
    return spec


def candidates(spec: Spec) -> Iterator[Spec]:
    """Specs that are a little smaller, the largest steps first. Some of them are no models at all."""
    for ref in spec["outputs"]:
        if len(spec["outputs"]) > 1:
            yield _pruned(_with(spec, "outputs", [ref]))
    for k in reversed(range(len(spec["nodes"]))):
        node = spec["nodes"][k]
        for ref in node["in"][:1]:
            yield _pruned(_bypassed(spec, k, ref))
        if any(r[0] != k for r in spec["outputs"]):
            yield _pruned(_with(spec, "outputs", [[k, 0]]))
    simple = {"input_type": None, "samples": 4, "options": PLAIN}
    for key, value in simple.items():
        if spec[key] != value:
            yield _with(spec, key, value)
    for k, one in enumerate(spec["inputs"]):
        for key, value in (("kind", "normal"), ("scale", 0)):
            if one[key] != value:
                yield _at(spec, ("inputs", k, key), value)
        for axis, size in enumerate(one["shape"]):
            for less in {1, size - 1} - {size, 0}:
                yield _at(spec, ("inputs", k, "shape", axis), less)
    for k, node in enumerate(spec["nodes"]):
        if len(node["in"]) > 1:
            yield _pruned(_at(spec, ("nodes", k, "in"), node["in"][:-1]))
        if node.get("scale"):
            yield _at(spec, ("nodes", k, "scale"), 0)
        for key, value in node.get("config", {}).items():
            yield _dropped(spec, ("nodes", k, "config"), key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                yield _at(spec, ("nodes", k, "config", key), 1)
            if isinstance(value, dict):
                for inner, default in (("granularity", "tensor"), ("rounding", "TRN"), ("overflow", "WRAP")):
                    if value.get(inner, default) != default:
                        yield _at(spec, ("nodes", k, "config", key, inner), default)


def _with(spec: Spec, key: str, value: Any) -> Spec:
    return copy.deepcopy(spec) | {key: copy.deepcopy(value)}


def _at(spec: Spec, path: tuple[Any, ...], value: Any) -> Spec:
    new = copy.deepcopy(spec)
    place: Any = new
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return new


def _dropped(spec: Spec, path: tuple[Any, ...], key: str) -> Spec:
    new = copy.deepcopy(spec)
    place: Any = new
    for step in path:
        place = place[step]
    del place[key]
    return new


def _bypassed(spec: Spec, k: int, instead: list[int]) -> Spec:
    """Whatever reads node k reads what that reads."""
    new = copy.deepcopy(spec)
    for node in new["nodes"]:
        node["in"] = [instead if ref[0] == k else ref for ref in node["in"]]
    new["outputs"] = [instead if ref[0] == k else ref for ref in new["outputs"]]
    return new


def _pruned(spec: Spec) -> Spec:
    """Without the nodes and inputs that no output needs."""
    nodes = spec["nodes"]
    live, todo = set(), [ref[0] for ref in spec["outputs"]]
    while todo:
        k = todo.pop()
        if k not in live:
            live.add(k)
            if k >= 0:
                todo += [ref[0] for ref in nodes[k]["in"]] + ([nodes[k]["shared"]] if "shared" in nodes[k] else [])
    kept = [k for k in range(len(nodes)) if k in live]
    inputs = [k for k in range(len(spec["inputs"])) if -1 - k in live]
    place = {old: new for new, old in enumerate(kept)} | {-1 - old: -1 - new for new, old in enumerate(inputs)}
    new = copy.deepcopy(spec)
    new["inputs"] = [new["inputs"][k] for k in inputs]
    new["nodes"] = [new["nodes"][k] for k in kept]
    for node in new["nodes"]:
        node["in"] = [[place[ref[0]], ref[1]] for ref in node["in"]]
        if "shared" in node:
            node["shared"] = place[node["shared"]]
    new["outputs"] = [[place[ref[0]], ref[1]] for ref in new["outputs"]]
    return new
