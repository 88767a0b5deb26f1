"""QKeras models (0.9 on Keras 2: .h5, or .json and weights; qkeras-v3 on Keras 3: .keras), layer by layer into ours.

QKeras quantises weights and what its activations give, and nothing else: a layer takes its input as it comes. Ours get
input quantizers of the types that the input is known to have, which change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers import keras_layers
from hgq.importers.linear import CONV, DEPTHWISE, POOL, TRANSPOSE, Constant, arguments_of, linear, weights_of
from hgq.importers.network import Call, Importer, Record
from hgq.importers.passing import input_types, quantized
from hgq.importers.qkeras_types import Spec, activation_types, constant, spec_of
from hgq.importers.signs import affine, below, named
from hgq.importers.types import Types
from hgq.layers import (
    QAveragePooling2D,
    QConv1D,
    QConv2D,
    QConv2DTranspose,
    QDense,
    QDepthwiseConv1D,
    QDepthwiseConv2D,
    QGlobalAveragePooling2D,
)

Arrays = dict[str, np.ndarray]
FIX = "use one of quantized_bits, quantized_relu, quantized_tanh, quantized_sigmoid, binary or ternary"


def _linear(cls: type, kernel: str, names: str, fold: Callable[[Record], Arrays] | None = None) -> Callable:
    """A handler of layers with kernel and bias.

    kernel: "kernel" or "depthwise", as QKeras calls it.
    names: the arguments of our class that are QKeras' too.
    fold: what is quantised, where that is not the weights themselves.
    """

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        weight = "kernel" if kernel == "kernel" else f"{kernel}_kernel"
        if kernel != "kernel":
            record.only("groups", 1, fix="leave groups out")
        biased = bool(record.get("use_bias", True)) or fold is not None
        values = fold(record) if fold else weights_of(record, weight, *(["bias"] if biased else []))
        constants = {"kernel": _constant(record, f"{kernel}_quantizer", values[weight])}
        constants |= {"bias": _constant(record, "bias_quantizer", values["bias"])} if biased else {}
        given = input_types(importer, importer.tensors[0])
        layer = linear(cls, arguments_of(record, names) | {"use_bias": biased}, shapes[0], constants, given)
        after = activation(importer, record.get("activation"), f"{record.name}_activation", "activation")
        return lambda x: after(layer(x))

    return handler


def _constant(record: Record, argument: str, value: np.ndarray) -> Constant:
    spec = spec_of(record.get(argument), argument)
    if spec is None:
        if not value.any():  # a bias that was never trained
            one = np.ones((1,) * value.ndim, np.int64)
            return Constant(Types(one, one, 0 * one, Rounding.RND, Overflow.SAT_SYM), value, value)
        raise Unconvertible(f"{argument}=None: its values are not quantised", "train with a quantizer there")
    types, wanted = constant(spec, value, trained_scale=argument != "bias_quantizer")
    return Constant(types, value, wanted)


def activation(importer: Importer, given: Any, name: str, argument: str) -> Call:
    """What stands for an activation or a QActivation."""
    spec = spec_of(given, argument)
    if spec is None or spec.kind == "linear":
        return lambda x: x
    if spec.kind in ("relu", "relu6"):
        return keras.layers.Activation(spec.kind, name=name)
    if spec.kind == "softmax":
        return keras_layers.softmax(importer, Record("Activation", name, {}, {}, ""))
    types = activation_types(spec) if spec.values else None
    if types is not None:
        return quantized(types, name)
    if spec.kind == "quantized_sigmoid" and not spec["symmetric"]:
        # by default clip(x / 2 + 1 / 2, 0, 1)
        bits = spec["bits"] * np.ones((1,), np.int64)
        unsigned = Types(0 * bits, bits, bits, Rounding.RND_CONV, Overflow.SAT)
        last = quantized(unsigned, name)
        return lambda x: last(affine(x, 0.5, 0.5, name))
    if spec.kind in ("binary", "quantized_bits", "ternary"):
        return _sign(importer, spec, name)
    raise Unconvertible(f"its {argument} is {spec.kind}, which has no exact meaning here", FIX)


def _sign(importer: Importer, spec: Spec, name: str) -> Call:
    """Binary and ternary activations, of sums and comparisons: floor(x), saturated to -1..0, is -1 where x < 0."""
    alpha = spec.values.get("alpha")
    scale = 1.0 if alpha is None else alpha
    if not isinstance(scale, int | float) or scale <= 0 or math.frexp(scale)[0] != 0.5:
        raise Unconvertible(f"its {spec.argument} {spec.kind} has alpha={alpha!r}", "train with alpha=1")
    if spec.kind != "ternary":
        low, high = (0.0, scale) if _zero_one(spec) else (-scale, scale)
        return lambda x: affine(below(x, 0.0, f"{name}_sign"), high - low, high, name)

    def ternary(x: Any) -> Any:
        known = importer.types(x)
        if known is None:
            raise Unconvertible("it reads a model input that nothing quantises", "put a QActivation in front")
        frac = max(int(known.frac.max(initial=0)), 0)
        threshold = np.float32(0.33 if spec["threshold"] is None else spec["threshold"])
        bound = math.ceil(float(threshold) * 2**frac) / 2**frac
        if not bound > 0:
            raise Unconvertible(f"its {spec.argument} has threshold={spec['threshold']!r}", "use one above 0")
        # 1 + below(x, bound) is 1 where x >= bound, and likewise of -x.
        plus = below(x, bound, f"{name}_plus")
        minus = below(named(x * -1.0, f"{name}_turned"), bound, f"{name}_minus")
        y = named(plus - minus, f"{name}_difference")
        return y if scale == 1 else named(y * scale, f"{name}_scaled")

    return ternary


def _zero_one(spec: Spec) -> bool:
    return bool(spec["use_01"]) if spec.kind == "binary" else not spec["keep_negative"]


def _q_activation(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
    return activation(importer, record.get("activation"), record.name, "activation")


def _separable(cls: type, point: type) -> Callable:
    """A depthwise convolution and one with a single tap; QKeras rounds nothing between."""

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        record.only("groups", 1, fix="leave groups out")
        biased = bool(record.get("use_bias", True))
        values = weights_of(record, "depthwise_kernel", "pointwise_kernel", *(["bias"] if biased else []))
        arguments = arguments_of(record, DEPTHWISE) | {"use_bias": False, "name": f"{record.name}_depthwise"}
        kernel = {"kernel": _constant(record, "depthwise_quantizer", values["depthwise_kernel"])}
        first = linear(cls, arguments, shapes[0], kernel, input_types(importer, importer.tensors[0]))
        middle = first(importer.tensors[0])
        constants = {"kernel": _constant(record, "pointwise_quantizer", values["pointwise_kernel"])}
        constants |= {"bias": _constant(record, "bias_quantizer", values["bias"])} if biased else {}
        arguments = arguments_of(record, "filters") | {"kernel_size": 1, "use_bias": biased}
        second = linear(point, arguments, tuple(middle.shape), constants, input_types(importer, middle))
        after = activation(importer, record.get("activation"), f"{record.name}_activation", "activation")
        done: list[Any] = []

        def call(x: Any) -> Any:
            y = first(x) if done else middle
            done.append(x)
            return after(second(y))

        return call

    return handler


def _folded(record: Record) -> Arrays:
    """QConv2DBatchnorm and its kin at inference: kernel * inv, inv * (bias - mean) + beta."""
    depthwise = "depthwise_kernel" in record.arrays or record.kind.startswith("QDepthwise")
    weight = "depthwise_kernel" if depthwise else "kernel"
    names = [weight, "moving_mean", "moving_variance"]
    names += ["bias"] * bool(record.get("use_bias", True))
    names += ["gamma"] * bool(record.get("scale", True)) + ["beta"] * bool(record.get("center", True))
    if record.get("axis", -1) not in (-1, 3, [-1], [3]):
        raise Unconvertible(f"axis={record.get('axis')!r} is not supported", "normalise the last axis")
    if record.variables():
        raise Unconvertible("its variables have no names in this kind of file", "save the model as .h5")
    held = weights_of(record, *names)
    inverse = np.float32(1) / np.sqrt(held["moving_variance"] + np.float32(record.get("epsilon")))
    inverse = inverse * held.get("gamma", np.float32(1))
    bias = inverse * (held.get("bias", np.float32(0)) - held["moving_mean"]) + held.get("beta", np.float32(0))
    kernel = held[weight]
    factor = inverse.reshape(kernel.shape[-2:]) if depthwise else inverse
    return {weight: factor * kernel, "bias": bias}


def _average(cls: type) -> Callable:
    """Average pooling over 2, 4, 8 ... elements: what QKeras divides by and multiplies with again is then exact."""

    def handler(importer: Importer, record: Record, shapes: list[tuple]) -> Call:
        layer = linear(cls, arguments_of(record, POOL), shapes[0], {}, input_types(importer, importer.tensors[0]))
        halvings = layer.halvings()
        if halvings is None:
            raise Unconvertible(
                "it averages over windows of other sizes than 2, 4, 8 ..., which QKeras divides in floating point",
                "use windows of a power of two",
            )
        spec = spec_of(record.get("average_quantizer"), "average_quantizer")
        if spec is not None:
            factor = constant(spec, np.full((1,), 2.0**-halvings, np.float32), trained_scale=False)[1]
            if factor != 2.0**-halvings:
                raise Unconvertible(
                    f"its average_quantizer makes {factor[0]} of 1/{2**halvings}", "give it enough fractional bits"
                )
        after = activation(importer, record.get("activation"), f"{record.name}_activation", "activation")
        return lambda x: after(layer(x))

    return handler


HANDLERS: dict[str, Callable[[Importer, Record, list[tuple]], Call]] = {
    "QDense": _linear(QDense, "kernel", "units"),
    "QConv1D": _linear(QConv1D, "kernel", CONV),
    "QConv2D": _linear(QConv2D, "kernel", CONV),
    "QConv2DTranspose": _linear(QConv2DTranspose, "kernel", TRANSPOSE),
    "QDepthwiseConv2D": _linear(QDepthwiseConv2D, "depthwise", DEPTHWISE),
    "QSeparableConv1D": _separable(QDepthwiseConv1D, QConv1D),
    "QSeparableConv2D": _separable(QDepthwiseConv2D, QConv2D),
    "QConv2DBatchnorm": _linear(QConv2D, "kernel", CONV, fold=_folded),
    "QDepthwiseConv2DBatchnorm": _linear(QDepthwiseConv2D, "depthwise", DEPTHWISE, fold=_folded),
    "QActivation": _q_activation,
    "QAveragePooling2D": _average(QAveragePooling2D),
    "QGlobalAveragePooling2D": _average(QGlobalAveragePooling2D),
    **keras_layers.HANDLERS,
}
"""Class names of QKeras and Keras -> handler."""
OWN = {name for name in HANDLERS if name.startswith("Q")} | {"QBatchNormalization", "QAdaptiveActivation"}
"""Class names that only QKeras has, among files that name no package."""
INSTEAD = {
    "QBatchNormalization": "fold it: train with QConv2DBatchnorm or QDepthwiseConv2DBatchnorm, whose quantised kernel "
    "has the normalisation in it; its own 1/sqrt(variance + epsilon) has no exact meaning",
    "BatchNormalization": "fold it: train with QConv2DBatchnorm or QDepthwiseConv2DBatchnorm",
    "QAdaptiveActivation": "train with QActivation('quantized_bits(...)') of the bits that it found",
    "Dense": "use QDense with quantizers",
    "Conv2D": "use QConv2D with quantizers",
    "Lambda": "write the function with supported layers: code in a model file is never run",
}
