"""Whether a metric is better when it is lower, by its name in the logs."""

from __future__ import annotations

_LOWER = (
    *("loss", "error", "mse", "mae", "mape", "msle", "entropy", "divergence", "hinge", "poisson", "cosh", "perplexity"),
    *("nll", "brier", "false", "fpr", "fnr"),
)
"""How a part of the name ends: "rmse" is a "mse", "crossentropy" an "entropy"."""
_HIGHER = (
    *("acc", "accuracy", "auc", "auroc", "precision", "recall", "sensitivity", "specificity", "iou", "io", "f1"),
    *("fbeta", "score", "similarity", "correlation", "dice", "true", "tpr", "tnr", "r2", "purity", "efficiency"),
)
"""Whole parts of the name."""


def lower_is_better(metric: str, who: str) -> bool:
    """Whether `metric`, a name in Keras' logs such as "val_mae" or "val_out_accuracy", falls while a model gets better.

    Args:
        who: names the callback in the message.

    Raises:
        ValueError: the name does not tell. To take it the wrong way round would keep the worst models.
    """
    parts = metric.lower().split("_")
    if any(part.rstrip("0123456789").endswith(_LOWER) for part in parts):
        return True
    if any(part in _HIGHER or part.endswith(("accuracy", "auc")) for part in parts):
        return False
    raise ValueError(
        f"{who}: whether metric {metric!r} is better when it is high or low cannot be told from its name. "
        "Fix: mode='max' or mode='min'."
    )
