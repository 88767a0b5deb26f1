"""The training of benchmarks/tiny_mnist.py finds tables and their inputs exactly where they can be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import tiny_training

    return tiny_training


def test_the_exchange_is_the_best_of_all_tables_of_all_inputs(training: Any) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 2, (9, 500), np.uint8)
    worth = random.integers(-99, 100, 500).astype(np.float32)
    inputs = np.array([7, 2, 0, 5, 8, 3])

    def best(of: np.ndarray) -> float:
        """The loss of the best table, entry by entry."""
        places = sum(pixels[of[k]].astype(int) << k for k in range(6))
        return sum(min(0.0, worth[places == n].sum()) for n in range(64))

    tried = {(k, p): best(np.array([*inputs[:k], p, *inputs[k + 1 :]])) for k in range(6) for p in (1, 4, 6)}
    places = training._places(pixels, inputs)
    found = training._exchange(places, worth, pixels.T.astype(np.float32), inputs)
    assert tried[found] == min(tried.values()) < best(inputs)


def test_a_function_of_five_pixels_is_found_among_twelve(training: Any) -> None:
    random = np.random.default_rng(1)
    x = random.integers(0, 2, (2000, 12), np.uint8)
    truth = (x[:, 0] & x[:, 3]) ^ (x[:, 5] | x[:, 8]) ^ x[:, 11]
    net = training.train(lambda n: x[n], np.eye(2)[truth], 6, 6, random, ((2000, 6), (2000, 2), (2000, 2)))
    assert (training.answers(net, x).argmax(1) == truth).all()
    assert (net["offsets"] * 4 == np.round(net["offsets"] * 4)).all() and np.isin(net["weights"], (-1, 0, 1)).all()


def test_weights_that_cannot_be_placed_are_refused(training: Any) -> None:
    with pytest.raises(ValueError, match="7 weights for 3 neurons"):
        training.train(lambda n: n, np.eye(2), 3, 7, np.random.default_rng(0))
