"""HGQ2 models (hgq2 0.2, .keras): layer by layer into ours. HGQ2 itself is not imported; its module would hide ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers import keras_layers
from hgq.importers.hgq2_types import constant, data_types
from hgq.importers.linear import CONV, POOL, Constant, arguments_of, linear
from hgq.importers.network import Call, Importer, Record
from hgq.importers.passing import input_types, quantized
from hgq.importers.types import Types, store_constant
from hgq.layers import (
    QAveragePooling1D,
    QAveragePooling2D,
    QBatchNormalization,
    QConv1D,
    QConv2D,
    QDense,
    QEinsumDense,
    QGlobalAveragePooling1D,
    QGlobalAveragePooling2D,
)

Arrays = dict[str, np.ndarray]
ACTIVATIONS = ("linear", None, "relu", "relu6", "hard_tanh")


def _linear(make: Callable[[Record], tuple[type, dict[str, Any]]], constants: Callable[[Record], Arrays]) -> Callable:
    """A handler of layers with kernel and bias.

    make: our class and its arguments besides quantizers.
    constants: float kernel and bias, as HGQ2 gives them to its quantizers.
    """

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        record.only("activation", *ACTIVATIONS, fix="use relu, relu6 or hard_tanh, or a layer behind this one")
        cls, arguments = make(record)
        values = constants(record)
        found = {name: _constant(record, f"{name[0]}q", value) for name, value in values.items()}
        out = data_types(record, "oq", record.get("oq_conf")) if record.get("enable_oq") else None
        arguments["activation"] = record.get("activation")
        return linear(cls, arguments, shapes[0], found, _input_types(importer, record), out)

    return handler


def _constant(record: Record, part: str, value: np.ndarray) -> Constant:
    types, wanted = constant(record, part, record.get(f"{part}_conf"), value)
    return Constant(types, value, wanted)


def _input_types(importer: Importer, record: Record) -> Types:
    if record.get("enable_iq", True):
        return data_types(record, "iq", record.get("iq_conf"))
    return input_types(importer, importer.tensors[0])


def _kernel_and_bias(record: Record) -> Arrays:
    values = record.variables()
    biased = record.get("use_bias", True) if "bias_axes" not in record.config else record.get("bias_axes") is not None
    return {"kernel": values[0]} | ({"bias": values[1]} if biased else {})


def _normalized_dense(record: Record) -> Arrays:
    """QBatchNormDense normalises its input: kernel * gamma / sqrt(variance + epsilon), bias - mean @ kernel."""
    kernel, bias, *rest = record.variables()
    gamma = rest[0] if record.get("scale", True) else np.ones(1, np.float32)
    mean, variance = rest[-2:]
    factor = gamma / np.sqrt(variance + np.float32(record.get("epsilon")))
    if len(factor) != len(kernel):
        raise Unconvertible(f"its {len(factor)} factors do not fit a kernel of shape {kernel.shape}", "use QDense")
    return {"kernel": factor[:, None] * kernel, "bias": bias - mean @ kernel}


def _normalized_einsum(record: Record) -> Arrays:
    """QEinsumDenseBatchnorm: kernel and offset times gamma / sqrt(variance + 1e-7); hgq2 0.2 ignores its epsilon."""
    record.seen |= {"epsilon", "center"}
    kernel, bias, *rest = record.variables()
    axes, equation = record.get("normalize_axes") or record.get("bias_axes"), record.get("equation")
    right, out = equation.split(",")[1].split("->")
    if axes != record.get("bias_axes") or len(axes) != 1 or not out.endswith(axes):
        raise Unconvertible(
            f"normalize_axes={axes!r} with bias_axes={record.get('bias_axes')!r} is not supported",
            "normalise along the last axis only",
        )
    gamma = rest[0] if record.get("scale", True) else np.float32(1)
    mean, variance = rest[-2:]
    factor = gamma / np.sqrt(variance + np.float32(1e-7))
    shape = [-1 if letter == axes else 1 for letter in right]
    return {"kernel": kernel * factor.reshape(shape), "bias": bias + (-mean * factor).reshape(bias.shape)}


def _dense(record: Record) -> tuple[type, dict[str, Any]]:
    return QDense, arguments_of(record, "units use_bias")


def _conv(cls: type) -> Callable[[Record], tuple[type, dict[str, Any]]]:
    def make(record: Record) -> tuple[type, dict[str, Any]]:
        if record.get("padding") == "causal" and record.get("enable_iq", True):
            raise Unconvertible(
                "padding='causal' is padded before the input quantizer in hgq2 0.2", "use ZeroPadding1D before it"
            )
        return cls, arguments_of(record, f"{CONV} use_bias")

    return make


def _einsum(record: Record) -> tuple[type, dict[str, Any]]:
    return QEinsumDense, arguments_of(record, "equation output_shape bias_axes")


def _norm(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    """QBatchNormalization: quantised scale and offset. center=False means an offset of 1 - mean * scale in hgq2 0.2."""
    values = record.variables()
    scaled, centred = record.get("scale", True), record.get("center", True)
    gamma = values.pop(0) if scaled else np.ones_like(values[0])
    beta = values.pop(0) if centred else np.ones_like(values[0])
    mean, variance = values[:2]
    scale = gamma / np.sqrt(variance + np.float32(record.get("epsilon")))
    latent = {"scale": scale, "offset": beta - mean * scale}
    found = {
        name: constant(record, part, record.get(f"{part}_conf"), latent[name])
        for name, part in (("scale", "kq"), ("offset", "bq"))
    }
    given = _input_types(importer, record)
    layer = QBatchNormalization(
        record.get("axis", -1),
        epsilon=record.get("epsilon"),
        momentum=record.get("momentum"),
        input_quantizer=given.quantizer(),
        scale_quantizer=found["scale"][0].quantizer(constant=True),
        offset_quantizer=found["offset"][0].quantizer(constant=True),
        name=record.name,
    )
    layer.build(shapes[0])
    given.store(layer.input_quantizer)
    for name, (types, _) in found.items():
        types.store(getattr(layer, f"{name}_quantizer"))
    variables: tuple[Any, ...] = (layer.norm_gamma, layer.norm_beta, layer.moving_mean, layer.moving_variance)
    for variable, value in zip(variables, (gamma, beta, mean, variance), strict=True):
        variable.assign(value)
    made = layer.constants()
    if not all(np.array_equal(made[name][0], wanted) for name, (_, wanted) in found.items()):
        # An ulp of the root tipped a rounding: the statistics are then folded into gamma and beta.
        layer.moving_mean.assign(np.zeros_like(mean))
        layer.moving_variance.assign(np.full_like(variance, 1.0 - record.get("epsilon")))
        store_constant(layer, "scale", layer.norm_gamma, scale, found["scale"][1])
        store_constant(layer, "offset", layer.norm_beta, latent["offset"], found["offset"][1])
    return _with_output(record, layer)


def _with_output(record: Record, call: Call) -> Call:
    """Behind a layer, its output quantizer."""
    if not record.get("enable_oq"):
        return call
    last = quantized(data_types(record, "oq", record.get("oq_conf")), f"{record.name}_output")
    return lambda *tensors: last(call(*tensors))


def _pool(cls: type, ours: bool) -> Callable:
    """Pooling behind an input quantizer: Keras' maximum, or our average where that is exact."""

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        arguments = arguments_of(record, POOL)
        given = data_types(record, "iq", record.get("iq_conf")) if record.get("enable_iq", True) else None
        if not ours:
            before = quantized(given, f"{record.name}_input") if given else None
            layer = cls(**arguments)
            return _with_output(record, lambda x: layer(before(x) if before else x))
        given = given or input_types(importer, importer.tensors[0])
        layer = linear(cls, arguments, shapes[0], {}, given)
        if layer.halvings() is None:
            raise Unconvertible(
                "it averages over windows of other sizes than 2, 4, 8 ..., which HGQ2 divides in floating point",
                "use windows of a power of two",
            )
        return _with_output(record, layer)

    return handler


