"""Windows of convolutions and poolings: pads, strides and dilations; the poolings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.linear import linear
from hgq.importers.passing import input_types
from hgq.importers.qonnx import layout, shapes
from hgq.importers.qonnx.file import Node
from hgq.importers.qonnx.quant import POWERS
from hgq.importers.qonnx.settle import settled
from hgq.importers.qonnx.value import Step, Value
from hgq.layers import QAveragePooling1D, QAveragePooling2D, QGlobalAveragePooling1D, QGlobalAveragePooling2D

MOST_PADS = 256
"""Zeros on one side of an axis."""


@dataclass(frozen=True)
class Window:
    """pads: of each spatial axis in front and behind."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    same: bool

    @classmethod
    def of(cls, node: Node, rank: int, size: tuple[int, ...] | None = None) -> Window:
        given = tuple(node.get("kernel_shape", size or ()))
        if len(given) != rank or (size is not None and given != tuple(size)):
            raise Unconvertible(f"kernel_shape={list(given)} does not fit it", "export it again")
        strides = tuple(node.get("strides", [1] * rank))
        dilations = tuple(node.get("dilations", [1] * rank))
        pads = tuple(node.get("pads", [0] * 2 * rank))
        auto = node.get("auto_pad", "NOTSET") or "NOTSET"
        whole = len(strides) == len(dilations) == rank and len(pads) == 2 * rank
        if not whole or min(given + strides + dilations) < 1 or min(pads) < 0:
            raise Unconvertible(
                f"its strides {strides}, dilations {dilations} or pads {pads} are wrong", "export again"
            )
        if max(pads) > MOST_PADS:
            raise Unconvertible(f"its pads are {pads}", f"pad with {MOST_PADS} zeros at most")
        if auto == "SAME_LOWER" or auto not in ("NOTSET", "VALID", "SAME_UPPER"):
            raise Unconvertible(f"auto_pad={auto} is not supported", "export with pads")
        if auto == "VALID":
            pads = (0,) * 2 * rank
        both = tuple((pads[n], pads[rank + n]) for n in range(rank))
        return cls(given, strides, dilations, both, auto == "SAME_UPPER")

    def padding(self, sizes: tuple[int, ...]) -> str | None:
        """Keras' word for these pads, for an input of these sizes; None where it has none."""
        if self.same:
            return "same"
        if not any(n for pad in self.pads for n in pad):
            return "valid"
        wanted = []
        for size, k, stride, dilation in zip(sizes, self.size, self.strides, self.dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            wanted.append((total // 2, total - total // 2))
        return "same" if tuple(wanted) == self.pads else None

    def padded(self, build: Any, node: Node, value: Value) -> tuple[Value, str]:
        """The value, with zeros around it where Keras has no word for that, and the word. Channels are last."""
        padding = self.padding(tuple(value.tensor.shape[1:-1]))
        return (value, padding) if padding is not None else (self.with_zeros(build, node, value), "valid")

    def with_zeros(self, build: Any, node: Node, value: Value) -> Value:
        """The value with zeros around it. Channels are last."""
        one = len(self.size) == 1
        layer = keras.layers.ZeroPadding1D if one else keras.layers.ZeroPadding2D
        pads = self.pads[0] if one else self.pads
        return replace(value, tensor=layer(pads, name=build.name(f"{node.name}_pad"))(value.tensor))


def _plain_window(node: Node, value: Value) -> Window:
    if value.rank not in (3, 4):
        raise Unconvertible(f"its input has shape {value.shape}", "pool over 1 or 2 dimensions")
    if node.get("ceil_mode", 0):
        raise Unconvertible("ceil_mode=1 is not supported", "export with ceil_mode=0")
    window = Window.of(node, value.rank - 2)
    if max(window.dilations) > 1:
        raise Unconvertible(f"dilations={window.dilations} are not supported", "pool without dilations")
    return window


def _by_channel(build: Any, value: Value) -> Value:
    """The value with nothing put off that differs from position to position, which windows mix."""
    if any(n > 1 for n in value.scale.shape[2:]):
        raise Unconvertible("it mixes positions whose scales differ and are no powers of two", POWERS)
    if any(n > 1 for step in value.steps for a in step.arrays for n in a.shape[2:]):
        return settled(build, value)
    return value


def _rising(build: Any, node: Node, value: Value) -> Value:
    """The value with steps that keep the order of elements; a channel in which they turn it is turned before."""
    sign = np.ones((1,) * value.rank, np.float32)
    for step in value.steps:
        sign = sign * np.where(step.factor < 0, np.float32(-1), np.float32(1))
    if (sign > 0).all():
        return value
    turn = Step(node, "mul", (sign,))
    turned = settled(build, replace(value, steps=(turn,)))
    return replace(turned, steps=(turn, *value.steps))


def _largest(build: Any, node: Node, given: list[Any]) -> Value:
    """What keeps the order of elements may as well be done to the largest only."""
    value = _by_channel(build, given[0])
    node.seen.add("storage_order")
    window = _plain_window(node, value)
    value = layout.spatial(build, _rising(build, node, value))
    padding = window.padding(tuple(value.tensor.shape[1:-1]))
    if padding is None:
        raise Unconvertible(f"pads={window.pads} are not those of Keras' 'same'", "pool without pads")
    cls = keras.layers.MaxPooling1D if value.rank == 3 else keras.layers.MaxPooling2D
    layer = cls(window.size, strides=window.strides, padding=padding, name=build.name(node.name))
    return replace(value, tensor=layer(value.tensor))


def _global_largest(build: Any, node: Node, given: list[Any]) -> Value:
    value = _by_channel(build, given[0])
    value = layout.spatial(build, _rising(build, node, value))
    cls = keras.layers.GlobalMaxPooling1D if value.rank == 3 else keras.layers.GlobalMaxPooling2D
    return replace(value, tensor=cls(keepdims=True, name=build.name(node.name))(value.tensor))


def _average(build: Any, node: Node, given: list[Any]) -> Value:
    value = _by_channel(build, given[0])
    window = _plain_window(node, value)
    value = layout.spatial(build, build.rounded(settled(build, value)))
    if window.padding(tuple(value.tensor.shape[1:-1])) != "valid":
        if not node.get("count_include_pad", 0) or window.same:
            raise Unconvertible("it does not count its pads", "average with count_include_pad=1, or without pads")
        value = window.with_zeros(build, node, value)
    node.seen.add("count_include_pad")
    cls = QAveragePooling1D if value.rank == 3 else QAveragePooling2D
    arguments = {"pool_size": window.size, "strides": window.strides, "name": build.name(node.name)}
    layer = linear(cls, arguments, tuple(value.tensor.shape), {}, input_types(build, value.tensor))
    if layer.halvings() is None:
        raise Unconvertible(
            f"it averages over {'x'.join(map(str, window.size))} elements, which ONNX divides in floating point",
            "use windows of 2, 4, 8 ... elements",
        )
    return replace(value, tensor=layer(value.tensor))


def _global_average(build: Any, node: Node, given: list[Any]) -> Value:
    """Over all positions. Where they are no power of two the division is left to the next quantizer."""
    value, keep = given[0], True
    if node.kind == "ReduceMean":
        over = shapes.axes_of(node, given, value.rank)
        keep = bool(node.get("keepdims", 1))
        if over is None or sorted(over) != list(range(2, value.rank)):
            raise Unconvertible(f"axes={over} are not supported", "average over all positions")
    if value.rank not in (3, 4):
        raise Unconvertible(f"its input has shape {value.shape}", "average over 1 or 2 dimensions")
    value = layout.spatial(build, build.rounded(settled(build, value)))
    count = int(np.prod(value.tensor.shape[1:-1]))
    name = build.name(node.name)
    rank = value.rank if keep else 2
    scale = value.scale.reshape(value.scale.shape[:2] + (1,) * (rank - 2))
    axes = value.axes if keep else (0, 1)
    if count & (count - 1):
        tensor = keras.ops.sum(value.tensor, axis=tuple(range(1, value.rank - 1)), keepdims=keep)
        tensor._keras_history.operation.name = name
        made = Value.of(tensor, axes, scale)
        return made.then(Step(node, "div", (np.full((1,) * rank, np.float32(count)),)))
    cls = QGlobalAveragePooling1D if value.rank == 3 else QGlobalAveragePooling2D
    arguments = {"keepdims": keep, "name": name}
    layer = linear(cls, arguments, tuple(value.tensor.shape), {}, input_types(build, value.tensor))
    return Value.of(layer(value.tensor), axes, scale)


HANDLERS: dict[str, Callable[[Any, Node, list[Any]], Value]] = {
    "MaxPool": _largest,
    "GlobalMaxPool": _global_largest,
    "AveragePool": _average,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _global_average,
}
