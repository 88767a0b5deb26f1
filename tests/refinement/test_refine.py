"""`refine` as users call it."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.training import refine
from tests.refinement.models import made


@pytest.fixture(scope="module")
def net():
    model, x = made("dense", samples=1500)
    return model, next(iter(x.values()))


def test_fewer_luts_at_no_more_loss_the_model_itself_untouched_and_the_same_every_time(net) -> None:
    model, x = net
    before = [np.copy(w) for w in model.get_weights()]
    first, second = (refine(model, x, lam=2e-3, sweeps=2) for _ in range(2))
    assert first.cost[1] < 0.9 * first.cost[0]
    refined = [np.copy(w) for w in first.model.get_weights()]
    assert all(np.array_equal(a, b) for a, b in zip(refined, second.model.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    # Keras' own loss of Keras' own predictions is that of the integers, but for float32.
    assert first.keras_losses == pytest.approx((first.losses[0][2], first.losses[1][2]), rel=1e-4)
    assert first.losses[1][2] + 2e-3 * first.cost[1] < first.losses[0][2] + 2e-3 * first.cost[0]
    assert sum(first.kept.values()) and "remove weight" in first.tried
    assert "LUTs" in str(first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lam": 1e-4, "max_loss": 1.0}, "lam and max_loss at once"),
        ({"lam": -1.0}, "lam=-1"),
        ({"y": np.full(1500, 7)}, r"labels of '.*' lie in 7..7, its outputs are 3 classes"),
        ({"y": np.zeros((1500, 4))}, r"shape \(4,\)"),
        ({"loss": "hinge"}, "loss 'hinge'.* not supported"),
        ({"samples": 200}, "300 samples are the least"),
        ({"held_out": 1.0}, "held_out=1.0"),
    ],
)
def test_what_does_not_fit_is_named(net, wrong: dict, message: str) -> None:
    model, x = net
    with pytest.raises(ValueError, match=message):
        refine(model, x, **wrong)
