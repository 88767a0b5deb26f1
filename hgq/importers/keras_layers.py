"""Keras' own layers without weights that the frontend reads: they stay as they are, whatever library made the model."""

from __future__ import annotations

from typing import Any

import keras

from hgq.frontend.context import Unconvertible
from hgq.importers.network import Call, Importer, Record

PLAIN = (
    "Flatten Reshape Permute RepeatVector ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D "
    "MaxPooling1D MaxPooling2D GlobalMaxPooling1D GlobalMaxPooling2D AveragePooling1D AveragePooling2D "
    "GlobalAveragePooling1D GlobalAveragePooling2D ReLU LeakyReLU Activation Add Subtract Multiply Average Maximum "
    "Minimum Concatenate Dropout GaussianNoise GaussianDropout SpatialDropout1D ActivityRegularization"
).split()
"""Class names; the frontend judges their attributes."""
SEVERAL = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"}
IGNORED = {"dtype", "trainable", "activity_regularizer", "batch_input_shape"}
"""Of a configuration: training, and what our own model says."""
OLD_NAMES = {"alpha": "negative_slope"}
"""Arguments of Keras 2 that Keras 3 calls otherwise."""
FOR_TRAINING = {"Dropout", "GaussianNoise", "GaussianDropout", "SpatialDropout1D", "ActivityRegularization"}


def plain(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    """The layer itself, from its configuration; values other than numbers and words are refused."""
    cls = getattr(keras.layers, record.kind)
    config: dict[str, Any] = {}
    record.seen |= set(record.config)  # Keras judges them, and then the frontend
    for name, value in record.config.items():
        if name in IGNORED or (record.kind in FOR_TRAINING and name in ("seed", "l1", "l2", "noise_shape")):
            continue
        if not _simple(value):
            raise Unconvertible(f"{name}={value!r} is not supported", "use one of Keras' own by its name")
        config[OLD_NAMES.get(name, name) if record.kind == "LeakyReLU" else name] = value
    if record.kind == "Activation" and config.get("activation") == "softmax":
        return softmax(importer, record)
    layer = cls(**config)
    return lambda *tensors: layer(list(tensors) if record.kind in SEVERAL else tensors[0])


def softmax(importer: Importer, record: Record) -> Call:
    """A softmax at the end changes no decision: it goes where the user says so."""
    if importer.drop_softmax:
        if record.name in importer.read:
            raise Unconvertible(
                "softmax that other layers read is not at the end of the model, so it cannot be dropped",
                "build it with hgq.layers.QSoftmax and train again",
            )
        importer.dropped.add(record.name)
        return lambda x: x
    raise Unconvertible(
        "softmax has no exact meaning in fixed point",
        "pass drop_softmax=True (in a command: --drop-softmax): the model then gives what enters the softmax, whose "
        "largest element is the same",
    )


def _simple(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_simple(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


def _softmax(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    record.seen.add("axis")
    return softmax(importer, record)


HANDLERS = dict.fromkeys(PLAIN, plain) | {"Softmax": _softmax}
