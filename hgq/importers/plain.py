"""Plain Keras models (Keras 3 .keras; Keras 2 .h5, or .json and weights) with types that somebody gives (`given`).

Batch normalisation is folded into the layer before it first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers import keras_layers
from hgq.importers.given import Given
from hgq.importers.linear import CONV, DEPTHWISE, POOL, TRANSPOSE, arguments_of, linear, normalisation, weights_of
from hgq.importers.network import Call, Importer, Record, Reference
from hgq.importers.passing import input_types
from hgq.layers import (
    QAveragePooling1D,
    QAveragePooling2D,
    QConv1D,
    QConv1DTranspose,
    QConv2D,
    QConv2DTranspose,
    QDense,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
    QEinsumDense,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
)


def prepare(records: list[Record], outputs: list[Reference], given: Given | None) -> None:
    """Finds the normalisations that can be folded, and refuses types for layers that are not there."""
    by_name = {record.name: record for record in records}
    if given is not None:
        given.check(list(by_name))
    readers: dict[Reference, int] = {}
    for reference in [*outputs, *(a for record in records for call in record.calls for a in call)]:
        readers[reference] = readers.get(reference, 0) + 1
    for record in records:
        if record.kind == "BatchNormalization" and len(record.calls) == 1:
            before = by_name[record.calls[0][0].layer]
            alone = len(before.calls) == 1 and readers[record.calls[0][0]] == 1
            last = record.config.get("axis", -1) in (-1, [-1]) or _rank(before) in _axes(record)
            if before.kind in FOLDABLE and alone and last and before.config.get("activation") in (None, "linear"):
                before.norm = record
                record.folded = True


def _rank(record: Record) -> int:
    return {"Dense": 1, "Conv1D": 2, "DepthwiseConv1D": 2}.get(record.kind, 3)


def _axes(record: Record) -> list[int]:
    axis = record.config.get("axis", -1)
    return list(axis) if isinstance(axis, list) else [axis]


def _linear(cls: type, weight: str, names: str) -> Callable:
    """A handler of layers with kernel and bias; `names`: arguments of our class that are Keras' too."""

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        arguments, parts = read_linear(importer, record, weight, names)
        given = importer.given.input(record.name)
        constants = {part: importer.given.constant(record.name, part, value) for part, value in parts.items()}
        return linear(cls, arguments, shapes[0], constants, given, importer.given.own(record.name, "output"))

    return handler


