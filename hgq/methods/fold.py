"""A float Keras model as hardware will have it: normalisations folded, what is for training alone gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from hgq.importers import keras_layers, plain
from hgq.importers.archive import Archive, archive_of, read_archive, refused
from hgq.importers.given import check_finite
from hgq.importers.linear import CONV, DEPTHWISE, weights_of
from hgq.importers.network import Call, Importer, Record, read_records
from hgq.importers.read import library_of


def fold(model: keras.Model | str | Path, drop_softmax: bool = False) -> keras.Model:
    """A new float Keras functional model that computes what `model` does at inference (to float32 rounding).

    Each BatchNormalization is folded into the linear layer that it follows; where it follows none, it stays, with mean
    0, variance 1, and all of it in gamma and beta. Dropout and noise go. Layers keep their names.

    Args:
        model: a plain Keras model (Sequential or functional), or a file that holds one; no code in it is run.
        drop_softmax: leave a softmax at the end out; the model then gives its logits.

    Raises:
        ConversionError: layers or attributes that are not supported, all of them by name; a softmax, unless dropped.
    """
    return Importer(_archive(model), HANDLERS, plain.INSTEAD, None, drop_softmax, None, plain.prepare).build()


def norm_statistics(model: keras.Model | str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and deviation of each channel behind the normalisations, as they were trained: beta and ``|gamma|``.

    Keyed by the layer that a normalisation is folded into, or by its own name where it stays.
    """
    records, _, outputs = read_records(_archive(model))
    plain.prepare(records, outputs, None)
    found = {}
    for record in records:
        norm = record.norm or (record if record.kind == "BatchNormalization" and not record.folded else None)
        if norm is not None:
            names = ["gamma"] * bool(norm.get("scale", True)) + ["beta"] * bool(norm.get("center", True))
            held = weights_of(norm, *names, "moving_mean", "moving_variance")
            one = np.ones_like(held["moving_mean"])
            found[record.name] = held.get("beta", 0 * one), np.abs(held.get("gamma", one))
    return found


def _archive(model: keras.Model | str | Path) -> Archive:
    archive = read_archive(Path(model)) if isinstance(model, str | Path) else archive_of(model)
    library = library_of(archive)
    if library != "Keras":
        raise refused(archive.path, f"this is a model of {library}: quantised already", "give the float Keras model")
    return archive


def _linear(weight: str, names: str) -> Any:
    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        arguments, parts = plain.read_linear(importer, record, weight, names)
        for part, value in parts.items():
            check_finite(part, value)
        layer = getattr(keras.layers, record.kind)(**arguments)
        layer.build(shapes[0])
        layer.set_weights(list(parts.values()))
        return layer

    return handler


def _norm(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    if record.folded:
        record.seen |= set(record.config)
        return lambda x: x
    parts = plain.read_norm(record, len(shapes[0]))
    for part, value in parts.items():
        check_finite(part, value)
    layer = keras.layers.BatchNormalization(epsilon=0.0, name=record.name)
    layer.build(shapes[0])
    layer.gamma.assign(parts["scale"])
    layer.beta.assign(parts["offset"])
    return layer


def _left_out(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    record.seen |= set(record.config)
    return lambda x: x


HANDLERS = {
    **keras_layers.HANDLERS,
    **dict.fromkeys(sorted(keras_layers.FOR_TRAINING), _left_out),
    "Dense": _linear("kernel", "units"),
    "Conv1D": _linear("kernel", CONV),
    "Conv2D": _linear("kernel", CONV),
    "DepthwiseConv1D": _linear("depthwise_kernel", DEPTHWISE),
    "DepthwiseConv2D": _linear("depthwise_kernel", DEPTHWISE),
    "BatchNormalization": _norm,
}
"""Class names of Keras -> handler."""
