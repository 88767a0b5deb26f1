"""Runs engines on the same vectors and compares each with the golden model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hgq.errors import VerificationError
from hgq.ir.evaluate import evaluate
from hgq.ir.graph import Graph
from hgq.verify.compare import Difference, first_difference

Tensors = Mapping[str, np.ndarray]
Engine = Callable[[Tensors], Tensors]
"""Integers of the input ports -> integers of the outputs, by name; what differs from an integer stays a float."""
Localise = Callable[[Tensors, Difference], Difference]
"""The inputs of the differing sample, the difference at the output -> the first difference on the way there."""


@dataclass(slots=True)
class Verdict:
    """What was compared, over how many vectors, and how long it took."""

    vectors: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict:
        return {
            engine: {"vectors": n, "differences": 0, "seconds": round(self.seconds[engine], 2)}
            for engine, n in self.vectors.items()
        }


def verify_engines(
    graph: Graph,
    inputs: Tensors,
    engines: Mapping[str, Engine],
    *,
    localise: Mapping[str, Localise] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Verdict:
    """Compares every engine with the golden model on all of `inputs`, with ==.

    Raises:
        VerificationError: at the first difference, naming engine, layer, element, sample, expected and got.
    """
    count = len(next(iter(inputs.values())))
    progress(f"golden model, {count:,} vectors")
    golden = evaluate(graph, inputs)
    verdict = Verdict()
    for name, engine in engines.items():
        progress(f"{name}, {count:,} vectors")
        start = time.perf_counter()
        results = engine(inputs)
        for output in graph.outputs:
            node = graph[output]
            found = first_difference(name, node.origin, node.types, golden[output], results[output])
            if found is not None:
                where = (localise or {}).get(name)
                if where is not None:
                    one = {key: x[found.sample : found.sample + 1] for key, x in inputs.items()}
                    found = where(one, found)
                raise VerificationError(str(found))
        verdict.vectors[name] = count
        verdict.seconds[name] = time.perf_counter() - start
    return verdict
