"""Trains the nets of benchmarks/tiny_mnist.py, on JAX: neurons of six one-bit inputs, each of which ends as a table.

1. `search`: a dense layer of thresholds loses its smallest weights, epoch by epoch, until `INPUTS` of each neuron are
   left; the layer behind it, until the wanted number is left. Weights of a neuron are divided by their norm, so that
   only their direction is trained, at a rate that a small start makes high.
2. `settle`: with these inputs, each neuron becomes a table of 64 entries, begun with what the thresholds answer, and
   the entries are trained one by one: any function of six bits is as dear as any other.

Steps are straight through: forward 0 or 1, backward the gradient of z where |z| < 1 (thresholds) or all of it (tables).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

INPUTS = 6
PATTERNS = np.arange(1 << INPUTS)[:, None] >> np.arange(INPUTS) & 1
"""The bits of each entry's place in a table, the first input lowest."""
BATCH = 256
START = 0.03
"""Deviation of the first weights: small, so that Adam's steps turn the direction of a neuron fast."""
SHARPNESS = 3.0
"""The norm that the weights of a neuron start with once divided: sums then deviate by about 1."""

Net = dict[str, np.ndarray]
"""inputs: (neurons, INPUTS), which pixels. tables: (neurons, 64), true where 1. weights: (neurons, 10), and offsets,
what is added to each class; both in quarters."""


def train(x: np.ndarray, y: np.ndarray, neurons: int, weights: int, epochs: tuple[int, int], seed: int) -> Net:
    """A trained net.

    Args:
        x: bits of pixels, (samples, pixels), 0 and 1. y: rows of probabilities.
        weights: of the second layer, at most; the others are 0.
        epochs: of the search, and of the tables.
    """
    draw = np.random.default_rng(seed)
    trained, masks, mean = search(x, y, neurons, weights, epochs[0], draw)
    w = np.asarray(_direction(trained, masks[0]))
    inputs = np.sort(np.argsort(-np.abs(w), axis=0)[:INPUTS], axis=0).T
    at = trained["bias"] - mean @ w
    thresholds = np.take_along_axis(w.T, inputs, 1) @ PATTERNS.T + np.asarray(at)[:, None]
    places = np.zeros((len(x), neurons), np.uint8)
    for k in range(INPUTS):
        places |= x[:, inputs[:, k]].astype(np.uint8) << k
    settled = settle(places, y, thresholds, trained, masks[1], epochs[1], draw)
    kept = np.asarray(_powers(settled["weights"]) * masks[1])
    offsets = np.asarray(settled["offset"] / jnp.exp(settled["scale"])) - 0.5 * kept.sum(0)
    tables = np.asarray(settled["tables"]) > 0
    return {"inputs": inputs, "tables": tables, "weights": kept, "offsets": np.round(4.0 * offsets) / 4.0}


def search(
    x: np.ndarray, y: np.ndarray, neurons: int, weights: int, epochs: int, draw: np.random.Generator
) -> tuple[dict[str, Any], list[Any], np.ndarray]:
    """Trained variables, masks of both layers, mean of x."""
    pixels, classes = x.shape[1], y.shape[1]
    mean = x.mean(0, dtype=np.float32)
    variables = {
        "kernel": START * draw.standard_normal((pixels, neurons)),
        "norm": np.full(neurons, SHARPNESS),
        "bias": np.zeros(neurons),
        "weights": 0.5 * draw.standard_normal((neurons, classes)),
        "scale": np.log(4.0 / np.sqrt(neurons)),
        "offset": np.zeros(classes),
    }

    def answer(v: dict[str, Any], masks: Any, rows: Any) -> Any:
        z = (rows - mean) @ _direction(v, masks[0]) + v["bias"]
        return _classes(_threshold(z), v, masks[1])

    def prune(epoch: int, v: dict[str, Any], masks: list[Any]) -> list[Any]:
        done = min(1.0, epoch / (0.7 * epochs))
        kept = max(INPUTS, round(pixels ** (1 - done) * INPUTS**done))
        behind = max(weights, round((neurons * classes) ** (1 - done) * weights**done))
        first = _largest(np.asarray(v["kernel"] * masks[0]), kept, axis=0)
        return [first, _largest(np.asarray(v["weights"] * masks[1]).ravel(), behind, axis=0).reshape(neurons, classes)]

    masks = [np.ones((pixels, neurons), np.float32), np.ones((neurons, classes), np.float32)]
    trained, masks = _fit(answer, variables, masks, x.astype(np.float32), y, epochs, prune, draw)
    return trained, prune(epochs, trained, masks), mean  # after less than four epochs more would be left


