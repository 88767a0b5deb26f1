"""The price of hardware during training: over the first part of the run it falls or rises, then it stays."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import keras

from hgq.resource import COSTS, priced_layers, set_cost
from hgq.training.freeze import start_run
from hgq.training.progress import add_cost

_SETTERS: WeakKeyDictionary[keras.Model, tuple[Any, ReferenceType[Any]]] = WeakKeyDictionary()
"""For each model the `params` of its last run and who set beta in it. Callbacks of one run share one `params`."""


def only_setter(callback: keras.callbacks.Callback, who: str) -> None:
    """Refuses a second callback that sets beta in one run: the later one would win, unseen."""
    params, other = _SETTERS.get(callback.model, (None, None))
    first = other and other()
    if callback.params is not None and params is callback.params and first is not None and first is not callback:
        raise ValueError(
            f"{who}: {type(first).__name__} sets beta in this run, too. Fix: give fit one BetaSchedule or one Budget."
        )
    _SETTERS[callback.model] = callback.params, ref(callback)


class BetaSchedule(keras.callbacks.Callback):
    """Sets beta, the weight of the cost in the loss of all quantised layers, at the start of each epoch.

    ``beta = beta_start * (beta_end / beta_start) ** min(1, epoch / (ramp * epochs))``: a straight line in log(beta)
    over the first part of the run, then constant, so that the widths settle. A function of the epoch alone: a run
    resumed with ``fit(initial_epoch=...)`` goes on where it was.

    Best is a start of about 1e-4 a LUT whatever the price ends at, with Adam from a learning rate of 1e-2 down to a
    hundredth along a cosine, and `Freeze`: for few LUTs it then rises, mostly it falls. A width moves by about a
    learning rate a step, so that a run of some thousand steps has few bits to take away: what a low price leaves in
    the first half stays. Measured beside a price that rises by 30 (`benchmarks/RESULTS.md`): a half to a quarter of
    the LUTs at equal accuracy. That start is of dense nets and a cross entropy. A higher one kills what the model has
    not learned yet. Where a weight counts many times, as in a convolution, this one is too high: begin with
    ``3 * beta_end`` there, and where the metric stays at chance, with `beta_end`.

    Args:
        beta_start, beta_end: both above 0; beta_end decides the LUTs, beta_start how soon they are near.
        ramp: part of the run that the ramp takes, 0 to 1.
        epochs: length of the run; None takes it from `fit`.
        cost: what beta is the price of: "luts" (LUTs to expect, `QLayer.luts`) or "ebops" (EBOPs-bar, as published).
    """

    def __init__(
        self, beta_start: float, beta_end: float, ramp: float = 0.5, epochs: int | None = None, cost: str = "luts"
    ):
        super().__init__()
        for name, value in (("beta_start", beta_start), ("beta_end", beta_end)):
            if not 0 < value < float("inf"):
                raise ValueError(f"BetaSchedule: {name}={value}; it must be above 0 (the ramp is logarithmic)")
        if not 0 <= ramp <= 1:
            raise ValueError(f"BetaSchedule: ramp={ramp}; it is the part of the run that the ramp takes, 0 to 1")
        if epochs is not None and epochs < 1:
            raise ValueError(f"BetaSchedule: epochs={epochs}; it must be 1 or more")
        if cost not in COSTS:
            raise ValueError(f"BetaSchedule: cost={cost!r}; choose one of {', '.join(COSTS)}")
        self.cost = cost
        self.beta_start, self.beta_end, self.ramp, self.epochs = beta_start, beta_end, ramp, epochs

    def beta(self, epoch: int) -> float:
        """Beta during `epoch` (from 0)."""
        length = self.ramp * (self.epochs or self.params["epochs"])
        part = min(1.0, epoch / length) if length > 0 else 1.0
        return self.beta_end if part == 1.0 else self.beta_start * (self.beta_end / self.beta_start) ** part

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        start_run(self.model, "BetaSchedule")
        only_setter(self, "BetaSchedule")
        if not priced_layers(self.model):
            raise ValueError(f"BetaSchedule: model '{self.model.name}' has no quantised layer to set beta of.")
        set_cost(self.model, self.cost)
        if self.params and self.beta((self.epochs or self.params["epochs"]) - 1) == self.beta_start != self.beta_end:
            warnings.warn(
                f"BetaSchedule: beta is {self.beta_start:g} for the whole run: to {self.beta_end:g} it moves "
                "from epoch to epoch. Fix: more and shorter epochs, fit(epochs=, steps_per_epoch=).",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        for layer, _ in priced_layers(self.model):
            layer.beta.assign(self.beta(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        add_cost(self.model, logs)
