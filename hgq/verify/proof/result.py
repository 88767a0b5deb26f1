"""What was proven: by layer, and what was not and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class LayerProof:
    """outputs: how many elements leave the layer's modules. proven: how many of them are proven for all inputs.

    reasons: why others are not, and how often each. An element that differs is no reason but an error.
    """

    layer: str
    outputs: int = 0
    proven: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def holds(self) -> None:
        """One more output, which is proven."""
        self.outputs += 1
        self.proven += 1

    def not_proven(self, reason: str) -> None:
        self.outputs += 1
        self.reasons[reason] += 1


@dataclass(slots=True)
class ProofResult:
    """layers: in the order of the design. cells: in the text, each module once; covered: those behind outputs that
    are proven in every instance.

    latency: clock cycles of every path, None where that is not proven. seconds: how long it all took.
    """

    layers: list[LayerProof] = field(default_factory=list)
    cells: int = 0
    covered: int = 0
    latency: int | None = None
    seconds: float = 0.0

    @property
    def outputs(self) -> int:
        return sum(layer.outputs for layer in self.layers)

    @property
    def proven(self) -> int:
        return sum(layer.proven for layer in self.layers)

    @property
    def complete(self) -> bool:
        """Whether every output of every layer, and the latency, is proven."""
        return self.proven == self.outputs and self.latency is not None

    def to_json(self) -> dict[str, Any]:
        """For report.json, below ``proof``."""
        layers = [
            {"layer": one.layer, "outputs": one.outputs, "proven": one.proven}
            | ({"not_proven": dict(one.reasons)} if one.reasons else {})
            for one in self.layers
        ]
        return {
            "outputs": self.outputs,
            "proven": self.proven,
            "complete": self.complete,
            "cells": self.cells,
            "covered": self.covered,
            "latency": self.latency,
            "seconds": round(self.seconds, 2),
            "layers": layers,
        }
