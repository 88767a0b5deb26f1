"""The samples that a method looks at, checked before anything is spent on them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hgq.data import tensors
from hgq.errors import ConversionError, problem
from hgq.frontend.model import input_shapes


def samples_of(folded: keras.Model, data: Any, method: str) -> np.ndarray:
    """The samples as one float32 array, with a batch axis.

    Args:
        data: what the model takes: an array, or a dict with one for its input.
        method: for messages.

    Raises:
        ConversionError: the model has several inputs.
        ValueError: another shape than the model's, no samples, no numbers, NaN or infinity, nothing but 0.
    """
    shapes = input_shapes(folded)
    if len(shapes) != 1:
        what = f"it has the inputs {', '.join(shapes)}, and {method} takes models of one"
        raise ConversionError([problem("model", folded.name, what, "use the method rex, or train with hgq.layers")])
    array = tensors(data, shapes)[0]
    if not array.any():
        raise ValueError(f"data: all {len(array):,} samples hold nothing but 0, so that no layer would get any bits")
    return array
