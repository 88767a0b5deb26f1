"""Walks a Keras model and reads it into the IR, layer by layer. Whatever is not in HANDLERS is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from hgq.errors import ConversionError
from hgq.fixed import FixedType
from hgq.frontend import activation, norm, structure
from hgq.frontend.context import Context, RawInput, Unconvertible, Value
from hgq.frontend.dense import dense
from hgq.ir.check import check
from hgq.ir.graph import Graph
from hgq.layers import QActivation, QDense, QDenseBatchNorm

HANDLERS: dict[type, Callable[[Context, Any, Value], Value]] = {
    QDense: dense,
    QDenseBatchNorm: dense,
    QActivation: activation.q_activation,
    keras.layers.ReLU: activation.relu,
    keras.layers.Activation: activation.activation,
    keras.layers.BatchNormalization: norm.batch_normalization,
    keras.layers.Flatten: structure.flatten,
    keras.layers.Reshape: structure.reshape,
    keras.layers.Dropout: structure.identity,
    keras.layers.GaussianNoise: structure.identity,
    keras.layers.GaussianDropout: structure.identity,
    keras.layers.AlphaDropout: structure.identity,
    keras.layers.SpatialDropout1D: structure.identity,
    keras.layers.ActivityRegularization: structure.identity,
}
"""Exact class -> ``handler(context, layer, value read) -> value made``. A subclass may compute something else."""

INSTEAD = {
    "Dense": "use hgq.layers.QDense, which learns the widths of its weights and inputs",
    "Lambda": "write the function with supported layers, or run it in software",
}
"""What to use in place of a class that is not supported, by its name."""


def read_model(model: keras.Model, input_type: FixedType | None = None) -> Graph:
    """The IR of a built Sequential or functional model, at inference.

    Args:
        input_type: type of the input ports. By default a port has the type of the quantizer that reads it.

    Raises:
        ConversionError: with every reason for which the model cannot be converted.
    """
    functional = functional_of(model)
    shapes = input_shapes(model)
    context = Context(input_type, shapes)
    for name, shape in shapes.items():
        if None in shape or not shape:
            context.report(
                "Input", name, f"its shape is {shape}, but hardware needs every size", "give the model a full shape"
            )
    if context.problems:
        raise ConversionError(context.problems)
    values: dict[int, Value | None] = {
        id(t): RawInput(name, shape) for t, (name, shape) in zip(functional.inputs, shapes.items(), strict=True)
    }
    for operation, node, call in _calls(functional):
        values[id(node.output_tensors[0])] = _read(context, operation, node, call, values)
    outputs = []
    for t in functional.outputs:
        value = values[id(t)]
        if isinstance(value, RawInput):
            context.report("Model", model.name, f"its output is its input '{value.name}'", "add a quantised layer")
        elif value is not None:
            outputs.append(value.node)
    if context.problems:
        raise ConversionError(context.problems)
    missing = [name for name in shapes if name not in context.builder]
    if missing:
        context.report("Input", missing[0], "no layer reads it", "take it out of the model")
        raise ConversionError(context.problems)
    graph = context.builder.graph(*outputs)
    check(graph)
    return graph


def input_shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """Shape of each input without the batch axis, by the name of its Input, in the model's order."""
    return {t._keras_history.operation.name: tuple(t.shape[1:]) for t in functional_of(model).inputs}


def functional_of(model: keras.Model) -> Any:
    """The functional graph of a model."""
    if isinstance(model, keras.Sequential):
        if not model.built or model._functional is None:
            raise ConversionError(
                [
                    f"  - Sequential '{model.name}': it has not been built, so its shapes are unknown\n"
                    "      Fix: start it with keras.Input((features,)), or call it on data once."
                ]
            )
        return model._functional
    if isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth") and getattr(model, "inputs", None):
        return model
    raise ConversionError(
        [
            f"  - {type(model).__name__} '{getattr(model, 'name', '?')}': it is neither a Sequential nor a functional "
            "model, so its data flow cannot be read\n"
            "      Fix: build it with keras.Sequential([...]) or keras.Model(inputs, outputs)."
        ]
    )


def _calls(functional: Any) -> list[tuple[Any, Any, int]]:
    """Every call of a layer, in an order in which arguments come first: (layer, Keras node, how many calls before)."""
    inside = [
        node for depth in sorted(functional._nodes_by_depth, reverse=True) for node in functional._nodes_by_depth[depth]
    ]
    seen: dict[int, int] = {}
    calls = []
    for node in inside:
        if isinstance(node.operation, keras.layers.InputLayer):
            continue
        count = seen.get(id(node.operation), 0)
        seen[id(node.operation)] = count + 1
        calls.append((node.operation, node, count))
    return calls


def _read(context: Context, layer: Any, node: Any, call: int, values: dict[int, Value | None]) -> Value | None:
    """What one call of a layer makes; None if it, or what it reads, cannot be converted."""
    kind = type(layer).__name__
    context.origin = layer.name if not call else f"{layer.name}.{call + 1}"
    handler = HANDLERS.get(type(layer))
    if handler is None:
        supported = ", ".join(cls.__name__ for cls in HANDLERS)
        base = next((cls.__name__ for cls in type(layer).__mro__ if cls in HANDLERS), None)
        what = f"a subclass of {base} may compute something else" if base else "this layer is not supported"
        context.report(kind, layer.name, what, INSTEAD.get(kind, f"supported are {supported}"))
        return None
    arguments = [values.get(id(t)) for t in node.input_tensors]
    if None in arguments:
        return None
    try:
        _check_call(node)
        return handler(context, layer, *arguments)  # type: ignore[arg-type]
    except Unconvertible as reason:
        context.report(kind, layer.name, reason.what, reason.fix)
    except ValueError as reason:  # a layer's own complaint, such as weights that are NaN; it names the layer
        context.problems.append(f"  - {reason}")
    return None


def _check_call(node: Any) -> None:
    """Only ``layer(x)``: further arguments could change what the layer does."""
    if len(node.input_tensors) != 1:
        raise Unconvertible(f"it is called on {len(node.input_tensors)} tensors", "call it on one")
    extra = {name: value for name, value in node.arguments.kwargs.items() if value is not None}
    if len(node.arguments.args) > 1 or set(extra) - {"training", "mask"}:
        raise Unconvertible(f"it is called with further arguments {sorted(extra)}", "call it as layer(x)")
    if extra.get("training"):
        raise Unconvertible("it is called with training=True, so it never does inference", "leave training out")
    if extra.get("mask") is not None:
        raise Unconvertible("it is called with a mask", "leave the mask out")
