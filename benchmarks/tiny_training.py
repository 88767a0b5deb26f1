"""Trains the nets of benchmarks/tiny_mnist.py without gradients: neurons that are tables of six one-bit inputs.

Neurons are visited in turn, each while all others are held. What its bit is worth to a sample is the difference of the
sample's loss (cross entropy) between bit 1 and bit 0. Summed over the samples that ask for an entry of the table, that
says what the entry has to be; and the sum of the negative ones is what the best table is worth. The same sums with and
without a pixel, which are one sparse product for all pixels, say what the best table would be worth if that pixel
replaced one of the inputs: the best exchange is known exactly, and made.

Each pass sees the images anew, moved by up to a pixel, or the tables would learn them by heart.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import softmax

INPUTS = 6
ENTRIES = 1 << INPUTS
PAIRS = [np.arange(ENTRIES).reshape(-1, 2, 1 << k).swapaxes(1, 2).reshape(-1, 2) for k in range(INPUTS)]
"""Of each input, the pairs of entries between which it decides."""
SIGN = np.array([-1, 1], np.float32)
PASSES = ((8_000, 6), (27_000, 1), (27_000, 1), (54_000, 1), (54_000, 1), (54_000, 1), (54_000, 1))
"""Of each pass over the neurons: samples, and how many inputs of a neuron it may exchange."""

Net = dict[str, np.ndarray]
"""inputs: (neurons, INPUTS), which pixels. tables: (neurons, ENTRIES), true where 1, the first input the lowest bit of
the place. weights: (neurons, classes), of -1, 0 and 1. offsets: what is added to each class, in quarters. The classes'
logits are `scale` times bits @ weights + offsets."""


def train(
    take: Callable[[np.ndarray], np.ndarray],
    y: np.ndarray,
    neurons: int,
    weights: int,
    draw: np.random.Generator,
    passes: tuple[tuple[int, int], ...] = PASSES,
) -> Net:
    """A trained net.

    Args:
        take: bits of the samples of these numbers, (samples, pixels), 0 and 1; other ones each time, if it likes.
        y: rows of probabilities of all samples, none of which is always 0.
        weights: of the layer behind the neurons, from `neurons` on: neurons beyond the first have two.
    """
    if not neurons <= weights <= 2 * neurons:
        raise ValueError(f"{weights} weights for {neurons} neurons: one or two of each are placed")
    classes, y = y.shape[1], y.astype(np.float32)
    net = {
        "weights": np.zeros((neurons, classes), np.float32),
        "tables": np.zeros((neurons, ENTRIES), bool),
        "scale": np.float32(4.0 / np.sqrt(neurons)),
        "offsets": np.log(y.mean(0)),
    }
    for j in range(neurons):
        chosen = (j + np.arange(1 + (j < weights - neurons)) * draw.integers(1, classes)) % classes
        net["weights"][j, chosen] = draw.choice([-1.0, 1.0], len(chosen))
    for number, (samples, exchanges) in enumerate(passes):
        start = time.process_time()
        picked = np.sort(draw.permutation(len(y))[:samples])
        x = take(picked)
        if not number:
            net["inputs"] = np.stack([draw.choice(x.shape[1], INPUTS, replace=False) for _ in range(neurons)])
        loss = _visit_all(net, x, y[picked], exchanges, draw, empty=not number)
        print(f"pass {number}: loss {loss:.4f}, {time.process_time() - start:.0f} s", flush=True)
    offsets = net["offsets"] / net["scale"] - 0.5 * net["weights"].sum(0)
    return net | {"offsets": np.round(4.0 * offsets) / 4.0}


def answers(net: Net, x: np.ndarray) -> np.ndarray:
    """What a trained net gives each class for bits (samples, pixels), in units of its scale."""
    return np.stack(_bits(net, np.ascontiguousarray(x.T)), 1) @ net["weights"] + net["offsets"]


def _visit_all(net: Net, x: np.ndarray, y: np.ndarray, exchanges: int, draw: np.random.Generator, empty: bool) -> float:
    """Visits each neuron once, and then fits offsets and scale; the loss on these samples.

    Args:
        empty: the sums begin with the neurons that were visited, not with all of them.
    """
    rows, pixels = x.astype(np.float32), np.ascontiguousarray(x.T)
    logits = np.tile(net["offsets"], (len(y), 1))
    if not empty:
        logits += (np.stack(_bits(net, pixels), 1) - np.float32(0.5)) @ net["weights"] * net["scale"]
    for j in draw.permutation(len(net["weights"])):
        at = np.flatnonzero(net["weights"][j])
        steps = 0.5 * net["scale"] * net["weights"][j, at]
        places = _places(pixels, net["inputs"][j])
        if not empty:
            logits[:, at] -= SIGN[net["tables"][j][places].view(np.uint8), None] * steps
        worth = _worth(logits, y, at, steps)
        for _ in range(exchanges):
            found = _exchange(places, worth, rows, net["inputs"][j])
            if found is None:
                break
            net["inputs"][j, found[0]] = found[1]
            places = _places(pixels, net["inputs"][j])
            net["tables"][j] = np.bincount(places, worth, ENTRIES) < 0
        sums, spread = np.bincount(places, worth, ENTRIES), np.sqrt(np.bincount(places, worth**2, ENTRIES))
        net["tables"][j] = np.where(abs(sums) > spread, sums < 0, net["tables"][j])
        logits[:, at] += SIGN[net["tables"][j][places].view(np.uint8), None] * steps
    return _fit(net, logits, y)


def _worth(logits: np.ndarray, y: np.ndarray, at: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How much larger each sample's loss is if `steps` are added to the classes `at` than if they are taken away."""
    powers = np.exp(logits)
    total, moved = powers.sum(1), powers[:, at]
    return np.log((total + moved @ np.expm1(steps)) / (total + moved @ np.expm1(-steps))) - 2.0 * y[:, at] @ steps


