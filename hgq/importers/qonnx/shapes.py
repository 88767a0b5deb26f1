"""Operations that only move elements, and those that merge tensors.

A Transpose costs nothing: it is remembered which axis is which. Reshape and Flatten mean the order of ONNX, so there
the axes are put back first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx.file import Node
from hgq.importers.qonnx.layout import arranged, in_order
from hgq.importers.qonnx.settle import settled
from hgq.importers.qonnx.value import Known, Value

BATCH = -1_000_003
"""Stands for a free batch size in shapes that are computed in the graph; arithmetic on it gives something else."""


def _transpose(build: Any, node: Node, given: list[Any]) -> Value:
    (value,) = given
    order = list(node.get("perm", list(range(value.rank))[::-1]))
    if sorted(order) != list(range(value.rank)) or order[0] != 0:
        raise Unconvertible(f"perm={order} moves the batch axis", "leave axis 0 where it is")
    steps = tuple(replace(step, arrays=tuple(np.transpose(a, order) for a in step.arrays)) for step in value.steps)
    axes = tuple(order.index(axis) for axis in value.axes)
    return replace(value, axes=axes, scale=np.transpose(value.scale, order), steps=steps)


def _whole(build: Any, value: Value) -> Value:
    """In ONNX' order, with nothing put off that differs from element to element."""
    if not value.scale.size == 1:
        raise Unconvertible(
            "it mixes channels whose scales differ and are no powers of two", "use one scale for the tensor"
        )
    if not all(a.size == 1 for step in value.steps for a in step.arrays):
        value = settled(build, value)
    return in_order(build, value)


def _reshaped(build: Any, node: Node, value: Value, shape: Sequence[int]) -> Value:
    """shape: without the batch."""
    value = _whole(build, value)
    tensor = keras.layers.Reshape(tuple(shape), name=build.name(node.name))(value.tensor)
    rank = 1 + len(shape)
    steps = tuple(replace(s, arrays=tuple(a.reshape((1,) * rank) for a in s.arrays)) for s in value.steps)
    return Value(tensor, tuple(range(rank)), value.scale.reshape((1,) * rank), steps, value.raw)


def _reshape(build: Any, node: Node, given: list[Any]) -> Value:
    value, wanted = given[0], given[1] if len(given) > 1 else None
    if not isinstance(value, Value) or not isinstance(wanted, Known) or wanted.value.ndim != 1:
        raise Unconvertible("its shape is no constant", "fold it: qonnx-cleanup")
    sizes, target = value.shape, [int(n) for n in wanted.value]
    if not node.get("allowzero", 0):
        target = [BATCH if n == 0 and k == 0 else int(sizes[k]) if n == 0 else n for k, n in enumerate(target)]
    total = int(np.prod(sizes[1:]))
    first, rest = (target[0], target[1:]) if target else (None, [])
    batch = build.file.inputs[0].shape[0]
    if first not in (BATCH, -1, batch) or rest.count(-1) > (first != -1) or any(n < -1 or n == 0 for n in rest):
        raise Unconvertible(
            f"its shape {target} does not keep the batch axis", "let the first size be that of the input"
        )
    known = int(np.prod([n for n in rest if n != -1]))
    if total % known or (-1 not in rest and known != total):
        raise Unconvertible(f"its shape {target} does not hold {total} elements a sample", "keep the batch axis")
    return _reshaped(build, node, value, [total // known if n == -1 else n for n in rest])


def _flatten(build: Any, node: Node, given: list[Any]) -> Value:
    value = given[0]
    if node.get("axis", 1) not in (1, 1 - value.rank):
        raise Unconvertible(f"axis={node.get('axis')} is not supported", "flatten all axes but the batch (axis=1)")
    return _reshaped(build, node, value, [int(np.prod(value.shape[1:]))])


def _squeeze(build: Any, node: Node, given: list[Any]) -> Value:
    value = given[0]
    axes = axes_of(node, given, value.rank)
    if axes is None and build.file.inputs[0].shape[0] == 1:
        raise Unconvertible("it drops all axes of size 1, with them the batch", "name its axes")
    axes = [k for k, n in enumerate(value.shape) if k and n == 1] if axes is None else axes
    if 0 in axes or any(value.shape[k] != 1 for k in axes):
        raise Unconvertible(f"it drops the axes {axes} of {value.shape}", "drop axes of size 1 only, not the batch")
    return _reshaped(build, node, value, [int(n) for k, n in enumerate(value.shape) if k and k not in axes])


def _unsqueeze(build: Any, node: Node, given: list[Any]) -> Value:
    value = given[0]
    axes = axes_of(node, given, value.rank, more=True)
    if axes is None or 0 in axes:
        raise Unconvertible("it puts an axis in front of the batch", "leave axis 0 where it is")
    shape = [int(n) for n in value.shape[1:]]
    for axis in sorted(axes):
        shape.insert(axis - 1, 1)
    return _reshaped(build, node, value, shape)


def axes_of(node: Node, given: list[Any], rank: int, more: bool = False) -> list[int] | None:
    """The axes that an attribute names, or in newer versions an input; None for all.

    rank: of the tensor. more: they are counted in the result, which has them besides.
    """
    axes = node.get("axes")
    if len(given) > 1 and given[1] is not None:
        if not isinstance(given[1], Known):
            raise Unconvertible("its axes are no constant", "fold them: qonnx-cleanup")
        axes = given[1].value.ravel().tolist()
    return None if axes is None else [int(n) % (rank + more * len(axes)) for n in axes]


def same_scale(build: Any, values: list[Any]) -> list[Value]:
    """Tensors that are merged: settled, in one order of axes, with one scale."""
    if not all(isinstance(one, Value) for one in values):
        raise Unconvertible("it merges a tensor with a constant", "merge tensors of the model")
    exact = [build.rounded(settled(build, one)) for one in values]
    for one in exact[1:]:
        if one.rank != exact[0].rank or not np.array_equal(*np.broadcast_arrays(one.scale, exact[0].scale)):
            raise Unconvertible(
                f"it merges tensors whose scales {exact[0].scale.flat[0]:g} and {one.scale.flat[0]:g} are no powers of "
                "two and differ",
                "give what it reads the same quantizer, or scales that are powers of two",
            )
    return [arranged(build, one, exact[0].axes) for one in exact]


def _concat(build: Any, node: Node, given: list[Any]) -> Value:
    values = same_scale(build, given)
    axis = int(node.get("axis")) % values[0].rank
    if axis == 0 or values[0].scale.shape[axis] != 1:
        raise Unconvertible(f"axis={axis} is not supported here", "concatenate channels, with one scale")
    layer = keras.layers.Concatenate(axis=values[0].axes.index(axis), name=build.name(node.name))
    return replace(values[0], tensor=layer([one.tensor for one in values]))


def _same(build: Any, node: Node, given: list[Any]) -> Value:
    """Identity, and Dropout at inference."""
    training = given[2] if node.kind == "Dropout" and len(given) > 2 else None
    if isinstance(training, Value) or (training is not None and training.value.any()):
        raise Unconvertible("it drops elements (training_mode)", "export the model in evaluation mode")
    node.seen |= {"ratio", "seed"}
    return given[0]


HANDLERS: dict[str, Callable[[Any, Node, list[Any]], Value]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Identity": _same,
    "Dropout": _same,
}
