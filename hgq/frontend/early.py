"""What is refused before anything is computed or written: names that no text can hold, inputs without hardware."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from hgq.errors import ConversionError, problem
from hgq.layers import QEmbedding
from hgq.layers.base import DTYPES

_WHOLE = ("int32", "int64")


def check_early(functional: Any, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Looks at the names, the input shapes and the input types of a functional graph.

    Names end up in comments of Verilog and C++, in reports and in the text of the integer graph. A line break in one
    would make a line of Verilog, so a name may hold printable characters only; any language's will do.

    Keras casts what a model is called on to the dtype of its Input, which for integers and half precision is a rounding
    that no type of the hardware says. Indices of `QEmbedding` may be integers: it cuts them to whole numbers itself.

    Args:
        functional: the functional graph. name: what the user calls the model. shapes: of the inputs, by name.

    Raises:
        ConversionError: naming every layer and input concerned.
    """
    problems = []
    for kind, one in [("Model", name), *_names(functional)]:
        bad = next((letter for letter in one if not letter.isprintable()), None)
        if bad is not None:
            what = f"its name holds the character U+{ord(bad):04X}, which cannot be printed"
            problems.append(problem(kind, ascii(one)[1:-1], what, "give it a name of printable characters"))
    for one, shape in shapes.items():
        if None in shape or 0 in shape or not shape:
            what = f"its shape is {shape}, but hardware needs every size"
            problems.append(problem("Input", one, what, "give the model a full shape"))
    for one, dtype in _casting(functional):
        what = f"its dtype is {dtype}, so Keras rounds what it is given, which hardware would not"
        fix = (
            "make it float32, which holds whole numbers up to 16,777,216 exactly; for a trained model:\n"
            f"      twin = keras.models.clone_model(model, input_tensors=keras.Input(shape, name={one!r}))\n"
            "      twin.set_weights(model.get_weights())"
        )
        problems.append(problem("Input", one, what, fix))
    if problems:
        raise ConversionError(problems)


def _names(functional: Any) -> Iterator[tuple[str, str]]:
    for layer in functional.layers:
        yield type(layer).__name__, layer.name
        if isinstance(layer, keras.Model):
            yield from _names(layer)


def _casting(functional: Any) -> Iterator[tuple[str, str]]:
    """Inputs of a graph and of the models in it that are cast to another type than layers compute in: name, dtype."""
    nodes = [node for group in functional._nodes_by_depth.values() for node in group]
    for layer in functional.layers:
        if isinstance(layer, keras.Model) and hasattr(layer, "_nodes_by_depth"):
            yield from _casting(layer)
        elif isinstance(layer, keras.Model) and getattr(layer, "_functional", None) is not None:
            yield from _casting(layer._functional)
    for tensor in functional.inputs:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        readers = [node.operation for node in nodes if any(t is tensor for t in node.input_tensors)]
        indices = dtype in _WHOLE and all(type(reader) is QEmbedding for reader in readers)
        if dtype not in DTYPES and not indices:
            yield tensor._keras_history.operation.name, dtype
