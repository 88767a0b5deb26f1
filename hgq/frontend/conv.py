"""Convolutions of every kind: one op of the IR."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from hgq.fixed import FixedArray
from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Value, mantissas
from hgq.windows import Windows


def conv(context: Context, layer: Any, x: Value) -> Value:
    """Input quantizer, convolution with the constants as the layer computes them, activation, output quantizer."""
    x = context.quantize("in", x, layer.input_quantizer)
    constants = layer.constants()
    attrs = {**_kernel(layer, *constants["kernel"]), **_bias(constants)}
    geometry = _geometry(layer.windows((None, *context.shape(x))), layer.convolution_groups)
    return finish(context, layer, context.add("sum", "conv", x, **attrs, **geometry))


def separable(context: Context, layer: Any, x: Value) -> Value:
    """The depthwise convolution, the quantizer in the middle, and a matrix product at each position."""
    x = context.quantize("in", x, layer.input_quantizer)
    constants = layer.constants()
    geometry = _geometry(layer.windows((None, *context.shape(x))), layer.convolution_groups)
    x = context.add("depthwise", "conv", x, **_kernel(layer, *constants["depthwise_kernel"]), **geometry)
    x = context.quantize("middle", x, layer.middle_quantizer)
    values, types = constants["kernel"]
    shape = values.shape[-2:]
    kernel = {"kernel": mantissas(values, types).reshape(shape), "kernel_types": types.reshape(shape)}
    return finish(context, layer, context.add("sum", "dense", x, **kernel, **_bias(constants)))


def _kernel(layer: Any, values: np.ndarray, types: FixedArray) -> dict[str, Any]:
    arranged = FixedArray(*(layer.as_convolution(a) for a in (types.signed, types.width, types.frac)))
    return {"kernel": layer.as_convolution(mantissas(values, types)), "kernel_types": arranged}


def _bias(constants: dict[str, tuple[np.ndarray, FixedArray]]) -> dict[str, Any]:
    if "bias" not in constants:
        return {}
    values, types = constants["bias"]
    return {"bias": mantissas(values, types), "bias_types": types}


def _geometry(windows: Windows, groups: int) -> dict[str, Any]:
    return {
        "strides": windows.strides,
        "padding": tuple(chain(*zip(windows.before, windows.after, strict=True))),
        "dilation": windows.dilation,
        "stretch": windows.stretch,
        "groups": (groups,),
    }
