"""MatMul, Gemm and Conv with constant kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hgq.frontend.context import Unconvertible
from hgq.importers.linear import Constant, linear
from hgq.importers.passing import input_types
from hgq.importers.qonnx import layout
from hgq.importers.qonnx.file import Node
from hgq.importers.qonnx.quant import POWERS
from hgq.importers.qonnx.settle import settled
from hgq.importers.qonnx.value import Known, Step, Value, holding, ranked
from hgq.importers.qonnx.windows import Window
from hgq.importers.types import Types
from hgq.layers import QConv1D, QConv2D, QDense, QDepthwiseConv1D, QDepthwiseConv2D

BIASED = ("MatMul", "Gemm")


def with_biases(build: Any) -> list[Node]:
    """The nodes; an Add of a constant behind a product that nothing else reads has become the bias of that product."""
    nodes = {id(node): node for node in build.file.nodes}
    makers = {name: node for node in build.file.nodes for name in node.outputs}
    for node in build.file.nodes:
        product = next((makers[n] for n in node.inputs if n in makers and makers[n].kind in BIASED), None)
        if node.kind != "Add" or product is None or len(node.inputs) != 2 or len(product.inputs) != 2:
            continue
        before = product.outputs[0]
        other = next((name for name in node.inputs if name != before), before)
        constant = other in build.file.constants
        if constant and build.read[before] == 1 and build.file.constants[other].ndim <= 1:
            nodes[id(product)] = replace(product, inputs=[*product.inputs, other], outputs=list(node.outputs))
            del nodes[id(node)]
    return list(nodes.values())


def kernel_of(known: Any, move: Callable[[np.ndarray], np.ndarray]) -> Constant:
    """A kernel in our order of axes, in integers where its scales are no powers of two."""
    if not isinstance(known, Known):
        raise Unconvertible("its kernel is no constant", "build the model with hgq.layers, which multiply tensors")
    if known.types is not None:
        wanted = known.value if known.integers is None else known.integers

        def of_each(a: np.ndarray) -> np.ndarray:
            return move(np.broadcast_to(a, wanted.shape)) if a.size > 1 else a

        return Constant(_by_channel(known.types.each(of_each)), move(known.latent), move(wanted))
    types = holding(known.value)
    if types is None:
        raise Unconvertible(
            f"its kernel is not quantised: it holds {known.value.flat[0]:.6g}",
            "train with a weight quantizer (Brevitas: weight_quant), and leave the Quant nodes in",
        )
    wanted = move(known.value.astype(np.float32))
    return Constant(types, wanted, wanted)


def _by_channel(types: Types) -> Types:
    """One type for each index of the last axis, where all others share it."""
    first = types.each(lambda a: a[(slice(0, 1),) * (a.ndim - 1)])
    alike = all((getattr(types, n) == getattr(first, n)).all() for n in ("signed", "bits", "frac"))
    return first if alike else types


def _scale_of(known: Known, axis: int) -> np.ndarray:
    """The scales of a kernel that are no powers of two, one for each output channel, or one."""
    if known.scale is None:
        return np.ones(1)
    if any(n > 1 for k, n in enumerate(known.scale.shape) if k != axis):
        raise Unconvertible(
            f"its kernel's scale has shape {known.scale.shape}: inputs of one sum have different scales", POWERS
        )
    return known.scale.reshape(-1)


@dataclass(frozen=True)
class Product:
    """A layer of ours. scale: of the kernel, one or one for each output; channel: ONNX' axis of the outputs."""

    cls: type
    arguments: dict[str, Any]
    kernel: Constant
    scale: np.ndarray
    channel: int


def _product(build: Any, node: Node, value: Value, product: Product, bias: Any) -> Value:
    """Our layer on a value that is settled and in our order of axes; a bias that it cannot hold is a step behind it."""
    if value.scale.size > 1:
        raise Unconvertible(
            "its input has a scale for each channel that is no power of two, which it would have to add up", POWERS
        )
    shape = [1] * value.rank
    shape[product.channel] = product.scale.size
    left = value.scale.reshape((1,) * value.rank) * product.scale.reshape(shape)
    parts = {"kernel": product.kernel}
    step = None
    if bias is not None:
        if not isinstance(bias, Known):
            raise Unconvertible("its bias is no constant", "export the model in evaluation mode")
        found = _bias(bias) if (left == 1).all() else None
        if found is not None:
            parts["bias"] = found
        else:
            shape[product.channel] = bias.value.size
            held = bias.value.astype(np.float32).reshape(shape)
            step = Step(node, "add", (held,))
    name = build.name(node.name)
    given = input_types(build, value.tensor)
    arguments = product.arguments | {"name": name, "use_bias": "bias" in parts}
    tensor = linear(product.cls, arguments, tuple(value.tensor.shape), parts, given)(value.tensor)
    made = Value.of(tensor, value.axes, left)
    if step is None:
        return made
    ranked(step.arrays[0], made.shape, "bias")
    return made.then(step)


