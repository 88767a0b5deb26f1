"""Keras model to IR. README.md says how to add a layer."""

from hgq.frontend.model import HANDLERS, read_model

__all__ = ["HANDLERS", "read_model"]
