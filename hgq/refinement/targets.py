"""What the outputs of a model are compared with: labels, a teacher's probabilities, or the model's own outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
import numpy as np
from scipy.special import xlogy

from hgq.frontend.model import functional_of
from hgq.ir.graph import Graph

NAMES = ("crossentropy", "binary_crossentropy", "mse", "mae")
PROBABILITIES = "_of_probabilities"


@dataclass(frozen=True)
class Target:
    """The loss of one output tensor and what it aims at.

    loss: of `hgq.refinement.native.LOSSES`. values: float32, (samples, rows, classes). output: its name.
    """

    loss: str
    values: np.ndarray
    output: str = ""

    def keras_loss(self, y: np.ndarray) -> float:
        """The mean loss of predictions (samples, ...), by Keras' own function."""
        plain = self.loss.removesuffix(PROBABILITIES)
        function = {
            "crossentropy": keras.losses.categorical_crossentropy,
            "binary_crossentropy": keras.losses.binary_crossentropy,
            "mse": keras.losses.mean_squared_error,
            "mae": keras.losses.mean_absolute_error,
        }[plain]
        given = {"from_logits": plain == self.loss} if plain.endswith("crossentropy") else {}
        found = function(self.values, y.reshape(self.values.shape).astype(np.float32), **given)
        return float(np.mean(np.asarray(keras.ops.convert_to_numpy(found), np.float64)))

    def guessed_loss(self) -> float:
        """The mean loss of the best answer that is the same for all samples."""
        values = self.values.astype(np.float64)
        mean = values.mean(0)
        if self.loss == "mse":
            return float(((values - mean) ** 2).mean())
        if self.loss == "mae":
            return float(np.abs(values - np.median(values, 0)).mean())
        surprise = -xlogy(mean, mean)
        if self.loss.startswith("binary"):
            return float((surprise - xlogy(1 - mean, 1 - mean)).mean())
        return float(surprise.sum(-1).mean())


def make_targets(
    model: keras.Model,
    graph: Graph,
    y: Any,
    loss: Any,
    outputs: Sequence[np.ndarray],
    samples: np.ndarray,
    count: int,
) -> list[Target]:
    """The targets of every output of a model.

    Args:
        y: None for the model's own outputs, else an array, or a list or dict of them, one for each output: class
            numbers, probabilities, or numbers. All `count` samples, of which `samples` are taken.
        loss: a name of `NAMES`, one for each output, or None: that of `compile`, else what fits the labels.
        outputs: what the model gives now for `samples`.

    Raises:
        ValueError: naming the output, what does not fit, and what would.
    """
    names = _names(model)
    labels = _spread("y", y, names)
    losses = _spread("loss", loss if loss is not None else _compiled(model), names)
    targets = []
    for name, node, out, label, wanted in zip(names, graph.outputs, outputs, labels, losses, strict=True):
        rng = graph[node].range
        bounded = bool(np.all(rng.lo >= 0) and np.all(np.ldexp(rng.hi.astype(np.float64), -rng.frac) <= 1.0))
        picked = None if label is None else _numbers(name, label)
        if picked is not None:
            if len(picked) != count:  # of more labels, too: nobody knows which are those of x
                raise ValueError(f"y: {len(picked):,} labels of '{name}' for {count:,} samples")
            picked = picked[samples]
        targets.append(_target(name, out, picked, wanted, bounded))
    return targets


def _names(model: keras.Model) -> list[str]:
    """Of the outputs: keys of a dict, else of their layers."""
    flat = functional_of(model)
    given = getattr(flat, "_outputs_struct", None)
    if isinstance(given, Mapping) and len(given) == len(flat.outputs):
        return sorted(given)  # as Keras flattens it
    return [tensor._keras_history.operation.name for tensor in flat.outputs]


def _target(name: str, out: np.ndarray, label: np.ndarray | None, loss: Any, bounded: bool) -> Target:
    shape = out.shape if out.ndim > 1 else (len(out), 1)
    classes = shape[-1]
    kind, probabilities = _kind(name, loss, bounded)
    if kind is None:
        kind = _fitting(name, label, shape, bounded)
        probabilities = bounded and kind.endswith("crossentropy")
    if label is None:
        values = _own(out.reshape(shape), kind, probabilities)
    elif kind == "crossentropy" and label.size * classes == out.size:
        numbers = label.reshape(shape[:-1])
        if not np.array_equal(numbers, np.floor(numbers)) or numbers.min() < 0 or numbers.max() >= classes:
            raise ValueError(
                f"y: the labels of '{name}' lie in {numbers.min():g}..{numbers.max():g}, its outputs are {classes} "
                f"classes. Fix: give class numbers 0..{classes - 1}, or rows of probabilities."
            )
        values = np.eye(classes, dtype=np.float32)[numbers.astype(np.int64)]
    elif label.size == out.size:
        values = label.reshape(shape)
    else:
        raise ValueError(
            f"y: labels of shape {label.shape} for {len(out):,} samples of the output '{name}', {out.shape[1:]} "
            f"(loss {kind}). Fix: give {prod(shape[1:])} numbers for each sample, or whole numbers of classes"
        )
    values = values.reshape(len(out), -1, classes).astype(np.float32)
    return Target(kind + (PROBABILITIES if probabilities else ""), values, name)


