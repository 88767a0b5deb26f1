"""Operations on each element: what is done to them is put off until it is known what it is for (`settle`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx import shapes
from hgq.importers.qonnx.file import Node
from hgq.importers.qonnx.quant import quant_of
from hgq.importers.qonnx.settle import quantised
from hgq.importers.qonnx.value import Known, Step, Value, ranked


def quantise(build: Any, node: Node, given: list[Any]) -> Value:
    """Quant, IntQuant and BipolarQuant of data."""
    names = node.inputs[1:]
    constants = {n: one.value for n, one in zip(names, given[1:], strict=True) if isinstance(one, Known)}
    return quantised(build, given[0], quant_of(node, constants))


def _merge(kind: str) -> Callable:
    def handler(build: Any, node: Node, given: list[Any]) -> Value:
        left, right = given
        if isinstance(left, Value) and isinstance(right, Value):
            return _of_two(build, node, kind, left, right)
        value, known = (left, right) if isinstance(left, Value) else (right, left)
        constant = ranked(known.value.astype(np.float32), value.shape, "constant")
        first = value is left
        if kind == "Add":
            return value.then(Step(node, "add", (constant,)))
        if kind == "Sub":
            if first:
                return value.then(Step(node, "add", (-constant,)))
            minus = np.full((1,) * value.rank, np.float32(-1))
            return value.then(Step(node, "mul", (minus,))).then(Step(node, "add", (constant,)))
        if kind == "Mul":
            return value.then(Step(node, "mul", (constant,)))
        if not first or not constant.all():
            raise Unconvertible("it divides by a tensor or by 0", "multiply with a constant")
        return value.then(Step(node, "div", (constant,)))

    return handler


def _of_two(build: Any, node: Node, kind: str, left: Value, right: Value) -> Value:
    if kind not in ("Add", "Sub"):
        raise Unconvertible(
            "of two tensors it is not supported", "build the model with hgq.layers, which multiply tensors"
        )
    if left.shape[1:] != right.shape[1:]:
        raise Unconvertible(
            f"its tensors have the shapes {left.shape} and {right.shape}", "merge tensors of the same shape"
        )
    one, other = shapes.same_scale(build, [left, right])
    cls = keras.layers.Add if kind == "Add" else keras.layers.Subtract
    return Value.of(cls(name=build.name(node.name))([one.tensor, other.tensor]), one.axes, one.scale)


def _relu(build: Any, node: Node, given: list[Any]) -> Value:
    return given[0].then(Step(node, "relu"))


def _norm(build: Any, node: Node, given: list[Any]) -> Value:
    """Scale and offset in float32, in the order in which onnxruntime computes them."""
    value = given[0]
    if len(given) != 5 or not all(isinstance(one, Known) for one in given[1:]):
        raise Unconvertible("its statistics are no constants", "export the model in evaluation mode")
    if node.get("training_mode", 0):
        raise Unconvertible("training_mode=1: it normalises with the batch", "export the model in evaluation mode")
    gamma, beta, mean, variance = (one.value.astype(np.float32) for one in given[1:])
    channels = value.shape[1]
    if any(a.shape != (channels,) for a in (gamma, beta, mean, variance)):
        raise Unconvertible(f"its statistics have shape {gamma.shape}, its channels are {channels}", "export it again")
    with np.errstate(all="ignore"):
        inverse = np.float32(1) / np.sqrt(variance + np.float32(node.get("epsilon", 1e-5)))
    scale = inverse * gamma
    offset = beta - mean * scale
    shape = (1, channels) + (1,) * (value.rank - 2)
    arrays = tuple(ranked(a.reshape(shape), value.shape, "normalisation") for a in (scale, offset))
    return value.then(Step(node, "norm", arrays))


def _softmax(build: Any, node: Node, given: list[Any]) -> Value:
    """At the end it changes no decision: it goes where the user says so."""
    value = given[0]
    axis = node.get("axis", -1 if build.file.opset >= 13 else 1)
    if not build.drop_softmax:
        raise Unconvertible(
            "softmax has no exact meaning in fixed point",
            "pass drop_softmax=True (in a command: --drop-softmax): the model then gives what enters the softmax, "
            "whose largest element is the same",
        )
    last = all(build.read[name] == (name in build.file.outputs) for name in node.outputs)
    if not last or axis % value.rank != value.rank - 1:
        raise Unconvertible(
            "softmax that other operations read, or not along the last axis, cannot be dropped",
            "export the model up to what enters it",
        )
    build.dropped = True
    return value


HANDLERS: dict[str, Callable[[Any, Node, list[Any]], Value]] = {
    "BatchNormalization": _norm,
    "Relu": _relu,
    "Add": _merge("Add"),
    "Sub": _merge("Sub"),
    "Mul": _merge("Mul"),
    "Div": _merge("Div"),
    "Softmax": _softmax,
}
