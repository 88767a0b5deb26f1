"""Keeps hls4ml's own converter away from our layers: it would take a QDense for QKeras' and ignore every quantizer.

hls4ml looks a layer up by module and class, and falls back to the bare class name, where QKeras' float handlers answer
without a word. A guard under the exact name of each of our classes raises instead. Neither package imports the other:

- hls4ml imported first: hgq/layers/__init__.py calls `register` when it is imported.
- hgq.layers imported first: hls4ml calls `register` by the entry point in its group ``hls4ml.backends``.

Not covered: a user's subclass of one of our layers, for hls4ml sees its own name and module.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from hgq.errors import ConversionError, problem


def register(**_hls4ml: Any) -> None:
    """Puts a guard for each class of hgq.layers into hls4ml's registry; does nothing until both are imported.

    Args:
        _hls4ml: what hls4ml hands to its plug-ins; not needed.
    """
    layers = sys.modules.get("hgq.layers")
    if layers is None or "hls4ml" not in sys.modules:
        return
    from hls4ml.converters.keras_v3._base import registry

    for name in getattr(layers, "__all__", ()):
        kind = getattr(layers, name)
        if isinstance(kind, type):
            registry[f"{kind.__module__}.{kind.__name__}"] = _refuse


def _refuse(layer: Any, _inputs: Any, _outputs: Any) -> NoReturn:
    raise ConversionError(
        [
            problem(
                type(layer).__name__,
                layer.name,
                "hls4ml alone does not know the learned types of hgq's layers",
                "project = hgq.convert(model, 'build/model'), which writes the hls4ml project to build/model/hls4ml",
            )
        ]
    )
