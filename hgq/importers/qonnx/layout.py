"""The order of axes on both sides: channels first in ONNX, last in ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx.value import Step, Value


def arranged(build: Any, value: Value, axes: Sequence[int]) -> Value:
    """The value with our axes in that order of ONNX' axes. Axes of size 1 are moved without a permutation."""
    axes = tuple(axes)
    if axes == value.axes:
        return value
    sizes = value.shape
    name = build.name("layout")
    if [a for a in axes[1:] if sizes[a] != 1] == [a for a in value.axes[1:] if sizes[a] != 1]:
        layer = keras.layers.Reshape(tuple(int(sizes[a]) for a in axes[1:]), name=name)
    else:
        layer = keras.layers.Permute(tuple(value.axes.index(a) for a in axes[1:]), name=name)
    return replace(value, tensor=layer(value.tensor), axes=axes)


def spatial(build: Any, value: Value) -> Value:
    """The value as our convolutions and poolings take it: channels, which are axis 1 in ONNX, last."""
    return arranged(build, value, (0, *range(2, value.rank), 1))


def in_order(build: Any, value: Value) -> Value:
    """The value in ONNX' own order of axes."""
    return arranged(build, value, tuple(range(value.rank)))


def channels_last(build: Any, value: Value, arrays: list[np.ndarray], step: Step) -> tuple[Value, int]:
    """The value with the axis last along which the arrays differ, and that axis, in ONNX' order."""
    axes = {axis for array in arrays for axis, size in enumerate(array.shape) if size > 1}
    if len(axes) > 1:
        raise Unconvertible(
            f"{step.node.kind} '{step.node.name}' has constants of shape {step.arrays[0].shape}: they differ from "
            "position to position",
            "use constants for each channel",
        )
    axis = axes.pop() if axes else value.axes[-1]
    if value.axes[-1] != axis:
        value = arranged(build, value, (*(a for a in value.axes if a != axis), axis))
    return value, axis
