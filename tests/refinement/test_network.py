"""The compiled evaluator computes what the golden model computes, before and after any change."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.ir.ops import OPS
from hgq.refinement.moves import Moves
from hgq.refinement.native import TYPE, Evaluator
from hgq.refinement.network import RULES, build_network, rows_of
from hgq.refinement.owners import find_owners
from hgq.refinement.refine import _golden
from hgq.refinement.writing import write_back
from hgq.resource.luts import PRICES, sum_luts
from tests.refinement.models import MODELS, made


def evaluator_of(network, samples: int) -> Evaluator:
    outputs = []
    for name in network.owners.graph.outputs:
        elements, lsb = rows_of(network.views[name])
        outputs.append(("mse", elements, lsb, np.zeros((samples, *elements.shape)), 1.0))
    return Evaluator(network.arrays, outputs)


def real(network, values: np.ndarray) -> list[np.ndarray]:
    views = [network.views[name] for name in network.owners.graph.outputs]
    return [np.ldexp(values[:, view.element].astype(np.float64), -view.frac) for view in views]


def random_change(network, moves: Moves, random) -> tuple[np.ndarray, ...]:
    """Other values of some parameters, other types of some groups; the types of tables stay."""
    params = np.flatnonzero(moves.usable & (random.random(len(moves.usable)) < 0.5))
    lsb = np.exp2(-moves.finest[params].astype(float))
    values = np.round(random.uniform(moves.low[params], moves.high[params]) / lsb) * lsb
    values = np.clip(np.where(random.random(len(params)) < 0.3, 0.0, values), moves.low[params], moves.high[params])
    types = network.arrays["type"]
    groups = np.flatnonzero(~network.fixed_groups & (types["bits"] > 0) & (random.random(len(types)) < 0.5))
    new = types[groups].copy()
    drop = random.integers(-1, 2, len(groups)) * (new["bits"] > 1)
    new["bits"] += drop
    new["frac"] += np.where(drop <= 0, drop, np.minimum(drop, network.group_frac[groups] - new["frac"]))
    new[random.random(len(groups)) < 0.2] = np.zeros(1, TYPE)
    return params, values, groups, new


@pytest.mark.parametrize("name", MODELS)
def test_a_change_computes_what_the_model_computes_once_it_is_written_back(name: str) -> None:
    model, x = made(name)
    owners = find_owners(model)
    network = build_network(owners, x)
    evaluator = evaluator_of(network, 400)
    for found, wanted in zip(real(network, evaluator.values()), _golden(owners, x)[1], strict=True):
        assert np.array_equal(found, wanted)
    moves = Moves(network, add=True)
    assert moves.usable.any()
    change = random_change(network, moves, np.random.default_rng(0))
    before = evaluator.cost, evaluator.losses()
    rise = evaluator.apply(*change)
    mean, _, _ = evaluator.evaluate(0, 400, 1e30, 100, 1.0)
    evaluator.revert()
    assert (evaluator.cost, evaluator.losses().tolist()) == (before[0], before[1].tolist())
    evaluator.apply(*change)
    evaluator.keep()
    assert evaluator.cost == pytest.approx(before[0] + rise, rel=1e-9, abs=1e-9)  # sums of floats
    assert evaluator.losses().mean() - before[1].mean() == pytest.approx(mean, rel=1e-9, abs=1e-12)
    values, types = network.arrays["value"].copy(), network.arrays["type"].copy()
    values[change[0]], types[change[2]] = change[1], change[3]
    write_back(owners, values, types)
    again = find_owners(model)
    if name in ("dense", "saturating", "einsum"):  # elsewhere widths of merged tensors are those of the start
        assert evaluator_of(build_network(again, x), 400).cost == pytest.approx(evaluator.cost, rel=1e-9, abs=1e-9)
    after = _golden(again, x)[1]
    assert any(not np.array_equal(a, b) for a, b in zip(after, _golden(owners, x)[1], strict=True))
    for found, wanted in zip(real(network, evaluator.values()), after, strict=True):
        assert np.array_equal(found, wanted)


def test_the_cost_of_a_sum_is_that_of_the_formula() -> None:
    model, x = made("dense")
    network = build_network(find_owners(model), x)
    evaluator, a = evaluator_of(network, 400), network.arrays
    costs = evaluator.costs()
    widths = a["width"]
    checked = 0
    for element in np.flatnonzero(a["kind"] == 1):
        at = a["destination"] == element
        coefficients = a["value"][a["param"][at]] * a["unit"][at]
        wanted = sum_luts(coefficients.astype(np.int64), widths[a["source"][at]])
        assert costs[element] == wanted
        checked += wanted > 0
    assert checked
    rectified = (a["kind"] == 2) & (a["rule"]["rectified"] == 1)
    assert (costs[rectified] == widths[rectified] * PRICES["rectifier"]).all()


def test_every_operation_has_a_rule() -> None:
    assert set(RULES) == set(OPS)
