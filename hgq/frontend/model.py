"""Walks a Keras model and reads it into the IR, layer by layer. Whatever is not in HANDLERS is refused."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import keras

from hgq.errors import ConversionError, problem
from hgq.fixed import FixedArray, FixedType
from hgq.frontend.context import Context, RawInput, Unconvertible, Value
from hgq.frontend.early import check_early
from hgq.frontend.handlers import ARGUMENTS, HANDLERS, INSTEAD, SEVERAL
from hgq.frontend.operation import INSTEAD as OPERATIONS_INSTEAD
from hgq.frontend.operation import OPERATIONS
from hgq.ir.check import check
from hgq.ir.graph import Graph
from hgq.layers.base import DTYPES, QLayer


def read_model(model: keras.Model, input_type: FixedType | None = None) -> Graph:
    """The IR of a built Sequential or functional model, at inference.

    Args:
        input_type: type of the input ports. By default a port has the type of the quantizer that reads it.

    Raises:
        ConversionError: with every reason for which the model cannot be converted.
    """
    return read_with_context(model, input_type)[0]


def read_with_context(model: keras.Model, input_type: FixedType | None = None) -> tuple[Graph, Context]:
    """As `read_model`, with what was found on the way."""
    functional = functional_of(model)
    shapes = input_shapes(model)
    check_early(functional, model.name, shapes)
    context = Context(input_type, shapes)
    raw = [RawInput(name, shape) for name, shape in shapes.items()]
    outputs = []
    for value in _walk(context, functional, raw, ""):
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
    # Ports stand in the order of the model's inputs, not in that of the layers that read them.
    nodes = {name: graph[name] for name in shapes} | dict(graph.nodes)
    graph = Graph(nodes, tuple(shapes), graph.outputs)
    check(graph)
    return graph, context


def input_shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """Shape of each input without the batch axis, by the name of its Input, in the model's order."""
    tensors = functional_of(model).inputs
    shapes = {t._keras_history.operation.name: tuple(t.shape[1:]) for t in tensors}
    if len(shapes) < len(tensors):
        names = [t._keras_history.operation.name for t in tensors]
        twice = next(name for name in shapes if names.count(name) > 1)
        raise ConversionError([problem("Input", twice, "the model lists it more than once", "list every input once")])
    return shapes


def functional_of(model: keras.Model) -> Any:
    """The functional graph of a model.

    Raises:
        ConversionError: it has none, or its class computes something else than the graph says.
    """
    own = _own_call(model)
    if own is not None:
        raise ConversionError(
            [
                f"  - {type(model).__name__} '{model.name}': it has a {own}() of its own, which may compute something "
                "else than its layers say\n"
                f"      Fix: build it with keras.Sequential([...]) or keras.Model(inputs, outputs), without {own}()."
            ]
        )
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


def _own_call(model: Any) -> str | None:
    """The method in which a class with a graph departs from it, if there is one; Keras' own follow the graph."""
    if getattr(model, "_functional", None) is None and not hasattr(model, "_nodes_by_depth"):
        return None
    for name in ("call", "__call__"):
        home = next(cls for cls in type(model).__mro__ if name in vars(cls))
        if name in vars(model) or not home.__module__.startswith("keras."):
            return name
    return None


def calls_of(functional: Any) -> list[tuple[Any, Any, int]]:
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


def call_name(functional: Any, operation: Any, call: int) -> str:
    """What a call of a layer is called: ``dense``, then ``dense.2`` ..., unless another layer has that name."""
    name = f"{operation.name}.{call + 1}" if call else operation.name
    taken = {one.name for one in functional.operations if one is not operation}
    while name in taken:
        name += "_"
    return name


