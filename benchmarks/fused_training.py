"""Trains a Keras model on JAX with one compiled call an epoch; for benchmarks of many short trainings of one network.

`model.fit` spends most of a step of a small network outside of it. What an epoch computes here is the same, and
compiled once for all seeds and prices of a network: widths are held and weights averaged by the formulas of
`hgq.training.Freeze`, which are numbers that enter the compiled epoch; between epochs weights are damped as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from hgq.layers.walk import model_quantizers
from hgq.resource import priced_layers, set_cost
from hgq.training.freeze import damp

State = tuple[list[Any], list[Any], list[Any], list[Any]]
"""Trained variables, others, the optimizer's, averages of the trained ones."""


@dataclass
class Fused:
    """The compiled epoch and cost of a network.

    Args:
        make: the untrained network; called once to compile and once for each training.
        steps: of a whole training, for the learning rate: `rate` falling to a hundredth along a cosine.
    """

    make: Callable[[], keras.Model]
    cost: str
    steps: int
    batch: int
    average: float = 0.998
    rate: float = 5e-3

    def __post_init__(self) -> None:
        self.model = self.make()
        set_cost(self.model, self.cost)
        self.optimizer = self._optimizer(self.model)
        widths = {id(v) for _, _, q in model_quantizers(self.model) for v in q.trainable_variables}
        self.is_width = [id(v) in widths for v in self.model.trainable_variables]
        betas = {id(layer.beta) for layer, _ in priced_layers(self.model)}
        self.is_beta = [id(v) in betas for v in self.model.non_trainable_variables]
        self.epoch = jax.jit(self._epoch)
        self.luts = jax.jit(self._luts)

    def _optimizer(self, model: keras.Model) -> Any:
        rate = keras.optimizers.schedules.CosineDecay(self.rate, self.steps, alpha=0.01)
        optimizer = keras.optimizers.Adam(rate)
        optimizer.build(model.trainable_variables)
        return optimizer

    def start(self, seed: int) -> State:
        keras.utils.set_random_seed(seed)
        model = self.make()
        trained = [v.value for v in model.trainable_variables]
        optimizer = self._optimizer(model)
        return (
            trained,
            [v.value for v in model.non_trainable_variables],
            [v.value for v in optimizer.variables],
            trained,
        )

    def _loss(self, trained: list[Any], others: list[Any], x: Any, y: Any) -> tuple[Any, list[Any]]:
        logits, others, losses = self.model.stateless_call(trained, others, x, training=True, return_losses=True)
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(logits), -1)) + sum(losses), others

    def _epoch(self, state: State, order: Any, x: Any, y: Any, beta: Any, held: Any) -> tuple[State, Any]:
        """One epoch; `held`: 1 where widths are held and weights averaged, else 0."""

        def step(state: State, rows: Any) -> tuple[State, Any]:
            trained, others, slots, averages = state
            others = [beta * jnp.ones_like(v) if b else v for v, b in zip(others, self.is_beta, strict=True)]
            gradient = jax.value_and_grad(self._loss, has_aux=True)
            (loss, others), gradients = gradient(trained, others, x[rows], y[rows])
            moved, slots = self.optimizer.stateless_apply(slots, gradients, trained)
            moved = [
                jnp.where(held > 0, old, new) if width else new
                for old, new, width in zip(trained, moved, self.is_width, strict=True)
            ]
            kept = self.average * held
            averages = [kept * a + (1.0 - kept) * v for a, v in zip(averages, moved, strict=True)]
            return (moved, others, slots, averages), loss

        state, losses = jax.lax.scan(step, state, order.reshape(-1, self.batch))
        return state, jnp.mean(losses)

    def _luts(self, trained: list[Any], others: list[Any]) -> Any:
        mapping = list(zip(self.model.trainable_variables, trained, strict=True))
        mapping += list(zip(self.model.non_trainable_variables, others, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return sum(layer.luts() for layer, _ in priced_layers(self.model))

    def run(
        self,
        x: np.ndarray,
        y: np.ndarray,
        seed: int,
        epochs: int,
        beta: Callable[[int, float, float], float],
        freeze: int,
        average: bool,
        damping: float = 0.0,
    ) -> keras.Model:
        """The trained model.

        Args:
            beta: from the epoch, the LUTs to expect and beta of the epoch before.
            freeze: the first epoch with held widths; `epochs` for none.
            average: whether the averages are taken in the end.
            damping: of `damp`, after each epoch with held widths.
        """
        state, before, luts = self.start(seed), 0.0, 0.0
        draw = np.random.default_rng(seed)
        count = len(x) // self.batch * self.batch
        x, y = jnp.asarray(x), jnp.asarray(y)
        for epoch in range(epochs):
            luts = float(self.luts(*state[:2])) if epoch else 0.0
            before = beta(epoch, luts, before)
            order = jnp.asarray(draw.permutation(len(x))[:count])
            state, _ = self.epoch(state, order, x, y, before, float(epoch >= freeze))
            if damping and epoch >= freeze:
                state = (self._damped(state[0], state[1], damping), *state[1:])
        model = self.make()
        for variable, value in zip(model.trainable_variables, state[3] if average else state[0], strict=True):
            variable.assign(value)
        for variable, value in zip(model.non_trainable_variables, state[1], strict=True):
            variable.assign(value)
        return model

    def _damped(self, trained: list[Any], others: list[Any], part: float) -> list[Any]:
        """The trained variables, each weight moved by `part` of the way to its quantised value."""
        held = [*self.model.trainable_variables, *self.model.non_trainable_variables]
        for variable, value in zip(held, [*trained, *others], strict=True):
            variable.assign(value)
        damp(self.model, part)
        return [v.value for v in self.model.trainable_variables]
