"""What stands between layers and costs LUTs: rectifiers, limits, poolings, merges. Priced by the layer that quantises
behind them, since what is never read costs nothing.

The way back from a layer's input is that of a model's graph; a layer that is in none pays for nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from keras import ops

from hgq.fixed import Overflow
from hgq.layers.luts import COMPARED
from hgq.layers.price import IDENTITIES, MOVES, RECTIFIERS, kind
from hgq.quantizers import Quantizer
from hgq.quantizers.exact import Tensor

UNREAD = 6.0
"""Bits that a number has before it is quantised beyond those that are kept."""
SUMS = {"Add": 1.0, "Subtract": 1.0, "Average": 1.0, "Maximum": COMPARED, "Minimum": COMPARED}
"""Merges of Keras: LUTs for each bit, for each tensor but the first."""
SLOPES = {"LeakyReLU", "LeakyRelu", "PReLU"}
"""A product with a constant, then a maximum."""
SLOPE_ADDERS = 2.0


def limits(quantizer: Quantizer, widths: Tensor) -> Tensor:
    """LUTs of bringing numbers into the range of `quantizer`: one for each bit that is kept, none where it wraps."""
    return ops.sum(widths) if quantizer.overflow != Overflow.WRAP else ops.zeros((), widths.dtype)


def arrival(layer: Any, place: int, quantizer: Quantizer, widths: Tensor) -> Tensor:
    """LUTs of all that lies between other quantised layers and `quantizer`, which reads an input of `layer`.

    Args:
        place: which of the inputs.
        widths: bits of each element of the input, once quantised.
    """
    total = ops.zeros((), widths.dtype) if _is_port(layer, place) else limits(quantizer, widths)
    mean = ops.mean(widths)
    for bits_each, elements in _between(layer, place):
        if elements is None:
            total = total + bits_each * ops.sum(widths)
        else:
            total = total + bits_each * elements * (mean + UNREAD)
    return total


def _tensors(layer: Any, place: int) -> list[Any]:
    """The symbolic tensor that a layer reads there, in its first call; none where it is in no graph."""
    return [tensor for node in layer._inbound_nodes[:1] for tensor in node.input_tensors[place : place + 1]]


def _is_port(layer: Any, place: int) -> bool:
    """Whether an input of `layer` is one of the model: its quantizer is then the port's, and the host's work."""
    made_by = [tensor._keras_history.operation._inbound_nodes[0] for tensor in _tensors(layer, place)]
    return [kind(node) for node in made_by] == ["InputLayer"]


def _between(layer: Any, place: int) -> Iterator[tuple[float, float | None]]:
    """(LUTs for each bit, elements; None for those of the input itself), of each operation on the way."""
    todo = [(tensor, 1.0) for tensor in _tensors(layer, place)]
    seen: set[int] = set()
    while todo:
        tensor, part = todo.pop()
        operation, index, _ = tensor._keras_history
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        if hasattr(operation, "luts"):
            if operation.output_quantizer is None and operation.rectifies:
                yield part, None
            continue
        node = operation._inbound_nodes[index]
        before = node.input_tensors
        # Others that read it pay their part; not those of other calls, such as a Sequential model makes when it grows.
        part /= max(sum(any(one is tensor for one in n.input_tensors) for n in operation._outbound_nodes), 1)
        name = kind(node)
        if name in RECTIFIERS:
            yield part, None
        elif name in SLOPES:
            yield part * (COMPARED + SLOPE_ADDERS), _elements(tensor)
        elif name in SUMS:
            yield part * SUMS[name] * (len(before) - 1), _elements(tensor)
        elif "Pooling" in name or name in ("MaxPool", "AveragePool"):
            joined = _elements(before[0]) / _elements(tensor)
            if getattr(operation, "pool_size", None) is not None:
                joined = float(math.prod(operation.pool_size))
            yield part * (COMPARED if "Max" in name else 1.0) * (joined - 1.0), _elements(tensor)
        elif name not in MOVES | IDENTITIES:
            continue
        todo += [(one, part) for one in before]


def _elements(tensor: Any) -> float:
    """Elements of a symbolic tensor, without its batch axis."""
    return float(math.prod(size or 1 for size in tensor.shape[1:]))