class Reader:
    """Reads a model while it is under construction: what is behind it already is read once.

    Args:
        inputs: the tensors of keras.Input.
        input_type: as for `read_model`.
    """

    def __init__(self, inputs: Sequence[Any], input_type: FixedType | None = None):
        self._inputs = list(inputs)
        shapes = {t._keras_history.operation.name: tuple(t.shape[1:]) for t in inputs}
        self._context = Context(input_type, shapes)
        self._values: dict[int, Value | None] = {
            id(t): RawInput(name, shapes[name]) for t, name in zip(inputs, shapes, strict=True)
        }

    def types(self, tensor: Any) -> FixedArray:
        """The types of a tensor that is made of the inputs.

        Raises:
            ConversionError: with every reason for which it cannot be converted.
        """
        functional = keras.Model(_sources(tensor), tensor)
        for operation, node, call in calls_of(functional):
            if any(id(t) not in self._values for t in node.output_tensors):
                name = call_name(functional, operation, call)
                made = _read(self._context, operation, node, name, self._values)
                self._values |= {id(t): value for t, value in zip(node.output_tensors, made, strict=True)}
        value = self._values[id(tensor)]
        if self._context.problems or value is None:
            raise ConversionError(self._context.problems)
        return self._context.builder[self._context.quantised(value).node].types


def _sources(tensor: Any) -> list[Any]:
    """The model inputs that a tensor is made of."""
    found, todo, seen = [], [tensor], set()
    while todo:
        t = todo.pop()
        if id(t) not in seen:
            seen.add(id(t))
            read = t._keras_history.operation._inbound_nodes[t._keras_history.node_index].input_tensors
            todo += read
            found += [] if read else [t]
    return found[::-1]


def _walk(context: Context, functional: Any, given: Sequence[Value | None], prefix: str) -> list[Value | None]:
    """What a functional graph makes of its inputs; None for what cannot be converted."""
    values: dict[int, Value | None] = {id(t): v for t, v in zip(functional.inputs, given, strict=True)}
    for operation, node, call in calls_of(functional):
        name = prefix + call_name(functional, operation, call)
        made = _read(context, operation, node, name, values)
        for t, value in zip(node.output_tensors, made, strict=True):
            values[id(t)] = value
    return [values[id(t)] for t in functional.outputs]


def _read(context: Context, part: Any, node: Any, origin: str, values: dict[int, Value | None]) -> list[Value | None]:
    """What one call of a layer, an operation or a model inside the model makes; None for what cannot be converted."""
    kind = type(part).__name__
    nothing: list[Value | None] = [None] * len(node.output_tensors)
    arguments = [values.get(id(t)) for t in node.input_tensors]
    inner = isinstance(part, keras.Model)
    known = inner or (kind in OPERATIONS if _is_operation(part) else type(part) in HANDLERS)
    if not known:
        context.report(kind, origin, *_unknown(part, kind))
        return nothing
    if any(value is None for value in arguments):
        return nothing
    context.origin = origin
    try:
        if inner:
            if any(isinstance(one, dict) for one in node.arguments.args):
                raise Unconvertible("it is called on a dict", "call it on a list, in the order of its inputs")
            _check_call(node)
            return _inside(context, part, arguments, origin)
        if _is_operation(part):
            args, kwargs = _symbols(node.arguments.args, values), _symbols(node.arguments.kwargs, values)
            made = OPERATIONS[kind](context, part, *args, **kwargs)
        elif type(part) in ARGUMENTS:
            made = HANDLERS[type(part)](context, part, **_arguments(part, node, values))
        else:
            _check_call(node)
            _check_dtype(part)
            if len(arguments) != 1 and type(part) not in SEVERAL:
                raise Unconvertible(f"it is called on {len(arguments)} tensors", "call it on one")
            if isinstance(part, QLayer) and type(part) not in SEVERAL:
                context.check_shape(arguments[0], part.input_shape_)
            made = HANDLERS[type(part)](context, part, *arguments)
        return list(made) if isinstance(made, list) else [made]
    except Unconvertible as reason:
        context.report(kind, origin, reason.what, reason.fix)
    except ValueError as reason:  # a layer's own complaint, such as weights that are NaN; it names the layer
        context.problems.append(f"  - {reason}")
    return nothing


