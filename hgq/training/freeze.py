"""The last part of training: widths stay as they are, weights are averaged and kept off the edges of their steps."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import ops

from hgq.layers.walk import model_quantizers
from hgq.quantizers.exact import Tensor
from hgq.resource import priced_layers

START = 0.01
"""Part that the weights from which averaging starts may have in the end: they were trained at a higher rate."""


class Held(keras.constraints.Constraint):
    """Whatever an optimizer makes of a variable, it is the value that it had.

    Args:
        before: the constraint that comes back when the variable is let go.
    """

    def __init__(self, value: np.ndarray, before: keras.constraints.Constraint | None):
        self.value, self.before = value, before

    def __call__(self, variable: Tensor) -> Tensor:
        return ops.convert_to_tensor(self.value, dtype=variable.dtype)


def hold_widths(model: keras.Model) -> None:
    """Keeps every trained bit count of `model` as it is now, exactly, through all training that follows.

    The training step of `fit` is compiled again: what is constant then costs nothing. A step of your own that is
    compiled already (`tf.function`, `jax.jit`) knows nothing of it: make it again. Not saved with the model.
    """
    for variable in _widths(model):
        if not isinstance(variable.constraint, Held):
            variable.constraint = Held(np.asarray(ops.convert_to_numpy(variable.value)), variable.constraint)
    _compile_again(model)


def release_widths(model: keras.Model) -> None:
    """Lets all bit counts be trained again."""
    for variable in _widths(model):
        if isinstance(variable.constraint, Held):
            variable.constraint = variable.constraint.before
    _compile_again(model)


def widths_held(model: keras.Model) -> bool:
    """Whether `hold_widths` is in force."""
    return any(isinstance(variable.constraint, Held) for variable in _widths(model))


@dataclass
class _Frozen:
    """What `Freeze` knows of a model from the first epoch with held widths on.

    held: whether it was `Freeze` that held them. epochs: how many there are until the end. average: kept of the
    averages in a step, at most. averages: of trained variables; none without averaging. trained: the variables' own
    values, while the model has the averages. steps: since averages were taken.
    """

    held: bool
    epochs: int
    average: float
    averages: list[tuple[Any, np.ndarray]] = field(default_factory=list)
    trained: list[np.ndarray] | None = None
    steps: int = 0

    def lend(self) -> None:
        """Takes the averages, and gives them to the variables."""
        trained = [_value(variable) for variable, _ in self.averages]
        if self.steps:
            kept = min(self.average, START ** (1.0 / (self.epochs * self.steps))) ** self.steps
            pairs = zip(self.averages, trained, strict=True)
            self.averages = [(variable, a * kept + w * (1.0 - kept)) for (variable, a), w in pairs]
        self.steps, self.trained = 0, trained
        for variable, average in self.averages:
            variable.assign(average)

    def take_back(self) -> None:
        """Gives the variables their own values again."""
        for (variable, _), value in zip(self.averages, self.trained or (), strict=True):
            variable.assign(value)
        self.trained = None


_FROZEN: WeakKeyDictionary[keras.Model, _Frozen] = WeakKeyDictionary()
"""Not in the models, where Keras would track it."""


def show_averages(model: keras.Model) -> None:
    """Gives a model that `Freeze` trains its averaged weights, until the next epoch begins; another model none."""
    frozen = _FROZEN.get(model)
    if frozen is not None and frozen.averages and frozen.trained is None:
        frozen.lend()


def end_freeze(model: keras.Model) -> None:
    """Forgets what `Freeze` began with `model`, which keeps the weights that it has; its widths are trained again.

    Called at the end of a run, and at the beginning of the next: one that an error or Ctrl-C ended had no end.
    """
    frozen = _FROZEN.pop(model, None)
    if frozen is not None and frozen.held:
        release_widths(model)


def start_run(model: keras.Model, who: str) -> None:
    """What a callback does at the beginning of a run, for a model that it sets variables of.

    Raises:
        ValueError: the variables are not there yet. Keras on TensorFlow makes them in the first step.
    """
    end_freeze(model)
    waiting = next((layer for layer, _ in priced_layers(model) if not layer.built), None)
    if waiting is not None:
        raise ValueError(
            f"{who}: model '{model.name}' is not built: {waiting} has no variables yet. "
            "Fix: begin it with keras.Input(shape), or call model(x[:1]) once before fit."
        )


def damp(model: keras.Model, part: float) -> None:
    """Moves each weight by `part` of the way to its quantised value: ``w - part * (w - q(w))``.

    The quantised values stay, bit for bit; but a weight that stood at the edge between two of them does not swing there
    and back with every step (Nagel et al., ICML 2022, as a proximal step). Weights that normalisation or a constant
    scales before they are quantised are left alone.
    """
    for variable, quantizer in _constants(model):
        w = np.asarray(_value(variable), np.float64)
        q = np.asarray(ops.convert_to_numpy(quantizer.quantized(ops.convert_to_tensor(variable.value), False)))
        variable.assign((w - part * (w - q)).astype(np.float32))


class Freeze(keras.callbacks.Callback):
    """Holds all widths for the last part of training, and averages the weights meanwhile.

    From epoch ``ceil((1 - fraction) * epochs)`` on (counted from 0)::

        b, i, f of every quantizer     keep their values exactly, whatever the optimizer
        a = a * m**n + w * (1 - m**n)                 at the end of an epoch of n steps, for every other trained w
        w = w - damping * (w - q(w))                  then, for weights of layers; see `damp`

    with m = average, but in a short run ``START**(1/N)``, N steps from here to the end, where that is less.

    From validation (without it, from the end of an epoch) until the next epoch begins, the model has a: costs in the
    logs, `ParetoFront`, Keras' `ModelCheckpoint` and ``EarlyStopping(restore_best_weights=True)`` see what was
    validated. Training goes on with w. A function of the epoch but for a, which starts at w where a resumed run begins.

    A run that an error or Ctrl-C ends leaves the widths held until the next `fit` with a callback of hgq.training, or
    `release_widths`.

    Args:
        fraction: part of the run, 0 to 1.
        average: what is kept of the average in each step, at most; 0 for no averaging.
        damping: 0 to 1.
        epochs: length of the run; None takes it from `fit`.
    """

    def __init__(self, fraction: float = 0.2, average: float = 0.998, damping: float = 0.0, epochs: int | None = None):
        super().__init__()
        for name, value in (("fraction", fraction), ("average", average), ("damping", damping)):
            if not 0 <= value <= 1 or (name == "average" and value == 1):
                raise ValueError(f"Freeze: {name}={value}; it must lie in 0..1{' and below 1' * (name == 'average')}")
        if epochs is not None and epochs < 1:
            raise ValueError(f"Freeze: epochs={epochs}; it must be 1 or more")
        self.fraction, self.average, self.damping, self.epochs = fraction, average, damping, epochs

    @property
    def start(self) -> int:
        """The first epoch with held widths."""
        epochs = self.epochs or self.params["epochs"]
        return math.ceil(round((1.0 - self.fraction) * epochs, 6))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        start_run(self.model, "Freeze")
        if not _widths(self.model):
            raise ValueError(f"Freeze: model '{self.model.name}' has no quantised layer whose widths could be held.")
        if getattr(getattr(self.model, "optimizer", None), "use_ema", False):
            raise ValueError(
                "Freeze: the optimizer averages, too (use_ema=True), and puts averages in place of held widths. "
                "Fix: leave use_ema out; Freeze averages the weights."
            )
        epochs = self.epochs or (self.params or {}).get("epochs", 0)
        if epochs and self.fraction and self.start >= epochs:
            warnings.warn(
                f"Freeze: fraction={self.fraction:g} of {epochs} epochs is less than one: nothing is held or averaged. "
                "Fix: a larger fraction, or more and shorter epochs, fit(epochs=, steps_per_epoch=).",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if epoch < self.start:
            return
        frozen = _FROZEN.get(self.model)
        if frozen is None:
            self._begin()
        elif frozen.trained is not None:
            frozen.take_back()
            if self.damping:
                damp(self.model, self.damping)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self.model in _FROZEN:
            _FROZEN[self.model].steps = batch + 1

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        show_averages(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        show_averages(self.model)
        if self.damping and self.model in _FROZEN and not self.average:
            damp(self.model, self.damping)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        end_freeze(self.model)

    def _begin(self) -> None:
        held = not widths_held(self.model)
        if held:
            hold_widths(self.model)
        frozen = _Frozen(held, (self.epochs or self.params["epochs"]) - self.start, self.average)
        if self.average:
            widths = {id(variable) for variable in _widths(self.model)}
            frozen.averages = [(v, _value(v)) for v in self.model.trainable_variables if id(v) not in widths]
        _FROZEN[self.model] = frozen


def _value(variable: Any) -> np.ndarray:
    return np.array(ops.convert_to_numpy(variable.value))


def _widths(model: keras.Model) -> list[Any]:
    """Every trained bit count."""
    return [v for _, _, quantizer in model_quantizers(model) for v in quantizer.trainable_variables]


def _constants(model: keras.Model) -> list[tuple[Any, Any]]:
    """Trained constants that are quantised as they are, and their quantizers."""
    found = []
    for layer, name, quantizer in model_quantizers(model):
        variable = getattr(layer, name.removesuffix("_quantizer"), None)
        value = quantizer.constant()
        if value is None or not isinstance(variable, keras.Variable) or not variable.trainable:
            continue
        if np.array_equal(np.asarray(ops.convert_to_numpy(value)), _value(variable)):
            found.append((variable, quantizer))
    return found


def _compile_again(model: keras.Model) -> None:
    if getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)
