"""Whether a model fits into the memory of this machine, asked before it is turned into logic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hgq.errors import ConversionError
from hgq.ir.graph import Graph

BYTES_PER_WEIGHT = 5000
"""Peak memory of a conversion for each weight that is not 0: 4,700 (128 x 128) and 3,000 (256 x 256) measured."""


def check_memory(graph: Graph, available: int | None = None) -> None:
    """Refuses a model that would make the machine swap: every weight becomes logic of its own.

    Args:
        available: bytes that may be used; by default what Linux says is free or can be made free.

    Raises:
        ConversionError: naming the layer with the most weights.
    """
    available = _available() if available is None else available
    weights = {
        node.origin: int(np.count_nonzero(np.asarray(node.attrs["kernel"] != 0)))
        for node in graph
        if "kernel" in node.attrs
    }
    need = sum(weights.values()) * BYTES_PER_WEIGHT
    if need > available > 0:
        most = max(weights, key=lambda name: weights[name])
        raise ConversionError(
            [
                f"  - the model has {sum(weights.values()):,} weights that are not 0 ({weights[most]:,} of them in "
                f"'{most}'), and each becomes logic: about {need / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB "
                "are free\n      Fix: train with a higher price of bits, so that weights vanish, or use a smaller layer"
            ]
        )


def _available() -> int:
    """Bytes; 0 where it cannot be known."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return 0
    found = [line.split() for line in file.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else 0
