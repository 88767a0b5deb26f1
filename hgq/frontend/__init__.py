"""Keras model to IR. README.md says how to add a layer."""

from hgq.frontend.handlers import HANDLERS
from hgq.frontend.model import read_model

__all__ = ["HANDLERS", "read_model"]
