"""Shows what the model costs while it trains: Keras' own progress bar, History and CSVLogger read the same logs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hgq.layers.walk import model_quantizers
from hgq.resource import model_ebops, model_luts
from hgq.training.freeze import end_freeze, show_averages


class EBOPs(keras.callbacks.Callback):
    """Adds to the logs of each epoch: `ebops`, exact EBOPs of the model, `luts` to expect, and `bits`, the mean width.

    `BetaSchedule` and `ParetoFront` do the same: this one is for training without either.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        end_freeze(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        add_cost(self.model, logs)


def add_cost(model: keras.Model, logs: dict[str, Any] | None, *, again: bool = False) -> None:
    """Puts `ebops`, `luts` and `bits` into the logs of an epoch, unless another callback has done so.

    Args:
        again: the model has changed since.
    """
    if logs is not None and (again or "ebops" not in logs):
        require_ranges(model)
        show_averages(model)
        logs["ebops"] = model_ebops(model)
        logs["luts"] = model_luts(model)
        logs["bits"] = round(mean_bits(model), 3)


def require_ranges(model: keras.Model) -> None:
    """Refuses a model whose layers were never called as in training, although an epoch has passed.

    Keras on JAX calls a model of a class of its own without telling its layers what for: they then infer, where every
    number without a range is 0, and neither widths nor prices are trained.
    """
    tracking = [q for _, _, q in model_quantizers(model) if getattr(q, "tracks_data", False)]
    if tracking and not any(q.range_known for q in tracking):
        raise ValueError(
            f"model '{model.name}': in a whole epoch none of its quantised layers was called with training=True. "
            f"Fix: in {type(model).__name__}.call(self, x, training=False), give training on: layer(x, "
            "training=training); or make a keras.Sequential or keras.Model(inputs, outputs)."
        )


def mean_bits(model: keras.Model) -> float:
    """Mean width in bits, sign included, over all quantised elements of a built model; pruned ones count as 0."""
    widths = [
        quantizer.types(layer.quantized_shapes()[name]).width.ravel()
        for layer, name, quantizer in model_quantizers(model)
    ]
    if not widths:
        raise ValueError(f"model '{model.name}' has no quantised layer. Fix: build it from hgq.layers.")
    return float(np.concatenate(widths).mean())