def _exchange(places: np.ndarray, worth: np.ndarray, rows: np.ndarray, inputs: np.ndarray) -> tuple[int, int] | None:
    """The input of a neuron to replace, and by which pixel, for the best table there can be; None if none is better."""
    order = np.argsort(places, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=ENTRIES))])
    on = csr_matrix((worth[order], order, begins), shape=(ENTRIES, len(rows))) @ rows  # where the pixel is 1
    both = np.bincount(places, worth, ENTRIES)
    loss = np.empty((INPUTS, rows.shape[1]))
    for k, pairs in enumerate(PAIRS):
        one = on[pairs].sum(1)
        loss[k] = np.minimum(one, 0).sum(0) + np.minimum(both[pairs].sum(1)[:, None] - one, 0).sum(0)
    loss[:, inputs] = 0.0
    slot, pixel = np.unravel_index(loss.argmin(), loss.shape)
    better = np.minimum(both, 0).sum() - loss[slot, pixel] > 2e-5 * len(rows)
    return (int(slot), int(pixel)) if better else None


def _fit(net: Net, logits: np.ndarray, y: np.ndarray) -> float:
    """Newton's steps in the offsets and the scale; the loss before the last of them."""
    for _ in range(3):
        p = softmax(logits, axis=1)
        loss = -(y * np.log(p)).sum(1).mean()
        step = (p - y).mean(0) / (p * (1.0 - p)).mean(0)
        sums = (logits - net["offsets"]) / net["scale"]
        net["offsets"] = net["offsets"] - step
        slope = ((p - y) * sums).sum(1).mean()
        net["scale"] = net["scale"] - slope / ((p * sums**2).sum(1) - (p * sums).sum(1) ** 2).mean()
        logits = sums * net["scale"] + net["offsets"]
    return float(loss)


def _places(pixels: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Which entry each sample asks of a neuron; `pixels` has a row for each pixel."""
    places = np.zeros(pixels.shape[1], np.uint8)
    for k, pixel in enumerate(inputs):
        places |= pixels[pixel] << np.uint8(k)
    return places


def _bits(net: Net, pixels: np.ndarray) -> list[np.ndarray]:
    """What each neuron answers."""
    neurons = zip(net["inputs"], net["tables"].astype(np.float32), strict=True)
    return [table[_places(pixels, inputs)] for inputs, table in neurons]
