"""The model that benchmarks/tiny_mnist.py saves and counts is the net of tables that was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def test_the_model_is_the_net_of_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from tiny_mnist import model_of

    random = np.random.default_rng(0)
    x = random.integers(0, 256, (300, 12)).astype(np.float32) / 256
    net = {
        "inputs": np.stack([np.sort(random.choice(12, 6, replace=False)) for _ in range(5)]),
        "tables": random.random((5, 64)) > 0.5,
        "weights": random.choice([0, 0, 0.25, -0.5, 1], (5, 10)),
        "offsets": np.round(random.normal(size=10) * 4) / 4,
    }
    net["weights"][3] = 0  # nobody reads it: left out of the model
    places = ((x >= 0.5)[:, net["inputs"]] << np.arange(6)).sum(-1)
    bits = net["tables"][np.arange(5), places]
    model = model_of(net, x)
    assert model.layers[0].units == np.count_nonzero(net["weights"].any(axis=1)) < 5
    assert (np.asarray(model(x)) == bits @ net["weights"] + net["offsets"]).all()
