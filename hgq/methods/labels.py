"""The loss that labels ask for."""

from __future__ import annotations

import keras
import numpy as np


def loss_for(labels: np.ndarray, output_shape: tuple[int | None, ...], samples: int) -> keras.losses.Loss:
    """Cross entropy from logits for class numbers and for rows that sum to 1, else the squared error.

    Args:
        labels: class numbers (samples,) or (samples, 1), or arrays of the shape of the output.
        output_shape: of the model, with its batch axis.

    Raises:
        ValueError: labels that are neither, none, or not one for each of the samples.
    """
    if not samples or len(labels) != samples:
        raise ValueError(f"{samples:,} samples and {len(labels):,} labels; give as many of both, at least one")
    classes = output_shape[-1] or 0
    flat = labels.shape in ((samples,), (samples, 1))
    if flat and np.issubdtype(labels.dtype, np.integer):
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"labels from {labels.min()} to {labels.max()}; they must be whole numbers of classes, "
                f"0 to {classes - 1}"
            )
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if labels.shape[1:] != tuple(output_shape[1:]):
        raise ValueError(
            f"labels of shape {labels.shape} and dtype {labels.dtype}; the model gives {classes} classes: give class "
            "numbers (integers), or a row for each sample"
        )
    if labels.ndim == 2 and classes > 1 and (labels >= 0).all() and np.allclose(labels.sum(1), 1, atol=1e-3):
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.MeanSquaredError()
