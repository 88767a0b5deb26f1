"""Losses that follow from labels."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hgq.methods.labels import loss_for

LABELS = {
    "numbers": (np.array([0, 1, 1]), keras.losses.SparseCategoricalCrossentropy),
    "rows": (np.array([[0.5, 0.5], [1, 0], [0, 1]]), keras.losses.CategoricalCrossentropy),
    "values": (np.array([[0.5, 3.5], [1, 0], [0, 1]]), keras.losses.MeanSquaredError),
}


@pytest.mark.parametrize("kind", LABELS)
def test_the_loss_follows_from_the_labels(kind):
    labels, loss = LABELS[kind]
    assert type(loss_for(labels, (None, 2), 3)) is loss


@pytest.mark.parametrize(
    "labels",
    [np.array([0, 2]), np.array([[1, 2, 3]] * 2), np.array([0]), np.array([[1, 0], [np.nan, 1]])],
    ids=["too many classes", "other shape", "too few", "NaN"],
)
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="labels"):
        loss_for(labels, (None, 2), 2)


def test_one_output_tells_two_classes_apart():
    assert type(loss_for(np.array([0, 1]), (None, 1), 2)) is keras.losses.BinaryCrossentropy
    assert type(loss_for(np.array([0.0, 1.5])[:, None], (None, 1), 2)) is keras.losses.MeanSquaredError
    with pytest.raises(ValueError, match="0 to 1, for 1 output of the model"):
        loss_for(np.array([0, 2]), (None, 1), 2)
