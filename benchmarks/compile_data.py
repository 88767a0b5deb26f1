"""The data and published kernels that benchmarks/compile.py needs, as files for the peers' environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import compile_networks as networks
import numpy as np
import peers

KERNELS = "Hector-Plata+hls4ml-tutorial__model_1"
"""A pruned jet tagger 16-64-32-32-5 that was published as Keras model; one of models/jsc_keras_mlps.npz."""


def samples(folder: Path, kind: str) -> Path:
    """x_train, y_train; x, y: samples for comparisons. The data of examples/datasets.py."""
    file = folder / f"{kind}_data.npz"
    if not file.exists():
        sys.path.insert(0, str(peers.ROOT / "examples"))
        import datasets

        data = getattr(datasets, kind)()
        x, y = (
            np.concatenate(parts)[: networks.SAMPLES]
            for parts in ((data.x_test, data.x_val), (data.y_test, data.y_val))
        )
        np.savez_compressed(file, x_train=data.x_train, y_train=data.y_train, x=x, y=y)
    return file


def published(x: np.ndarray) -> dict[str, Any]:
    """Published float kernels with 5 bits a weight, 6 bits a value."""
    held = np.load(networks.data_folder() / "models" / "jsc_keras_mlps.npz")
    return networks.from_float([(held[f"{KERNELS}/W{n}"], held[f"{KERNELS}/b{n}"]) for n in range(4)], x, 5, 6)
