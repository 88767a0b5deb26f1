"""Other ways to choose types: a trained float Keras model in, a model of our quantised layers out.

``hgq.methods.rex`` and so on are imported when they are asked for: nothing here needs Keras.
"""

import importlib
from typing import Any

from hgq.methods.listed import METHODS, Method

__all__ = ["METHODS", "Method"]


def __getattr__(name: str) -> Any:
    if name in METHODS:
        return importlib.import_module(METHODS[name].module)
    raise AttributeError(f"module 'hgq.methods' has no attribute {name!r}; methods are {', '.join(METHODS)}")
