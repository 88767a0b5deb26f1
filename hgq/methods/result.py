"""What every method returns, and how the summary of it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from hgq.methods.network import LayerTypes
from hgq.resource import model_ebops, priced_layers


@dataclass(frozen=True)
class LayerRow:
    """A line of the summary: mean widths of the weights that are not pruned, and of the input; EBOPs of all calls."""

    layer: str
    kind: str
    w: float | None
    a: float
    ebops: int


@dataclass
class Result:
    """The quantised model, and what its summary says.

    method: as in `METHODS`.
    facts: what the method decided or measured, as ("orders", "3"); in the order in which they are printed.
    folded, chosen: the float model and what was chosen for its layers: another method can go on from there.
    details: anything else that a caller may want (losses, a policy), by name.
    """

    model: keras.Model
    method: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    folded: keras.Model | None = None
    chosen: dict[str, LayerTypes] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ebops(self) -> int:
        """Exact EBOPs of the model."""
        return model_ebops(self.model)

    def rows(self) -> list[LayerRow]:
        """A row for each layer that has a price, in data flow order."""
        return [_row(layer, calls) for layer, calls in priced_layers(self.model)]

    def summary(self) -> str:
        """The table of layers, then the facts."""
        lines = [f"{'layer':<28}{'weight bits':>12}{'input bits':>12}{'EBOPs':>12}"]
        for row in self.rows():
            weights = "-" if row.w is None else f"{row.w:.2f}"
            name = f"{row.layer} ({row.kind})"
            lines.append(f"{name:<28}{weights:>12}{row.a:>12.2f}{row.ebops:>12,}")
        lines.append(f"{'total':<52}{self.ebops:>12,}")
        lines += [f"{name}: {value}" for name, value in [("method", self.method), *self.facts]]
        return "\n".join(lines)


def _row(layer: Any, calls: int) -> LayerRow:
    constants = layer.constants()
    types = constants.get("kernel", constants.get("scale", (None, None)))[1]
    live = None if types is None else types.width[types.width > 0]
    given = layer.input_quantizer.types(layer.input_shape_).width
    return LayerRow(
        layer.name,
        type(layer).__name__,
        None if live is None else float(live.mean()) if live.size else 0.0,
        float(np.mean(given)),
        round((layer.exact_ebops() + layer.product_ebops()) * calls),
    )
