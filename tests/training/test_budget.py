"""Budgets: the price is steered until a cost or a metric is where it was asked for."""

import numpy as np
import pytest

from hgq.training import Budget, hold_widths
from tests.training.small import model


def steer(budget, plant, epochs, made=None, first=0, length=None):
    """What Keras would do if the cost followed beta as `plant` says, half of the way (in the logarithm) an epoch."""
    made = made or model()
    budget.set_model(made)
    budget.set_params({"epochs": length or epochs})
    budget.on_train_begin()
    betas, costs, now = [], [], plant(1e-6)
    for epoch in range(first, epochs):
        budget.on_epoch_begin(epoch)
        betas.append(budget.beta)
        now = (now * plant(budget.beta)) ** 0.5
        costs.append(now)
        budget.on_epoch_end(epoch, {"ebops": 1, "bits": 1.0, "luts": now})
    return betas, costs


def falling(beta):
    """A cost as networks have it: half for four times the price, and never below 500."""
    return max(500.0, 8000.0 * (beta / 1e-6) ** -0.5)


@pytest.mark.parametrize("epochs", [40, 200])
def test_a_budget_is_met_and_stays_met_while_nothing_is_steered(epochs):
    betas, costs = steer(Budget(1200), falling, epochs)
    assert costs[-1] == pytest.approx(1200, rel=0.03)
    assert min(costs) > 1080  # hardly any overshoot
    assert len(set(betas[int(0.75 * epochs) + 1 :])) == 1
    assert max(abs(np.diff(np.log(betas)))) <= np.log(2) + 1e-6


def test_a_target_out_of_reach_winds_nothing_up():
    reachable = [False]

    def plant(beta):
        return 100.0 if reachable[0] else falling(beta)

    budget, made = Budget(200, bounds=(1e-8, 1e-4), until=1.0), model()
    betas, _ = steer(budget, plant, 60, made, length=100)
    assert betas[-1] == pytest.approx(1e-4)
    reachable[0] = True
    betas, costs = steer(budget, plant, 65, made, first=60, length=100)
    below = next(n for n, cost in enumerate(costs) if cost < 200)
    assert betas[below] == pytest.approx(1e-4) and betas[below + 1] < betas[below] * 0.99


def test_a_metric_is_traded_for_cost_down_to_its_goal():
    budget = Budget(metric="val_accuracy", goal=0.9)
    steer(budget, falling, 0, length=100)
    for epoch, accuracy, moves in ((5, 0.95, 1), (6, 0.9, 0), (7, 0.85, -1), (90, 0.95, 0)):
        before = budget.beta
        budget.on_epoch_end(epoch, {"ebops": 1, "luts": 1, "bits": 1.0, "val_accuracy": accuracy})
        assert np.sign(round(np.log(budget.beta / before), 9)) == moves
    with pytest.raises(ValueError, match=r"'val_accuracy' is not in the logs.*accuracy"):
        budget.on_epoch_end(8, {"ebops": 1, "luts": 1, "bits": 1.0, "accuracy": 0.9})


def test_a_budget_knows_which_metrics_fall():
    for arguments, moves in ((dict(metric="val_mae"), -1), (dict(metric="hits", mode="max"), 1)):
        budget = Budget(goal=0.1, **arguments)
        steer(budget, falling, 0, length=100)
        before = budget.beta
        budget.on_epoch_end(5, {"ebops": 1, "luts": 1, "bits": 1.0, arguments["metric"]: 0.5})
        assert np.sign(np.log(budget.beta / before)) == moves
    with pytest.raises(ValueError, match="Budget: whether metric 'hits' is better"):
        Budget(metric="hits", goal=1)


def test_a_budget_stops_where_widths_are_held():
    budget, made = Budget(1200, until=1.0), model()
    steer(budget, falling, 3, made, length=100)
    hold_widths(made)
    betas, _ = steer(budget, falling, 9, made, first=3, length=100)
    assert len(set(betas)) == 1


def test_a_resumed_budget_goes_on_as_if_nothing_had_happened():
    whole, _ = steer(Budget(1200), falling, 20)
    made = model()
    first, costs = steer(Budget(1200), falling, 8, made, length=20)
    assert first == whole[:8]
    budget, now = Budget(1200), costs[-1]
    budget.set_model(made)
    budget.set_params({"epochs": 20})
    budget.on_train_begin()
    for epoch in range(8, 20):
        budget.on_epoch_begin(epoch)
        assert budget.beta == whole[epoch]
        now = (now * falling(budget.beta)) ** 0.5
        budget.on_epoch_end(epoch, {"ebops": 1, "bits": 1.0, "luts": now})


BAD_BUDGETS = {
    "nothing": (dict(), "either a target"),
    "both": (dict(target=5, metric="accuracy", goal=1), "either a target"),
    "no goal": (dict(metric="accuracy"), "either a target"),
    "target": (dict(target=-5), "target=-5"),
    "beta": (dict(target=5, beta=1.0), "beta=1.0 must lie in bounds"),
    "until": (dict(target=5, until=2), "until=2"),
    "cost": (dict(target=5, cost="watts"), "cost='watts'"),
    "goal": (dict(metric="accuracy", goal=float("nan")), "goal=nan"),
    "epochs": (dict(target=5, epochs=0), "epochs=0"),
}


@pytest.mark.parametrize("case", BAD_BUDGETS)
def test_bad_budgets_are_named(case):
    arguments, message = BAD_BUDGETS[case]
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)
