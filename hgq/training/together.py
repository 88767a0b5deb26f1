"""Several small models of one architecture, trained at once: seeds, prices, starts. JAX only."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from hgq.resource import priced_layers, set_cost
from hgq.training.beta import BetaSchedule
from hgq.training.calibrate import count_samples
from hgq.training.freeze import widths_held

Arrays = Any
HELD_OUT = "validation_data[0]", "validation_data[1]"


def fit_together(
    models: Sequence[keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: keras.optimizers.Optimizer | str,
    loss: Callable[[Any, Any], Any] | str,
    epochs: int,
    batch_size: int = 256,
    schedules: Sequence[BetaSchedule] | None = None,
    validation_data: tuple[np.ndarray, np.ndarray] | None = None,
    metric: Callable[[Any, Any], Any] = keras.metrics.sparse_categorical_accuracy,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Trains models that differ only in the values of their variables, one step of all of them in one operation.

    What differs may be trained (the weights of other seeds) or not (`beta` of a layer, the price of zeros of a
    `BinaryTernaryQuantizer`). The step is compiled once, as one loop over an epoch, in which every variable has one
    more axis (`jax.vmap`). Each model sees the samples in an order of its own. An epoch leaves out the last
    ``len(x) % batch_size`` samples of its order.

    Args:
        models: built, with the same layers and shapes; they are changed in place.
        x, y: one array each, that fit into memory; the batch axis first.
        optimizer: as in `compile`, a new one; each model gets a copy of its state.
        loss: as in `compile`, one; its mean over the batch counts.
        schedules: of beta, one for each model; None leaves beta as it is.
        validation_data: samples and labels for ``val_loss`` and ``val_metric`` after each epoch.
        metric: ``(y, outputs) -> a number for each sample``.
        seed: of the orders.

    Returns:
        "loss" (that of the task and the prices of layers) and, with validation data, "val_loss" (of the task alone)
        and "val_metric": arrays of shape (epochs, models).

    Raises:
        ValueError: another back end than JAX, models that do not match, or data that do not; a model or an optimizer
            that this cannot train.
    """
    optimizer, given = keras.optimizers.get(optimizer), keras.losses.get(loss)
    if validation_data is not None and not (isinstance(validation_data, list | tuple) and len(validation_data) == 2):
        raise ValueError("fit_together: validation_data is no pair. Fix: validation_data=(x, y)")
    first = _checked(models, x, y, epochs, batch_size, schedules, optimizer)
    _check_data(first, given, {"x": x, "y": y} | dict(zip(HELD_OUT, validation_data or (), strict=False)))
    import jax
    from jax import numpy as jnp

    def task(y: Any, out: Any) -> Any:
        return keras.ops.mean(given(y, out))

    optimizer.build(first.trainable_variables)
    state: tuple[Any, Any, Any] = (
        _stacked([model.trainable_variables for model in models]),
        _stacked([model.non_trainable_variables for model in models]),
        _stacked([optimizer.variables] * len(models)),
    )
    x, y = jnp.asarray(x), jnp.asarray(y)

    def price(trained: Arrays, rest: Arrays, picked: Any) -> Any:
        out, rest, losses = first.stateless_call(trained, rest, x[picked], training=True, return_losses=True)
        return task(y[picked], out) + sum(losses), rest

    def step(state: Arrays, picked: Any) -> Any:
        trained, rest, held = state
        (value, rest), slopes = jax.value_and_grad(price, has_aux=True)(trained, rest, picked)
        trained, held = optimizer.stateless_apply(held, slopes, trained)
        return (trained, rest, held), value

    @jax.jit
    @jax.vmap
    def epoch(state: Arrays, order: Any) -> Any:
        state, values = jax.lax.scan(step, state, order)
        return state, values.mean()

    @jax.jit
    def judge(state: Arrays, x: Any, y: Any) -> Any:
        def one(state: Arrays) -> Any:
            out, _ = first.stateless_call(state[0], state[1], x, training=False)
            return task(y, out), keras.ops.mean(metric(y, out))

        return jax.vmap(one)(state)

    betas = [n for n, v in enumerate(first.non_trainable_variables) if v.name == "ebops_beta"]
    rng = np.random.default_rng(seed)
    history: dict[str, list[np.ndarray]] = {"loss": []}
    for number in range(epochs):
        if schedules is not None:
            now = jnp.asarray([schedule.beta(number) for schedule in schedules], "float32")
            for n in betas:
                state[1][n] = now
        orders = [rng.permutation(len(x))[: len(x) // batch_size * batch_size] for _ in models]
        state, values = epoch(state, jnp.asarray(orders, "int32").reshape(len(models), -1, batch_size))
        history["loss"].append(np.asarray(values))
        if validation_data is not None:
            judged = judge(state, *map(jnp.asarray, validation_data))
            for name, found in zip(("val_loss", "val_metric"), judged, strict=True):
                history.setdefault(name, []).append(np.asarray(found))
    for n, model in enumerate(models):
        for variables, values in ((model.trainable_variables, state[0]), (model.non_trainable_variables, state[1])):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value[n])
    return {name: np.stack(rows) for name, rows in history.items()}


def _stacked(variables: Sequence[Sequence[Any]]) -> list[Any]:
    """Each variable of all models as one array, with the models along its first axis."""
    return [np.stack([np.asarray(one.value) for one in alike]) for alike in zip(*variables, strict=True)]


def _checked(
    models: Sequence[keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
    batch_size: int,
    schedules: Sequence[BetaSchedule] | None,
    optimizer: keras.optimizers.Optimizer,
) -> keras.Model:
    """The first model, after all were compared with it."""
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"fit_together: Keras runs on {keras.backend.backend()}, which cannot train models at once. "
            "Fix: set the environment variable KERAS_BACKEND=jax, or train the models one after the other."
        )
    if not models:
        raise ValueError("fit_together: no models were given")
    if len({id(model) for model in models}) < len(models):
        raise ValueError("fit_together: a model was given twice. Fix: make one for each seed or price.")
    if optimizer.built and int(optimizer.iterations):
        raise ValueError(
            f"fit_together: the optimizer '{optimizer.name}' has done {int(optimizer.iterations)} steps with another "
            "model, whose momentum it has. Fix: give a new one."
        )
    if optimizer.use_ema:
        raise ValueError(
            "fit_together: the optimizer averages weights (use_ema=True), which nothing would use. Fix: leave it out."
        )
    for n, model in enumerate(models):
        if not model.built:
            raise ValueError(f"fit_together: model {n} is not built. Fix: begin it with keras.Input(...).")
        if widths_held(model):
            raise ValueError(
                f"fit_together: the widths of model {n} are held at values of its own, which one compiled step for "
                "all models cannot do. Fix: hgq.training.release_widths(model), or train them one after the other."
            )
        for kind in ("trainable_variables", "non_trainable_variables"):
            own, wanted = ([f"{v.name} {tuple(v.shape)}" for v in getattr(m, kind)] for m in (model, models[0]))
            for one, other in itertools.zip_longest(own, wanted, fillvalue="none"):
                if one != other:
                    raise ValueError(
                        f"fit_together: model {n} has the variable {one} where model 0 has {other}. "
                        "Fix: give models that the same function made."
                    )
    for what, array in (("x", x), ("y", y)):
        if not hasattr(array, "shape"):
            raise ValueError(f"fit_together: {what} is a {type(array).__name__}; give one array")
    if len(x) != len(y) or not 1 <= batch_size <= len(x) or epochs < 1:
        raise ValueError(
            f"fit_together: {len(x)} samples, {len(y)} labels, batches of {batch_size}, {epochs} epochs; there must be "
            "as many labels as samples, at least one batch and one epoch"
        )
    if schedules is not None:
        if len(schedules) != len(models) or any(schedule.epochs is None for schedule in schedules):
            raise ValueError(
                f"fit_together: {len(schedules)} schedules for {len(models)} models. "
                "Fix: give one for each model, as BetaSchedule(..., epochs=...)."
            )
        costs = sorted({schedule.cost for schedule in schedules})
        if len(costs) > 1:
            raise ValueError(f"fit_together: schedules of {' and of '.join(costs)}. Fix: give all the same cost.")
        if not priced_layers(models[0]):
            raise ValueError("fit_together: schedules, but the models have no quantised layer to set beta of")
        for model in models:
            set_cost(model, costs[0])
    first = _computed(models[0], x[:batch_size])
    for n, model in enumerate(models[1:], 1):
        if _computed(model, x[:batch_size]) != first:
            raise ValueError(
                f"fit_together: model {n} computes something else from its variables than model 0: another activation, "
                "rounding, cost, gamma, rate of dropout or the like. Fix: give models that the same function made."
            )
    return models[0]


def _check_data(model: keras.Model, loss: Any, arrays: dict[str, np.ndarray]) -> None:
    """Refuses what would train to NaN, or on labels of classes that there are not: JAX takes both in silence."""
    for what, array in arrays.items():
        count_samples(array, f"fit_together: {what}")
    own, held = arrays["x"].shape[1:], arrays.get(HELD_OUT[0], arrays["x"]).shape[1:]
    if held != own:
        raise ValueError(
            f"fit_together: samples of {HELD_OUT[0]} have the shape {held} where x has {own}. Fix: give both alike"
        )
    if HELD_OUT[0] in arrays and len({len(arrays[name]) for name in HELD_OUT}) > 1:
        raise ValueError(f"fit_together: {' and '.join(HELD_OUT)} are of unequal length. Fix: a label for each sample")
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    ignores = getattr(loss, "ignore_class", getattr(loss, "_fn_kwargs", {}).get("ignore_class")) is not None
    if name == "sparse_categorical_crossentropy" and not ignores:
        classes = model.output_shape[-1]
        for what in [name for name in ("y", HELD_OUT[1]) if name in arrays]:
            low, high = np.min(arrays[what]), np.max(arrays[what])
            if low < 0 or high >= classes:
                raise ValueError(
                    f"fit_together: {what} holds classes from {low} to {high}, and the models give {classes}. "
                    f"Fix: class numbers from 0 to {classes - 1}"
                )


def _computed(model: keras.Model, x: np.ndarray) -> tuple[str, list[Any]]:
    """What a training step of the model computes, values of variables left out."""
    import jax

    def answer(trained: Arrays, rest: Arrays) -> Any:
        return model.stateless_call(trained, rest, x, training=True, return_losses=True)

    values = ([v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables])
    made = jax.make_jaxpr(answer)(*values)
    return re.sub(r"0x[0-9a-f]+", "", str(made)), [np.asarray(constant).tolist() for constant in made.consts]