def _merge(cls: type | None) -> Callable:
    """A merge of Keras behind a quantizer for each tensor; None is QAveragePow2."""

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        before: list[Any] = [None] * len(shapes)
        if record.get("enable_iq", True):
            confs = record.get("iq_confs")
            confs = confs if isinstance(confs, list) else [confs] * len(shapes)
            for n, conf in enumerate(confs):
                before[n] = quantized(data_types(record, _part(record, n), conf), f"{record.name}_input{n}")
        count = len(shapes)
        factor = 2.0 ** round(np.log2(1.0 / count))
        exact = factor * count == 1
        layer = (cls or (keras.layers.Average if exact else keras.layers.Add))(name=record.name)

        def call(*tensors: Any) -> Any:
            y = layer([q(t) if q else t for q, t in zip(before, tensors, strict=True)])
            return y if cls or exact else y * factor

        return _with_output(record, call)

    return handler


def _part(record: Record, n: int) -> str:
    """Where the file keeps the n-th input quantizer of a merge."""
    return f"iq/quantizers/quantizer{f'_{n}' if n else ''}"


def _quantizer(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    """A Quantizer that stands in a model as a layer."""
    inner = Record(record.kind, record.name, record.config, {f"q/{p}": v for p, v in record.arrays.items()}, "")
    return quantized(data_types(inner, "q", record.get("config")), record.name)


HANDLERS: dict[str, Callable[[Importer, Record, list[tuple]], Call]] = {
    "QDense": _linear(_dense, _kernel_and_bias),
    "QBatchNormDense": _linear(_dense, _normalized_dense),
    "QConv1D": _linear(_conv(QConv1D), _kernel_and_bias),
    "QConv2D": _linear(_conv(QConv2D), _kernel_and_bias),
    "QEinsumDense": _linear(_einsum, _kernel_and_bias),
    "QEinsumDenseBatchnorm": _linear(_einsum, _normalized_einsum),
    "QBatchNormalization": _norm,
    "QMaxPooling1D": _pool(keras.layers.MaxPooling1D, ours=False),
    "QMaxPooling2D": _pool(keras.layers.MaxPooling2D, ours=False),
    "QGlobalMaxPooling1D": _pool(keras.layers.GlobalMaxPooling1D, ours=False),
    "QGlobalMaxPooling2D": _pool(keras.layers.GlobalMaxPooling2D, ours=False),
    "QAveragePooling1D": _pool(QAveragePooling1D, ours=True),
    "QAveragePooling2D": _pool(QAveragePooling2D, ours=True),
    "QGlobalAveragePooling1D": _pool(QGlobalAveragePooling1D, ours=True),
    "QGlobalAveragePooling2D": _pool(QGlobalAveragePooling2D, ours=True),
    "QAdd": _merge(keras.layers.Add),
    "QSubtract": _merge(keras.layers.Subtract),
    "QMultiply": _merge(keras.layers.Multiply),
    "QMaximum": _merge(keras.layers.Maximum),
    "QMinimum": _merge(keras.layers.Minimum),
    "QAveragePow2": _merge(None),
    "Quantizer": _quantizer,
    **keras_layers.HANDLERS,
}
"""Class names of HGQ2 and Keras -> handler."""
INSTEAD = {
    "QSoftmax": "take the model's logits, and let the host compute the softmax",
    "QMultiHeadAttention": "train it with hgq.layers.QMultiHeadAttention",
    "QUnaryFunctionLUT": "train it with hgq.layers.QFunction, whose table is exact",
    "QGRU": "train it with hgq.layers.QGRU",
    "QSimpleRNN": "train it with hgq.layers.QSimpleRNN",
    "Lambda": "write the function with supported layers: code in a model file is never run",
}
