"""What products cost that no layer of ours makes: those of Keras' Multiply and Dot and of keras.ops.

Their operands come from quantizers of our layers, whose widths they are priced by. Each product belongs to one such
layer, its payer, which adds the price to its own: Keras' layers add nothing to the loss.

A product whose operand comes out of a model inside the model, or is no quantised tensor, has no price here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from hgq.quantizers import Quantizer
from hgq.quantizers.exact import Tensor

Measure = Callable[[Quantizer, tuple[int, ...], bool], Tensor]
"""``(quantizer, shape, whether the sign counts) -> bits of each element``."""

PRODUCTS = {"Multiply", "Square", "Dot", "Einsum", "Matmul"}
RECTIFIERS = {"ReLU", "Relu", "Relu6"}
IDENTITIES = {"Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout"}
MOVES = set(
    "Flatten Reshape Permute RepeatVector ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D UpSampling1D UpSampling2D "
    "Concatenate GetItem Take Transpose ExpandDims Squeeze Flip Roll Repeat Swapaxes Moveaxis Stack Split BroadcastTo "
    "Tile Ravel Copy Pad".split()
)
"""Keras' layers and operations by class name. Moves do to widths what they do to values."""


def trained(quantizer: Quantizer, shape: tuple[int, ...], sign: bool) -> Tensor:
    """Differentiable bits."""
    return ops.broadcast_to(quantizer.bits(sign=sign), shape)


def exact(quantizer: Quantizer, shape: tuple[int, ...], sign: bool) -> Tensor:
    """Bits of the exact types."""
    types = quantizer.types(shape)
    return ops.convert_to_tensor((types.width - (0 if sign else types.signed)).astype("float32"))


def products_price(layer: Any, measure: Measure) -> Tensor:
    """Width x width, summed over all products that `layer` pays for; those after all of its calls together."""
    prices = [ops.sum(_price(node, measure)) for node in _products(layer) if _payer(node) is layer]
    return sum(prices, ops.zeros(()))


def _products(layer: Any) -> list[Any]:
    """The nodes of products that read what `layer` gives, through operations that keep it quantised."""
    found: dict[int, Any] = {}
    todo = list(layer._outbound_nodes)
    while todo:
        node = todo.pop()
        name = kind(node)
        if name in PRODUCTS:
            found[id(node)] = node
        elif name in MOVES | RECTIFIERS | IDENTITIES:
            todo += node.operation._outbound_nodes
    return list(found.values())


def kind(node: Any) -> str:
    """The class name of an operation of Keras' own; others are not known by their names."""
    made = type(node.operation)
    return made.__name__ if made.__module__.startswith("keras.src.") else ""


def _payer(node: Any) -> Any:
    """The first layer of ours that an operand comes from."""
    for tensor in node.input_tensors:
        operation = tensor._keras_history.operation
        if hasattr(operation, "output_bits"):
            return operation
        before = operation._inbound_nodes[tensor._keras_history.node_index]
        if kind(before) in MOVES | RECTIFIERS | IDENTITIES and (payer := _payer(before)) is not None:
            return payer
    return None


def _price(node: Any, measure: Measure) -> Tensor:
    widths = [w for tensor in node.input_tensors if (w := _widths(tensor, measure, True)) is not None]
    name = kind(node)
    if len(widths) < len(node.input_tensors) or (name != "Square" and len(widths) < 2):
        return ops.zeros(())
    if name == "Multiply":  # of three: the product of the first two is as wide as both together
        total, wide = ops.zeros(()), widths[0]
        for w in widths[1:]:
            total, wide = total + ops.sum(wide * w), wide + w
        return total
    # Products are linear in each operand: that of widths is the sum of all prices.
    return _run(node, widths)


def _widths(tensor: Any, measure: Measure, sign: bool) -> Tensor | None:
    """Bits of each element of a symbolic tensor, with a batch axis of 1; None where no quantizer says it."""
    operation, index, place = tensor._keras_history
    if hasattr(operation, "output_bits"):
        bits = operation.output_bits(measure, sign)
        return None if bits is None else ops.expand_dims(bits, 0)
    node = operation._inbound_nodes[index]
    name = kind(node)
    if name in RECTIFIERS | IDENTITIES:
        return _widths(node.input_tensors[0], measure, sign and name not in RECTIFIERS)
    if name not in MOVES:
        return None
    widths = [_widths(one, measure, sign) for one in node.input_tensors]
    if any(w is None for w in widths):
        return None
    made = _run(node, widths)
    return made[place] if isinstance(made, list | tuple) else made


def _run(node: Any, values: list[Tensor]) -> Any:
    """What the operation of `node` makes of other tensors."""
    given = {id(tensor): value for tensor, value in zip(node.input_tensors, values, strict=True)}
    args, kwargs = node.arguments.fill_in(given)
    return node.operation(*args, **kwargs)


def exact_price(layer: Any) -> int:
    """`products_price` by exact types."""
    return round(float(np.asarray(ops.convert_to_numpy(products_price(layer, exact)), np.float64)))
