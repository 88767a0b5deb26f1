"""From trained shares to one width for each tensor: the likeliest, or the likeliest policy within a budget."""

from __future__ import annotations

import itertools

import numpy as np

from hgq.methods.gmpq.cost import LayerCost, policy_ebops
from hgq.methods.policy import Bits, Policy

Shares = dict[str, tuple[np.ndarray, np.ndarray]]
"""For each layer softmax(alpha) of its kernel and of its input."""
Widths = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""The candidates that they belong to."""

SPENT = 0.95
"""The part of a budget that a policy has to use, if any does."""


def likeliest(shares: Shares, widths: Widths) -> Policy:
    """The width with the largest share for each kernel and each input (the paper's policy); of equals the narrower."""
    return {
        name: Bits(*(int(of[share.argmax()]) for of, share in zip(widths[name], shares[name], strict=True)))
        for name in shares
    }


def likeliest_within(shares: Shares, widths: Widths, costs: dict[str, LayerCost], budget: int) -> Policy:
    """The policy of the largest product of shares among those that cost 95 to 100 % of `budget` EBOPs.

    Without the lower end, a mixture whose expectation just meets the budget often ends far below it: the narrow widths
    have the largest shares. Where there is no policy between the two, only the upper end holds.

    Raises:
        ValueError: even the narrowest candidates cost more.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    choices = [(name, w, a) for name in shares for w, a in itertools.product(*map(range, map(len, widths[name])))]
    bits = [Bits(widths[name][0][w], widths[name][1][a]) for name, w, a in choices]
    price = np.array([costs[name].ebops(b.w, b.a) for (name, *_), b in zip(choices, bits, strict=True)])
    least = sum(min(p for p, (name, *_) in zip(price, choices, strict=True) if name == one) for one in shares)
    if least > budget:
        raise ValueError(
            f"a budget of {budget:,} EBOPs; the narrowest candidates of all layers cost {least:,}. "
            "Fix: a larger budget, narrower candidates, or a smaller network"
        )
    gain = np.array([np.log(shares[name][0][w]) + np.log(shares[name][1][a]) for name, w, a in choices])
    one_each = np.array([[name == one for name, *_ in choices] for one in shares], float)
    # In parts of the budget: the solver's tolerances are absolute.
    for lower in (SPENT, 0.0):
        limits = [LinearConstraint(one_each, 1, 1), LinearConstraint(price / budget, lower, 1)]
        found = milp(-gain, integrality=np.ones(len(gain)), bounds=Bounds(0, 1), constraints=limits)
        if found.success:
            break
    policy = {name: b for (name, *_), b, taken in zip(choices, bits, found.x, strict=True) if taken > 0.5}
    over = policy_ebops(policy, costs) - budget
    # The solver's tolerance may let it exceed the budget by a little: then a little less is asked for.
    return policy if over <= 0 else likeliest_within(shares, widths, costs, budget - over)
