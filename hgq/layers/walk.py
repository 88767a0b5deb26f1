"""Finds the quantizers of a model."""

from __future__ import annotations

from typing import Any

from hgq.quantizers import Quantizer
from hgq.resource.model import priced_layers


def model_quantizers(model: Any) -> list[tuple[Any, str, Quantizer]]:
    """Every quantizer of a model as (layer, name of the layer's argument, quantizer), in graph order."""
    return [
        (layer, name, quantizer) for layer, _ in priced_layers(model) for name, quantizer in layer.quantizers().items()
    ]
