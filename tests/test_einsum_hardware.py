"""Einsums, embeddings and attention on every engine: one project, built once, at a clock that no multiplier meets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hgq
from tests.frontend.einsum_models import CASES, DATA, everything

RNG = np.random.default_rng(11)
BEYOND = {name: (RNG.normal(size=(1000, *x.shape[1:])) * x.std() * 1.5).astype("float32") for name, x in DATA.items()}
"""Wider than what calibration sees: it wraps. Indices are whole numbers, some of them beyond the last vector."""
BEYOND["words"] = RNG.integers(0, 16, BEYOND["words"].shape).astype("float32")


@pytest.mark.rtl
@pytest.mark.hls
def test_every_engine_computes_the_same(tmp_path: Path) -> None:
    project = hgq.convert(everything(*CASES), tmp_path / "p", calibrate=DATA, verify=BEYOND, corners=500, clock_ns=2.5)
    engines = project.report["verification"]["engines"]
    assert len(engines) == 4 and {e["differences"] for e in engines.values()} == {0}
    assert [e["vectors"] for name, e in engines.items() if "protocol" not in name] == [1500] * 3
    assert {"matmul", "dense", "conv", "lookup", "mul"} <= {node.op for node in project.graph}
    types = [t for node in project.graph if node.op in ("quantize", "input") for t in node.types]
    assert None in types and any(t.frac < 0 for t in types if t) and any(t.frac > t.width for t in types if t)
