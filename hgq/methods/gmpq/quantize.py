"""The whole method on one data set: search, choice, deployment, fine-tuning, and the last EBOPs over the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hgq.methods.gmpq.attribution import find_head
from hgq.methods.gmpq.choice import likeliest, likeliest_within
from hgq.methods.gmpq.cost import policy_ebops
from hgq.methods.gmpq.deploy import finetune, layer_types, other_ebops
from hgq.methods.gmpq.imitation import rank_correlation
from hgq.methods.gmpq.search import Search, attribution_maps, search
from hgq.methods.gmpq.supernet import Candidates, SuperNet
from hgq.methods.gmpq.trim import trim, zeros_held
from hgq.methods.labels import loss_for
from hgq.methods.network import build, fold
from hgq.methods.policy import Bits, Policy, check_layers, load_policy
from hgq.methods.result import Result
from hgq.methods.samples import samples_of

MEASURED = 512
"""Samples whose attribution the summary compares."""
ROUNDS = 3
"""Of setting weights to 0 and fine-tuning the others."""
FEW = 0.005
"""Part of the weights that is set to 0 without tuning the others again."""


def quantize(
    model: keras.Model | str | Path,
    *,
    data: np.ndarray,
    labels: np.ndarray,
    budget_ebops: int | None = None,
    bits: int | None = None,
    policy: Policy | str | Path | None = None,
    candidates: Candidates | None = None,
    eta: float | None = None,
    epochs: int = 6,
    settings: Search | None = None,
    tuning_epochs: int | None = None,
    seed: int | None = None,
    drop_softmax: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Result:
    """A quantised model with widths by layer, fine-tuned on `data`; `details["policy"]` holds the widths.

    Args:
        model: a trained plain Keras classifier of one input and one vector of scores (or its file).
        data, labels: samples, and class numbers ``(n,)`` or rows of probabilities ``(n, classes)``.
        budget_ebops: the most EBOPs that the result may have.
        bits: instead, as many EBOPs as this width of all weights and inputs costs. Without either the likeliest widths
            are taken, and the complexity is pulled down by ``settings.cd``.
        policy: widths found before, maybe on other data, or their JSON file: nothing is searched.
        eta: how much attribution counts in the search; 20 by default.
        epochs: of the search, and of fine-tuning unless `tuning_epochs` says otherwise.
        settings: of the search, in place of `eta` and `epochs`; its budget and loss are set here.
        seed: of all that is drawn at random, by `keras.utils.set_random_seed`; None: whatever comes next.

    Raises:
        ConversionError: the model has layers or a head that are not supported.
        ValueError: options that contradict each other, data or labels that do not fit, a budget out of reach.
    """
    if budget_ebops is not None and bits is not None:
        raise ValueError(f"budget_ebops={budget_ebops} and bits={bits}: give one of them")
    if eta is not None and policy is not None:
        raise ValueError(f"eta={eta:g} is for the search, and with a policy nothing is searched: leave it out")
    if seed is not None:
        keras.utils.set_random_seed(seed)
    candidates = candidates or Candidates()
    if bits is not None and (bits not in candidates.kernel or bits not in candidates.input):
        both = [", ".join(map(str, widths)) for widths in (candidates.kernel, candidates.input)]
        raise ValueError(
            f"bits={bits}: gmpq searches weights of {both[0]} bits and inputs of {both[1]}. "
            "Fix: give one of these, or a budget of EBOPs; other widths by candidates=Candidates(kernel=..., input=...)"
        )
    folded = fold(model, drop_softmax)
    data = samples_of(folded, data, "gmpq")
    find_head(folded)  # refuses models without class scores
    loss = _loss(folded, data, labels)
    net = SuperNet(folded, data, candidates)
    others = other_ebops(folded, net, data)
    uniform = dict.fromkeys(net.layers, Bits(bits or 0, bits or 0))
    budget = budget_ebops if bits is None else policy_ebops(uniform, net.costs) + others
    facts: list[tuple[str, str]] = []
    details: dict[str, Any] = {}
    if policy is None:
        narrowest = policy_ebops(net.narrowest(), net.costs) + others
        if budget is not None and budget < narrowest:
            raise ValueError(_too_small(budget, narrowest))
        searched = None if budget is None else budget - others
        settings = replace(
            settings or Search(eta=20.0 if eta is None else eta, epochs=epochs), budget=searched, loss=loss
        )
        progress("search, compiling")
        details["history"] = search(net, folded, data, labels, settings, progress)
        shares, widths = net.shares(), net.widths()
        chosen = (
            likeliest(shares, widths) if searched is None else likeliest_within(shares, widths, net.costs, searched)
        )
        facts.append(("searched", f"{settings.epochs} epochs on {len(data):,} samples, eta {settings.eta:g}"))
    else:
        chosen = policy if isinstance(policy, dict) else load_policy(policy)
        check_layers(chosen, list(net.layers))
    types = layer_types(folded, chosen, data)
    quantised = build(folded, types)

    def tune() -> None:
        progress("fine-tuning, compiling")
        finetune(quantised, data, labels, epochs=tuning_epochs or epochs, loss=loss, progress=progress)

    tune()
    trimmed = 0 if budget is None else _within(quantised, budget, tune)
    facts.append(("policy", ", ".join(f"{name} w{b.w} a{b.a}" for name, b in chosen.items())))
    if budget is not None:
        facts.append(("budget", f"{budget:,} EBOPs; {trimmed:,} of the smallest weights set to 0 to keep it"))
    rho = rank_correlation(*(attribution_maps(one, data[:MEASURED]) for one in (folded, quantised)))
    facts.append(("attribution", f"Spearman's rho to the float model's {rho:.3f}"))
    details |= {"policy": chosen, "rank_correlation": rho, "trimmed": trimmed}
    return Result(quantised, "gmpq", facts, folded=folded, chosen=types, details=details)


def _within(model: keras.Model, budget: int, tune: Callable[[], None]) -> int:
    """Sets weights to 0 until a fine-tuned model keeps its budget; what that breaks the others make good.

    Returns:
        How many weights were set to 0.
    """
    trimmed = 0
    for _ in range(ROUNDS):
        gone = trim(model, budget)
        trimmed += gone
        if gone <= FEW * model.count_params():
            return trimmed
        with zeros_held(model):
            tune()
    return trimmed + trim(model, budget)


def _loss(folded: keras.Model, data: np.ndarray, labels: np.ndarray) -> keras.losses.Loss:
    """Attribution is that of a class, so labels must be classes."""
    loss = loss_for(labels, tuple(folded.output_shape), len(data))
    if isinstance(loss, keras.losses.MeanSquaredError):
        raise ValueError("the labels' rows do not sum to 1; give class numbers, or rows of probabilities")
    return loss


def _too_small(budget: int, narrowest: int) -> str:
    return (
        f"a budget of {budget:,} EBOPs; the narrowest candidates of all layers cost {narrowest:,}. "
        "Fix: a larger budget, narrower candidates, or a smaller network"
    )
