"""The loss that labels ask for."""

from __future__ import annotations

import keras
import numpy as np


def loss_for(labels: np.ndarray, output_shape: tuple[int | None, ...], samples: int) -> keras.losses.Loss:
    """Cross entropy from logits for class numbers and for rows that sum to 1, else the squared error.

    Of a model with one output, which has two classes, the binary cross entropy from logits.

    Args:
        labels: class numbers (samples,) or (samples, 1), or arrays of the shape of the output.
        output_shape: of the model, with its batch axis.

    Raises:
        ValueError: labels that are neither, none, NaN or infinite, or not one for each of the samples.
    """
    if not samples or len(labels) != samples:
        raise ValueError(f"{samples:,} samples and {len(labels):,} labels; give as many of both, at least one")
    if np.issubdtype(labels.dtype, np.floating) and not np.isfinite(labels).all():
        where = tuple(int(n) for n in np.argwhere(~np.isfinite(labels))[0])
        raise ValueError(f"the labels hold {labels[where]} at index {where}; remove or replace it")
    classes = output_shape[-1] or 0
    flat = labels.shape in ((samples,), (samples, 1))
    if flat and np.issubdtype(labels.dtype, np.integer):
        known = max(classes, 2)
        if labels.min() < 0 or labels.max() >= known:
            raise ValueError(
                f"labels from {labels.min()} to {labels.max()}; they must be whole numbers of classes, "
                f"0 to {known - 1}, for {classes} output{'s' * (classes != 1)} of the model"
            )
        if classes == 1:
            return keras.losses.BinaryCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if labels.shape[1:] != tuple(output_shape[1:]):
        raise ValueError(
            f"labels of shape {labels.shape} and dtype {labels.dtype}; the model gives {classes} classes: give class "
            "numbers (integers), or a row for each sample"
        )
    if labels.ndim == 2 and classes > 1 and (labels >= 0).all() and np.allclose(labels.sum(1), 1, atol=1e-3):
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.MeanSquaredError()
