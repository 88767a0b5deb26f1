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
        teacher: gives a row for each sample: logits, or probabilities (each row adds up to 1), of two classes or more.
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
    if given.shape[1] < 2:
        raise ValueError(
            f"soft_labels: teacher '{teacher.name}' gives one number for each sample, which is no row of classes. "
            "Fix: train on teacher.predict(x) with a binary crossentropy."
        )
    if (given >= 0).all() and np.allclose(given.sum(1), 1.0, atol=1e-3):
        given = np.log(np.maximum(given, 1e-12))
    elif (given >= 0).all() and (given <= 1).all():
        raise ValueError(
            f"soft_labels: teacher '{teacher.name}' gives numbers in 0..1 whose rows do not add up to 1, as a sigmoid "
            "does: neither logits nor probabilities of classes. Fix: give a teacher without its last activation."
        )
    labels = softmax(log_softmax(given, axis=1) / temperature, axis=1)
    if weight < 1:
        true = np.asarray(y)
        if true.ndim < 2 or true.shape[-1] == 1:
            true = _one_hot(true.ravel(), given.shape[1])
        if true.shape != labels.shape:
            raise ValueError(f"soft_labels: y of shape {np.shape(y)} does not fit {labels.shape}, the teacher's rows")
        labels = weight * labels + (1.0 - weight) * true
    return labels.astype(np.float32)


def _one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    if len(classes) and not np.isin(classes, np.arange(count)).all():
        wrong = classes[~np.isin(classes, np.arange(count))][0]
        raise ValueError(f"soft_labels: y holds {wrong}; the teacher's classes are the numbers 0 to {count - 1}")
    return np.eye(count)[classes.astype(np.int64)]