def _fitting(name: str, label: np.ndarray | None, shape: tuple[int, ...], bounded: bool) -> str:
    """The kind of loss that labels are of, where nothing else says it."""
    if shape[-1] > 1 and (label is None or _classes(label, shape)):
        return "crossentropy"
    if label is None or label.size != prod(shape) or not ((label == 0) | (label == 1)).all():
        return "mse"
    if not bounded:
        raise ValueError(
            f"y: the labels of '{name}' are 0 or 1, its outputs any numbers: logits, or 0 and 1 as they are? "
            "Fix: say loss='binary_crossentropy' or loss='mse' (hgq-refine: --loss)."
        )
    return "binary_crossentropy"


def _classes(label: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether labels are class numbers, or rows of probabilities, for outputs of `shape`."""
    if label.shape in (shape[:-1], (*shape[:-1], 1)):
        return bool((label == np.floor(label)).all())
    rows = label.shape == shape and bool((label >= 0).all())
    return rows and bool(np.allclose(label.sum(axis=-1), 1, atol=1e-3))


def _own(out: np.ndarray, kind: str, probabilities: bool) -> np.ndarray:
    """The model's outputs as a teacher."""
    if kind == "crossentropy" and not probabilities:
        e = np.exp(out - out.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if kind == "crossentropy":
        return out / np.maximum(out.sum(axis=-1, keepdims=True), 1e-7)
    return 1 / (1 + np.exp(-out)) if kind == "binary_crossentropy" and not probabilities else out


def _numbers(name: str, label: Any) -> np.ndarray:
    label = np.asarray(label)
    if label.dtype.kind not in "biuf":
        raise ValueError(f"y: the labels of '{name}' are {label.dtype}, not numbers")
    if not np.isfinite(label.astype(np.float64)).all():
        raise ValueError(f"y: a label of '{name}' is NaN or infinite; remove or replace it")
    return label.astype(np.float64)


def _kind(name: str, loss: Any, bounded: bool) -> tuple[str | None, bool]:
    """Kind of loss, and whether the outputs are probabilities; None where nothing says it."""
    if loss is None:
        return None, False
    if isinstance(loss, str) and loss in NAMES:
        return loss, bounded and loss.endswith("crossentropy")
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            loss = str(loss)
    smooth = float(getattr(loss, "label_smoothing", 0) or getattr(loss, "_fn_kwargs", {}).get("label_smoothing", 0))
    logits = bool(getattr(loss, "from_logits", getattr(loss, "_fn_kwargs", {}).get("from_logits", False)))
    label = getattr(loss, "name", None) or getattr(loss, "__name__", str(loss))
    kinds = {
        "sparse_categorical_crossentropy": "crossentropy",
        "categorical_crossentropy": "crossentropy",
        "binary_crossentropy": "binary_crossentropy",
        "mean_squared_error": "mse",
        "mean_absolute_error": "mae",
    }
    left_out = getattr(loss, "ignore_class", getattr(loss, "_fn_kwargs", {}).get("ignore_class"))
    if label not in kinds or smooth or left_out is not None:
        how = " with label smoothing" if smooth else f" with ignore_class={left_out}" if left_out is not None else ""
        raise ValueError(
            f"refine: the loss {label!r}{how} of '{name}' is not supported. "
            f"Fix: pass loss= one of {', '.join(NAMES)}; labels may be probabilities."
        )
    return kinds[label], kinds[label].endswith("crossentropy") and not logits


def _compiled(model: keras.Model) -> Any:
    """The loss that the model was compiled with."""
    if not getattr(model, "compiled", False):
        return None
    weights = (model.get_compile_config() or {}).get("loss_weights")
    if len(model.outputs) > 1 and any(weight != 1 for weight in keras.tree.flatten(weights) if weight is not None):
        raise ValueError(
            f"refine: the model was compiled with loss_weights={weights}, but here all outputs count alike. "
            f"Fix: say so with loss=, one of {', '.join(NAMES)} for each output"
        )
    return getattr(model, "loss", None)


def _spread(what: str, given: Any, names: Sequence[str]) -> list[Any]:
    """One for each output."""
    if isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(f"{what}: there is none for the output '{missing[0]}'; got {', '.join(map(str, given))}")
        return [given[name] for name in names]
    several = len(names) > 1 or what == "loss"  # of one output, a list of numbers is the labels themselves
    if isinstance(given, list | tuple) and (several or (len(given) == 1 and not np.isscalar(given[0]))):
        if len(given) != len(names):
            raise ValueError(f"{what}: {len(given)} given for {len(names)} outputs ({', '.join(names)})")
        return list(given)
    if given is not None and what == "y" and len(names) > 1:
        raise ValueError(f"y: one array for {len(names)} outputs; give a list or a dict ({', '.join(names)})")
    return [given] * len(names)