def _bias(bias: Known) -> Constant | None:
    """As part of the layer; None where no few bits hold it."""
    value = bias.value.astype(np.float32).reshape(-1)
    if bias.types is not None and bias.scale is None:
        return Constant(bias.types.each(np.ravel), bias.latent.astype(np.float32).reshape(-1), value)
    types = holding(value)
    return None if types is None else Constant(types, value, value)


def _matrix(build: Any, node: Node, given: list[Any]) -> Value:
    """MatMul of a tensor and a matrix, with a bias where one was added; Gemm."""
    value, known = given[0], given[1]
    bias = given[2] if len(given) > 2 else None
    if not isinstance(value, Value) or not isinstance(known, Known):
        raise Unconvertible("it does not multiply a tensor with a constant matrix", "put the constant on the right")
    if node.get("transB", 0):
        known = known.moved(np.transpose)
    for name in ("alpha", "beta"):
        if node.get(name, 1.0) != 1.0:
            raise Unconvertible(f"{name}={node.get(name)} is not supported", f"export with {name}=1")
    if node.get("transA", 0) or known.value.ndim != 2 or (node.kind == "Gemm" and value.rank != 2):
        raise Unconvertible(f"its matrix has shape {known.value.shape}, or transA is set", "multiply with one matrix")
    if isinstance(bias, Known) and any(n > 1 for n in bias.value.shape[:-1]):
        raise Unconvertible(f"its bias of shape {bias.value.shape} differs from sample to sample", "use one for all")
    if value.shape[-1] != known.value.shape[0]:
        raise Unconvertible(f"its matrix {known.value.shape} does not fit the tensor {value.shape}", "export it again")
    value = layout.in_order(build, build.rounded(settled(build, value)))
    kernel, scale = kernel_of(known, lambda a: a), _scale_of(known, 1)
    if bias is not None and isinstance(bias, Known) and bias.value.size == 1 != known.value.shape[1]:
        bias = Known(np.full(known.value.shape[1], bias.value.flat[0]))
    product = Product(QDense, {"units": int(known.value.shape[1])}, kernel, scale, value.rank - 1)
    return _product(build, node, value, product, bias)


def _conv(build: Any, node: Node, given: list[Any]) -> Value:
    value, known = given[0], given[1]
    bias = given[2] if len(given) > 2 else None
    if not isinstance(value, Value) or not isinstance(known, Known) or value.rank not in (3, 4):
        raise Unconvertible("it is no convolution of 1 or 2 dimensions with a constant kernel", "use Conv1d or Conv2d")
    window = Window.of(node, value.rank - 2, known.value.shape[2:])
    groups, (out, each) = int(node.get("group", 1)), known.value.shape[:2]
    channels = int(value.shape[1] or 0)
    if groups < 1 or each * groups != channels or out % groups or known.value.ndim != value.rank:
        raise Unconvertible(f"its kernel {known.value.shape} does not fit {channels} channels", "export it again")
    scale = _scale_of(known, 0)
    value = layout.spatial(build, build.rounded(settled(build, value)))
    value, padding = window.padded(build, node, value)
    one = value.rank == 3
    arguments: dict[str, Any] = {
        "kernel_size": window.size, "strides": window.strides, "padding": padding, "dilation_rate": window.dilations,
    }  # fmt: skip
    spatial = tuple(range(2, value.rank))
    if groups == channels > 1 and len(set(window.strides)) == 1:
        multiplier = out // groups

        def move(a: np.ndarray) -> np.ndarray:
            a = a.reshape(groups, multiplier, *a.shape[2:])
            return np.transpose(a, (*spatial, 0, 1))

        cls: type = QDepthwiseConv1D if one else QDepthwiseConv2D
        arguments["depth_multiplier"] = multiplier
    else:

        def move(a: np.ndarray) -> np.ndarray:
            return np.transpose(a, (*spatial, 1, 0))

        cls = QConv1D if one else QConv2D
        arguments |= {"filters": out, "groups": groups}
    return _product(build, node, value, Product(cls, arguments, kernel_of(known, move), scale, 1), bias)


HANDLERS: dict[str, Callable[[Any, Node, list[Any]], Value]] = {"MatMul": _matrix, "Gemm": _matrix, "Conv": _conv}
