"""Labels of a teacher: a float model that knows how sure it is says more about a sample than its class does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from scipy.special import log_softmax, softmax


def soft_labels(
    teacher: keras.Model,
    x: Any,
    y: Any = None,
    *,
    weight: float = 1.0,
    temperature: float = 1.0,
    batch_size: int = 1024,
) -> np.ndarray:
    """Rows of probabilities to train a classifier on, with ``keras.losses.CategoricalCrossentropy(from_logits=True)``::

        model.fit(x, soft_labels(teacher, x), ...)

    ``weight * softmax(logits / temperature) + (1 - weight) * one_hot(y)`` (Hinton, Vinyals, Dean 2015).

    Args:
        teacher: gives a row for each sample: logits, or probabilities (each row adds up to 1).
        x: what the teacher predicts from.
        y: true classes, as numbers or rows of 0 and 1; needed where `weight` is below 1.
        weight: of the teacher, 0 to 1.
        temperature: above 0; more makes labels softer.

    Returns:
        float32, of shape (samples, classes).
    """
    if not 0 <= weight <= 1 or (weight < 1 and y is None):
        raise ValueError(f"soft_labels: weight={weight}; it must lie in 0..1, and below 1 needs y, the true classes")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"soft_labels: temperature={temperature}; it must be above 0")
    given = np.asarray(teacher.predict(x, batch_size=batch_size, verbose=0), np.float64)
    if given.ndim != 2 or not np.isfinite(given).all():
        raise ValueError(
            f"soft_labels: teacher '{teacher.name}' gives shape {given.shape}; it must give finite rows of classes"
        )
    if (given >= 0).all() and np.allclose(given.sum(1), 1.0, atol=1e-3):
        given = np.log(np.maximum(given, 1e-12))
    labels = softmax(log_softmax(given, axis=1) / temperature, axis=1)
    if weight < 1:
        true = np.asarray(y)
        true = np.eye(given.shape[1])[true.astype(np.int64).ravel()] if true.ndim < 2 or true.shape[-1] == 1 else true
        if true.shape != labels.shape:
            raise ValueError(f"soft_labels: y of shape {np.shape(y)} does not fit {labels.shape}, the teacher's rows")
        labels = weight * labels + (1.0 - weight) * true
    return labels.astype(np.float32)