def settle(
    places: np.ndarray, y: np.ndarray, start: np.ndarray, before: dict[str, Any], mask: Any, epochs: int, draw: Any
) -> dict[str, Any]:
    """Trained tables and weights.

    Args:
        places: which entry each sample asks of each neuron.
        start: the entries to begin with, positive for 1.
        before: variables of the search.
    """
    first = jnp.arange(len(start), dtype=jnp.int32) << INPUTS
    variables = {name: before[name] for name in ("weights", "scale", "offset")}

    def answer(v: dict[str, Any], masks: Any, rows: Any) -> Any:
        return _classes(_bit(jnp.take(v["tables"].ravel(), rows.astype(jnp.int32) + first)), v, masks[0])

    variables["tables"] = np.clip(0.5 * start, -0.9, 0.9)
    return _fit(answer, variables, [mask], places, y, epochs, lambda *now: now[-1], draw)[0]


def _fit(
    answer: Callable[..., Any],
    variables: dict[str, Any],
    masks: list[Any],
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
    prune: Callable[..., list[Any]],
    draw: np.random.Generator,
) -> tuple[dict[str, Any], list[Any]]:
    """Adam, 5e-3 falling to a hundredth along a cosine; one compiled call an epoch, with masks that `prune` makes."""
    steps = len(y) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(5e-3, epochs * steps, alpha=0.01)
    held = {name: keras.Variable(np.asarray(value, np.float32)) for name, value in variables.items()}
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(list(held.values()))
    names = list(held)

    def loss(values: list[Any], masks: Any, rows: Any, truth: Any) -> Any:
        logits = answer(dict(zip(names, values, strict=True)), masks, rows)
        return -jnp.mean(jnp.sum(truth * jax.nn.log_softmax(logits), -1))

    @jax.jit
    def epoch(values: Any, slots: Any, masks: Any, order: Any, x: Any, y: Any) -> Any:
        def step(state: Any, picked: Any) -> Any:
            value, gradients = jax.value_and_grad(loss)(state[0], masks, x[picked], y[picked])
            moved, slots = optimizer.stateless_apply(state[1], gradients, state[0])
            bounded = [jnp.clip(v, -1.0, 1.0) if n == "tables" else v for n, v in zip(names, moved, strict=True)]
            return (bounded, slots), value

        state, found = jax.lax.scan(step, (values, slots), order)
        return *state, found.mean()

    values, slots = [v.value for v in held.values()], [v.value for v in optimizer.variables]
    x, y = jnp.asarray(x), jnp.asarray(y)
    for n in range(epochs):
        masks = prune(n, dict(zip(names, values, strict=True)), masks)
        order = draw.permutation(len(y))[: steps * BATCH].reshape(steps, BATCH)
        values, slots, found = epoch(values, slots, masks, order, x, y)
        print(f"epoch {n}: {float(found):.4f}", flush=True)
    return dict(zip(names, values, strict=True)), masks


def _direction(v: dict[str, Any], mask: Any) -> Any:
    kernel = v["kernel"] * mask
    return kernel / jnp.sqrt((kernel**2).sum(0) + 1e-9) * v["norm"]


def _classes(bits: Any, v: dict[str, Any], mask: Any) -> Any:
    return (bits - 0.5) @ (_powers(v["weights"]) * mask) * jnp.exp(v["scale"]) + v["offset"]


def _largest(weights: np.ndarray, count: int, axis: int) -> np.ndarray:
    """1 where a weight is among the `count` largest along the axis, else 0."""
    size = np.abs(weights)
    limit = -np.partition(-size, count - 1, axis=axis).take(count - 1, axis=axis)
    return (size >= limit).astype(np.float32)


def _straight(forward: Callable[[Any], Any], passes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`forward`, with the gradient 1 where `passes`."""
    made = jax.custom_vjp(forward)
    made.defvjp(lambda z: (forward(z), z), lambda z, upstream: (upstream * passes(z),))
    return made


def _rounded(w: Any) -> Any:
    """The nearest of 1/4, 1/2, 1, by logarithm, with the sign of w."""
    return jnp.sign(w) * 2.0 ** jnp.clip(jnp.round(jnp.log2(jnp.maximum(jnp.abs(w), 1e-9))), -2.0, 0.0)


_threshold = _straight(lambda z: (z > 0).astype(jnp.float32), lambda z: jnp.abs(z) < 1.0)
_bit = _straight(lambda z: (z > 0).astype(jnp.float32), jnp.ones_like)
_powers = _straight(_rounded, lambda w: jnp.abs(w) < 1.4)
