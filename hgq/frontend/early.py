"""What is refused before anything is computed or written: names that no text can hold, shapes without hardware."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from hgq.errors import ConversionError, problem


def check_early(functional: Any, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Looks at the names and the input shapes of a functional graph.

    Names end up in comments of Verilog and C++, in reports and in the text of the integer graph. A line break in one
    would make a line of Verilog, so a name may hold printable characters only; any language's will do.

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
    if problems:
        raise ConversionError(problems)


def _names(functional: Any) -> Iterator[tuple[str, str]]:
    for layer in functional.layers:
        yield type(layer).__name__, layer.name
        if isinstance(layer, keras.Model):
            yield from _names(layer)