def _check_dtype(layer: Any) -> None:
    """Refuses a layer of Keras' own in half precision: it would round even what it only moves."""
    if layer.compute_dtype not in DTYPES:
        raise Unconvertible(
            f"its dtype policy {layer.dtype_policy.name!r} rounds what the hardware keeps exact",
            'pass dtype="float32" to it, or make the model under keras.config.set_dtype_policy("float32")',
        )


def _is_operation(part: Any) -> bool:
    """Whether this is a function of keras.ops; those classes are not exported, so their home must do."""
    return type(part).__module__.startswith("keras.src.ops.")


def _unknown(part: Any, kind: str) -> tuple[str, str]:
    if _is_operation(part):
        what = f"keras.ops has no form in hardware for {kind} yet"
        return what, OPERATIONS_INSTEAD.get(kind, f"supported are {', '.join(OPERATIONS)}")
    supported = ", ".join(cls.__name__ for cls in HANDLERS)
    base = next((cls.__name__ for cls in type(part).__mro__ if cls in HANDLERS), None)
    what = f"a subclass of {base} may compute something else" if base else "this layer is not supported"
    return what, INSTEAD.get(kind, f"supported are {supported}")


def _inside(context: Context, model: Any, given: list[Any], origin: str) -> list[Value | None]:
    """A model as a layer of another; its layers are called ``model/layer``."""
    functional = functional_of(model)
    shapes = [tuple(t.shape[1:]) for t in functional.inputs]
    if [context.shape(value) for value in given] != shapes:
        raise Unconvertible(
            f"it is called on tensors of shapes {[context.shape(v) for v in given]}, and made for {shapes}",
            "call it with what its inputs say, in their order",
        )
    return _walk(context, functional, given, f"{origin}/")


def _symbols(arguments: Any, values: dict[int, Value | None]) -> Any:
    """The arguments of a call with our values in place of Keras' tensors."""
    if isinstance(arguments, keras.KerasTensor):
        return values[id(arguments)]
    if isinstance(arguments, list | tuple):
        return type(arguments)(_symbols(one, values) for one in arguments)
    if isinstance(arguments, dict):
        return {name: _symbols(one, values) for name, one in arguments.items()}
    return arguments


def _arguments(part: Any, node: Any, values: dict[int, Value | None]) -> dict[str, Any]:
    """The tensors that a layer of ARGUMENTS is called on, by their names; whatever else it is given is refused."""
    names = ARGUMENTS[type(part)]
    given = dict(zip(names, node.arguments.args, strict=False)) | node.arguments.kwargs
    tensors = {name: value for name, value in given.items() if name in names and value is not None}
    extra = {name: value for name, value in given.items() if name not in names}
    _check_call(SimpleNamespace(arguments=SimpleNamespace(args=(), kwargs=extra)))
    if not all(isinstance(value, keras.KerasTensor) for value in tensors.values()):
        raise Unconvertible("it is called on constants", "give it tensors of the model only")
    return _symbols(tensors, values)


def _says(argument: Any) -> bool:
    """Whether an argument is there: Keras passes ``mask=[None, None]`` where nothing is masked."""
    return argument is not None and not (isinstance(argument, list | tuple) and all(a is None for a in argument))


def _check_call(node: Any) -> None:
    """Only ``layer(x)``: further arguments could change what the layer does."""
    extra = {name: value for name, value in node.arguments.kwargs.items() if _says(value)}
    if len(node.arguments.args) > 1 or set(extra) - {"training", "mask"}:
        raise Unconvertible(f"it is called with further arguments {sorted(extra)}", "call it as layer(x)")
    if extra.get("training"):
        raise Unconvertible("it is called with training=True, so it never does inference", "leave training out")
    if extra.get("mask") is not None:
        raise Unconvertible("it is called with a mask", "leave the mask out")
