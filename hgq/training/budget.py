"""Finds the price of hardware by itself: a training that ends at a wanted cost, or at a wanted accuracy."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.resource import COSTS, priced_layers, set_cost
from hgq.training.beta import only_setter
from hgq.training.direction import lower_is_better
from hgq.training.freeze import start_run, widths_held
from hgq.training.progress import add_cost

FASTEST = math.log(2.0)
"""Beta changes by a factor of two in an epoch at most."""


class Budget(keras.callbacks.Callback):
    """Steers beta, the weight of the cost in the loss, once an epoch and slowly, in place of `BetaSchedule`.

    With a cost target, the goal of epoch n falls in the logarithm from ``start * target`` at the beginning to the
    target at the part `ramp` of the run, and after each epoch::

        log beta += gain * log(cost / goal) * 100 / epochs        at most by log 2

    With a metric target, `goal` is the metric, and log beta moves by ``gain * (metric - goal) / tolerance`` instead: up
    where the model is better than it has to be.

    Nothing winds up: beta itself is all that is accumulated, and it stays within `bounds`, so that a target out of
    reach leaves it at a bound, from where the first epoch on the other side takes it back. Steering ends with the part
    `until` of the run, or where widths are held (`Freeze`): a cost that nothing can change any more is none to correct.

    beta is in the logs, and in the layers when they are saved: a resumed run goes on with it.

    Args:
        target: of `cost`, above 0; or None.
        metric, goal: name in the logs and the value wanted, in place of a target.
        mode: of the metric: "max", "min" or "auto", by its name.
        tolerance: how far from `goal` counts as far.
        cost: "luts" or "ebops".
        beta: at the beginning.
        bounds: of beta.
        gain: by how much log beta moves in a hundredth of the run, in parts of the error. With 0.2, costs that follow
            beta within five hundredths of a run end within a few percent of the target.
        ramp: part of the run at which the goal reaches the target.
        start: goal at the beginning, in targets.
        until: part of the run that is steered.
        epochs: length of the run; None takes it from `fit`.
    """

    def __init__(
        self,
        target: float | None = None,
        *,
        metric: str | None = None,
        goal: float | None = None,
        mode: str = "auto",
        tolerance: float = 0.01,
        cost: str = "luts",
        beta: float = 1e-6,
        bounds: tuple[float, float] = (1e-8, 1e-2),
        gain: float = 0.2,
        ramp: float = 0.4,
        start: float = 30.0,
        until: float = 0.75,
        epochs: int | None = None,
    ):
        super().__init__()
        if (target is None) == (metric is None) or (metric is None) != (goal is None):
            raise ValueError("Budget: give either a target (of the cost), or a metric and its goal")
        if goal is not None and not math.isfinite(goal):
            raise ValueError(f"Budget: goal={goal}; it must be a finite number")
        if epochs is not None and epochs < 1:
            raise ValueError(f"Budget: epochs={epochs}; it must be 1 or more")
        if mode not in ("auto", "max", "min"):
            raise ValueError(f"Budget: mode={mode!r}; choose one of auto, max, min")
        if metric is not None and mode == "auto":
            mode = "min" if lower_is_better(metric, "Budget") else "max"
        for name, value in (("target", target), ("tolerance", tolerance), ("gain", gain), ("start", start)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"Budget: {name}={value}; it must be above 0")
        if not 0 < bounds[0] <= beta <= bounds[1] < math.inf:
            raise ValueError(f"Budget: beta={beta} must lie in bounds={bounds}, which must be above 0")
        for name, value in (("ramp", ramp), ("until", until)):
            if not 0 <= value <= 1:
                raise ValueError(f"Budget: {name}={value}; it is a part of the run, 0 to 1")
        if cost not in COSTS:
            raise ValueError(f"Budget: cost={cost!r}; choose one of {', '.join(COSTS)}")
        self.target, self.metric, self.goal, self.tolerance, self.cost = target, metric, goal, tolerance, cost
        self.mode = mode
        self.first_beta, self.bounds, self.gain = beta, bounds, gain
        self.ramp, self.start, self.until, self.epochs = ramp, start, until, epochs

    @property
    def beta(self) -> float:
        """Beta now."""
        return float(ops.convert_to_numpy(priced_layers(self.model)[0][0].beta.value))

    def cost_goal(self, epoch: int) -> float:
        """The cost wanted at the end of `epoch` (from 0)."""
        assert self.target is not None
        length = self.ramp * self._length()
        part = min(1.0, (epoch + 1) / length) if length > 0 else 1.0
        return self.target * self.start ** (1.0 - part)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        start_run(self.model, "Budget")
        only_setter(self, "Budget")
        if not priced_layers(self.model):
            raise ValueError(f"Budget: model '{self.model.name}' has no quantised layer to set beta of.")
        set_cost(self.model, self.cost)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if epoch == 0:
            self._assign(self.first_beta)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        add_cost(self.model, logs)
        logs["beta"] = self.beta
        if not widths_held(self.model):
            self._assign(self.next_beta(epoch, logs, self.beta))

    def next_beta(self, epoch: int, logs: dict[str, Any], beta: float) -> float:
        """Beta after `epoch` (from 0), during which it was `beta`."""
        low, high = self.bounds
        if epoch + 1 > self.until * self._length():
            return beta
        change = float(np.clip(self._error(epoch, logs) * self.gain * 100.0 / self._length(), -FASTEST, FASTEST))
        return float(np.clip(beta * math.exp(change), low, high))

    def _error(self, epoch: int, logs: dict[str, Any]) -> float:
        """Above 0 where there is more cost, or a better metric, than wanted."""
        if self.target is not None:
            return math.log(max(float(logs[self.cost]), 1.0) / self.cost_goal(epoch))
        if self.metric not in logs:
            raise ValueError(
                f"Budget: metric {self.metric!r} is not in the logs, which have {', '.join(sorted(logs))}. "
                "Fix: name one of these, or give fit validation_data."
            )
        better = -1.0 if self.mode == "min" else 1.0
        return better * (float(logs[str(self.metric)]) - float(self.goal or 0.0)) / self.tolerance

    def _length(self) -> int:
        return self.epochs or self.params["epochs"]

    def _assign(self, beta: float) -> None:
        for layer, _ in priced_layers(self.model):
            layer.beta.assign(beta)