def read_linear(
    importer: Importer, record: Record, weight: str, names: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The arguments of a layer with weights, and its float "kernel" and "bias" with a normalisation folded in.

    weight: Keras' name for the kernel. names: arguments of our class that are Keras' too.
    """
    named = {"EinsumDense": record.get("bias_axes") is not None}
    biased = named.get(record.kind, bool(record.get("use_bias", True)))
    if weight == "depthwise_kernel":
        record.only("groups", 1, fix="leave groups out")
    values = weights_of(record, weight, *(["bias"] if biased else []))
    if record.norm is not None:
        values = _folded(record, values, weight)
    arguments = arguments_of(record, names) | {"activation": _activation(importer, record)}
    if record.kind != "EinsumDense":
        arguments["use_bias"] = "bias" in values
    return arguments, {"kernel": values[weight]} | ({"bias": values["bias"]} if "bias" in values else {})


def _activation(importer: Importer, record: Record) -> str | None:
    if record.get("activation") == "softmax":
        keras_layers.softmax(importer, record)  # refuses it where it may not be dropped
        return None
    record.only("activation", "linear", None, "relu", "relu6", "hard_tanh", fix="use relu, relu6 or hard_tanh")
    return record.get("activation")


def _scale_and_offset(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Of a normalisation at inference: gamma / sqrt(variance + epsilon), beta - mean * scale; in float64."""
    names = ["gamma"] * bool(record.get("scale", True)) + ["beta"] * bool(record.get("center", True))
    held = weights_of(record, *names, "moving_mean", "moving_variance")
    scale = held.get("gamma", np.float32(1)) / np.sqrt(
        held["moving_variance"].astype(np.float64) + record.get("epsilon")
    )
    return scale, held.get("beta", np.float32(0)) - held["moving_mean"] * scale


def _folded(record: Record, values: dict[str, np.ndarray], weight: str) -> dict[str, np.ndarray]:
    """Kernel and bias with the normalisation behind the layer in them."""
    scale, offset = _scale_and_offset(record.norm)
    kernel = values[weight]
    if weight == "depthwise_kernel":
        factor = scale.reshape(kernel.shape[-2:])
    else:
        factor = scale[:, None] if record.kind.endswith("Transpose") else scale
    bias = values.get("bias", np.zeros_like(scale)) * scale + offset
    return {weight: (kernel * factor).astype(np.float32), "bias": bias.astype(np.float32)}


def _norm(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    """A normalisation: none where it is folded, else a quantised scale and offset."""
    if record.folded:
        # `prepare` knows no shapes: behind Dense, axis 1 may be another than the last.
        _check_axis(record, len(shapes[0]))
        record.seen |= set(record.config)
        return lambda x: x
    values = read_norm(record, len(shapes[0]))
    parts = {part: importer.given.constant(record.name, part, value) for part, value in values.items()}
    given = importer.given.input(record.name)
    return normalisation(record.name, shapes[0], parts, given)


def read_norm(record: Record, rank: int) -> dict[str, np.ndarray]:
    """ "scale" and "offset" of a normalisation of a tensor of `rank` axes, batch axis included."""
    _check_axis(record, rank)
    scale, offset = _scale_and_offset(record)
    return {"scale": scale.astype(np.float32), "offset": offset.astype(np.float32)}


def _check_axis(record: Record, rank: int) -> None:
    if _axes(record) not in ([-1], [rank - 1]):
        raise Unconvertible(f"axis={record.get('axis')!r} is not supported", "normalise the last axis")
    record.seen.add("axis")


def _average(cls: type) -> Callable:
    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        given = importer.given.own(record.name, "input") or input_types(importer, importer.tensors[0])
        return linear(cls, arguments_of(record, POOL), shapes[0], {}, given)

    return handler


FOLDABLE = {
    "Dense": _linear(QDense, "kernel", "units"),
    "Conv1D": _linear(QConv1D, "kernel", CONV),
    "Conv2D": _linear(QConv2D, "kernel", CONV),
    "Conv1DTranspose": _linear(QConv1DTranspose, "kernel", TRANSPOSE),
    "Conv2DTranspose": _linear(QConv2DTranspose, "kernel", TRANSPOSE),
    "DepthwiseConv1D": _linear(QDepthwiseConv1D, "depthwise_kernel", DEPTHWISE),
    "DepthwiseConv2D": _linear(QDepthwiseConv2D, "depthwise_kernel", DEPTHWISE),
}
HANDLERS: dict[str, Callable[[Importer, Record, list[tuple]], Call]] = {
    **keras_layers.HANDLERS,
    **FOLDABLE,
    "EinsumDense": _linear(QEinsumDense, "kernel", "equation output_shape bias_axes"),
    "BatchNormalization": _norm,
    "AveragePooling1D": _average(QAveragePooling1D),
    "AveragePooling2D": _average(QAveragePooling2D),
    "GlobalAveragePooling1D": _average(QGlobalAveragePooling1D),
    "GlobalAveragePooling2D": _average(QGlobalAveragePooling2D),
}
"""Class names of Keras -> handler."""
INSTEAD = {
    "SeparableConv1D": "write it as DepthwiseConv1D and Conv1D",
    "SeparableConv2D": "write it as DepthwiseConv2D and Conv2D",
    "GRU": "train it with hgq.layers.QGRU",
    "LSTM": "train it with hgq.layers.QLSTM",
    "MultiHeadAttention": "train it with hgq.layers.QMultiHeadAttention",
    "Lambda": "write the function with supported layers: code in a model file is never run",
}
