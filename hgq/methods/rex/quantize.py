"""The method as a whole: one dial, from bits, orders and a fraction, or from a budget of EBOPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from hgq.importers.types import Types
from hgq.methods.fold import norm_statistics
from hgq.methods.network import (
    LayerTypes,
    averages,
    build,
    fold,
    kernel_value,
    row_axes,
    weighted,
    with_normalisations,
)
from hgq.methods.policy import Policy, check_layers
from hgq.methods.prices import Prices
from hgq.methods.result import Result
from hgq.methods.rex.expand import Expansion, expand
from hgq.methods.scale import covering
from hgq.methods.spread import data_free

MOST_BITS = 12
"""Magnitude bits that a budget is spent on at most: what 12 leave over is far below what activations lose."""
SPARSE = 16
"""A budget is met by fractions of rows of 1/16, 2/16 ... 1."""


@dataclass(frozen=True)
class Dial:
    """What is swept: width of an order, number of orders, part of the rows that the orders after the first refine."""

    bits: int
    orders: int
    gamma: float

    def __str__(self) -> str:
        return f"{self.orders} orders of {self.bits} bits, gamma {self.gamma:g}"


def quantize(
    model: keras.Model | str | Path,
    *,
    input_range: tuple[float, float],
    bits: int | None = None,
    orders: int | None = None,
    gamma: float | None = None,
    budget_ebops: int | None = None,
    activation_bits: int = 8,
    sigmas: float | None = 6.0,
    policy: Policy | None = None,
    drop_softmax: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Result:
    """Quantises a trained float model without any data.

    Kernels are expanded with power-of-two scales, so that the sum of all orders is one fixed-point number for each
    weight: wider in the rows that more orders refined. Ranges of activations are those of `hgq.methods.spread`.

    Args:
        model: a plain Keras model, or its file.
        input_range: smallest and largest value of the model's inputs; they saturate there.
        bits, orders, gamma: the dial; see `expand`. By default 2 orders of all rows, or with a policy one.
        budget_ebops: in place of these: the dial with the smallest sum over layers of |W - W^(K)|^2 / |W|^2 that
            costs no more, of 2, 3 and 4 bits. (The paper's rule is not known: reconstructed.)
        activation_bits: width of what each layer reads.
        sigmas: see `hgq.methods.spread.data_free`.
        policy: bits of each layer, in place of `bits` and `activation_bits`.
        drop_softmax: leave a softmax at the end out.

    Raises:
        ConversionError: the model holds something that is not supported.
        ValueError: options that contradict each other, or a budget below what the first order costs.
    """
    if sum(given is not None for given in (bits, budget_ebops, policy)) != 1:
        raise ValueError("rex needs one of bits, budget_ebops and policy; the first two: --bits 4 or --budget-ebops N")
    for name, given in (("orders", orders), ("gamma", gamma)):
        if budget_ebops is not None and given is not None:
            raise ValueError(f"{name}={given}: a budget of EBOPs chooses bits, orders and gamma; leave {name} out")
    if orders is None:  # a policy says how wide weights are, and a second order would make them wider
        orders = 2 if policy is None else 1
    gamma = 1.0 if gamma is None else gamma
    progress("fold the normalisations")
    folded = fold(model, drop_softmax)
    layers = [layer.name for layer in weighted(folded)]
    policy = None if policy is None else with_normalisations(folded, policy)
    if policy is not None:
        check_layers(policy, layers)
    progress("ranges without data")
    ranges = data_free(folded, input_range, norm_statistics(model), sigmas)
    widths = dict.fromkeys(ranges, activation_bits) | {n: one.a for n, one in (policy or {}).items()}
    for name, one in (policy or {}).items():
        least = 1 + bool((ranges[name][0] < 0).any())
        if one.w < 2 or one.a < least:
            raise ValueError(
                f"layer '{name}': {one.w} bits for weights and {one.a} for its input in the policy; the least are 2 "
                f"and {least}, for values with a sign have one bit for it"
            )
    inputs = {name: covering(*ranges[name], widths[name]) for name in ranges}
    progress("expand the kernels")
    kernels = {layer.name: (kernel_value(layer), row_axes(layer)) for layer in weighted(folded)}
    if budget_ebops is None:
        of_layer = {name: policy[name].w if policy else bits for name in layers}
        expansions = {n: expand(w, of_layer[n], orders, gamma, rows=rows) for n, (w, rows) in kernels.items()}
        made = build(folded, choose(folded, expansions, inputs))
        dial = f"bits of the policy, orders {orders}, gamma {gamma:g}" if policy else str(Dial(bits, orders, gamma))
    else:
        progress("spend the budget")
        made, expansions, found = _within(budget_ebops, folded, kernels, inputs)
        dial = str(found)
    left = {n: _worst(kernels[n][0], one) for n, one in expansions.items()}
    worst = max(left, key=left.__getitem__)
    facts = [("dial", dial), ("largest residual of a weight", f"{left[worst]:.2g} of the largest of '{worst}'")]
    chosen = choose(folded, expansions, inputs)
    return Result(made, "rex", facts, folded=folded, chosen=chosen, details={"expansions": expansions})


def choose(folded: keras.Model, expansions: dict[str, Expansion], inputs: dict[str, Types]) -> dict[str, LayerTypes]:
    """What `build` takes: each kernel as the sum of its orders, in exactly its types."""
    chosen = {name: LayerTypes(inputs[name], e.types(), kernel_values=e.value) for name, e in expansions.items()}
    return chosen | {layer.name: LayerTypes(inputs[layer.name]) for layer in averages(folded)}


def _within(
    budget: int,
    folded: keras.Model,
    kernels: dict[str, tuple[np.ndarray, tuple[int, ...]]],
    inputs: dict[str, Types],
) -> tuple[keras.Model, dict[str, Expansion], Dial]:
    """The model, its expansions and the dial that leave the smallest residual at a cost of `budget` EBOPs or less."""

    def expanded(dial: Dial) -> dict[str, Expansion]:
        return {n: expand(w, dial.bits, dial.orders, dial.gamma, rows=rows) for n, (w, rows) in kernels.items()}

    cheapest = choose(folded, expanded(Dial(2, 1, 1.0)), inputs)
    prices = Prices(folded, build(folded, cheapest))
    least = prices.total(cheapest)
    if least > budget:
        raise ValueError(
            f"a budget of {budget:,} EBOPs is below the {least:,} of one order of 2 bits; give a larger one, "
            "or fewer bits to the activations (--activation-bits)"
        )
    candidates: list[tuple[float, Dial]] = []
    for bits in (2, 3, 4):
        for orders in range(1, MOST_BITS // (bits - 1) + 1):

            def fits(steps: int, bits: int = bits, orders: int = orders) -> bool:
                return prices.total(choose(folded, expanded(Dial(bits, orders, steps / SPARSE)), inputs)) <= budget

            steps = _most(fits, first=orders == 1)
            if steps is None:
                break
            dial = Dial(bits, orders, steps / SPARSE)
            left = [_left(kernels[name][0], one) for name, one in expanded(dial).items()]
            candidates.append((sum(left), dial))
    best = min(candidates, key=lambda one: (one[0], one[1].orders))[1]
    return build(folded, choose(folded, expanded(best), inputs)), expanded(best), best


def _worst(kernel: np.ndarray, expansion: Expansion) -> float:
    """max|W - W^(K)| / max|W|; 0 for a kernel of zeros."""
    largest = np.abs(kernel).max()
    return float(np.abs(kernel - expansion.value).max() / largest) if largest else 0.0


def _left(kernel: np.ndarray, expansion: Expansion) -> float:
    """|W - W^(K)|^2 / |W|^2."""
    energy = (kernel.astype(np.float64) ** 2).sum()
    return float(((kernel - expansion.value) ** 2).sum() / energy) if energy else 0.0


def _most(fits: Callable[[int], bool], first: bool) -> int | None:
    """The largest number of sixteenths that fits, or None; of one order there is only the whole."""
    if fits(SPARSE):
        return SPARSE
    if first or not fits(1):
        return None
    low, high = 1, SPARSE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
