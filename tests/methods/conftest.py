"""What tests of methods are run on."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import pytest


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Bright halves of an image: left, right, top."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 128, (96, 6, 6, 1)).astype(np.float32) / 256, np.arange(96) % 3
    for number, (rows, columns) in enumerate((np.s_[:, :3], np.s_[:, 3:], np.s_[:3, :])):
        x[y == number, rows, columns] += 0.5
    return x, y


@pytest.fixture
def eager() -> Iterator[None]:
    """For the few steps of a test, tracing a graph takes longer than they do."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
