"""QEinsumDense, QEinsum, QDot: matrix products between rearrangements."""

from __future__ import annotations

from typing import Any

import numpy as np

from hgq.einsum import Einsum
from hgq.fixed import FixedArray
from hgq.frontend.activation import finish
from hgq.frontend.context import Context, Value, mantissas
from hgq.frontend.product import between


def einsum_dense(context: Context, layer: Any, x: Value) -> Value:
    """Input quantizer, einsum with the constants as the layer computes them, activation, output quantizer."""
    context.check_shape(x, layer.einsum.shape(layer.einsum.left))
    x = context.quantize("in", x, layer.input_quantizer)
    return finish(context, layer, _with_kernel(context, layer.einsum, x, layer.constants()))


def einsum(context: Context, layer: Any, left: Value, right: Value) -> Value:
    """QEinsum and QDot: both input quantizers, the products and their sums, activation, output quantizer."""
    for value, letters in ((left, layer.einsum.left), (right, layer.einsum.right)):
        context.check_shape(value, layer.einsum.shape(letters))
    left = context.quantize("left", left, layer.left_quantizer)
    right = context.quantize("right", right, layer.right_quantizer)
    return finish(context, layer, between(context, layer.einsum, left, right))


def _with_kernel(context: Context, e: Einsum, x: Value, constants: dict[str, Any]) -> Value:
    """A dense layer; where input, kernel and result share axes, a convolution of one tap with a group for each."""
    rows, groups, inner, columns = (e.count(part) for part in (e.rows, e.groups, e.inner, e.columns))
    values, types = constants["kernel"]
    place = e.places(e.right, e.inner, e.groups + e.columns)
    attrs: dict[str, Any] = {}
    if groups > 1:
        place = place[None]
        attrs |= {"strides": (1,), "padding": (0, 0), "dilation": (1,), "stretch": (1,), "groups": (groups,)}
    attrs |= {"kernel": mantissas(values, types).ravel()[place], "kernel_types": _picked(types, place)}
    place = e.places(e.out, e.rows, e.groups + e.columns)
    bias, each = None, False
    if "bias" in constants:
        values, types = constants["bias"]
        shape = e.shape(e.out)
        m, types = np.broadcast_to(mantissas(values, types), shape).ravel()[place], types.broadcast_to(shape)
        bias = m, _picked(types, place)
        # The same biases at every row belong to the matrix product; others are added after it.
        each = bool((m != m[0]).any()) or bias[1] != _picked(types, np.broadcast_to(place[0], place.shape))
        if not each:
            attrs |= {"bias": m[0], "bias_types": _picked(types, place[0])}
    x = context.take(e.places(e.left, e.rows, e.groups + e.inner), x)
    if rows == 1 and groups == 1:
        x = context.reshape(x, (inner,))
    y: Value = context.add("sum", "dense" if groups == 1 else "conv", x, **attrs)
    if bias is not None and each:
        y = context.reshape(y, (rows, groups * columns))
        one = np.ones(groups * columns, np.int64)
        y = context.add(
            "bias",
            "affine",
            y,
            scale=one,
            scale_types=FixedArray.holding(one, one, 0 * one),
            offset=bias[0],
            offset_types=bias[1],
        )
    return context.take(e.result_places(e.rows, e.groups + e.columns), y)


def _picked(types: FixedArray, place: np.ndarray) -> FixedArray:
    return FixedArray(*(part.ravel()[place] for part in (types.signed, types.width, types.frac)))
