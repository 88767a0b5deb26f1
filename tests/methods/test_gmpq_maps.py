"""GMPQ: attribution maps, their ranks, and the loss that keeps them in order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from hgq.errors import ConversionError
from hgq.methods.gmpq import (
    Search,
    SuperNet,
    attribution_maps,
    deploy,
    rank_correlation,
    rank_distance,
    search,
)
from hgq.methods.gmpq.attribution import find_head, gradient_map, linear_map
from hgq.methods.gmpq.imitation import adaptive_p, imitation_loss, normalised, sharpened
from hgq.methods.network import fold
from tests.methods.gmpq_models import CANDIDATES, MIXED, L, network

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")


@pytest.mark.parametrize("head", ["pooled", "flat"])
def test_the_closed_form_equals_the_gradient(head: str, samples: tuple) -> None:
    x, _ = samples
    model = network(head)
    found = find_head(model)
    assert found.kind == head
    taps = keras.Model(model.inputs[0], [found.features, model.outputs[0]])
    features, scores = taps(x)
    behind = keras.Model(found.features, model.outputs[0])
    closed = linear_map(head, features, scores, ops.convert_to_tensor(found.dense.kernel))
    by_gradient = gradient_map(features, behind, positions=True)
    assert np.asarray(closed).max() > 0
    np.testing.assert_allclose(np.asarray(closed), np.asarray(by_gradient), rtol=1e-4, atol=1e-6)  # float32 sums


def test_other_heads_and_nets_without_positions_have_maps_too(samples: tuple, eager: None) -> None:
    x, y = samples
    deep = network("deep")
    assert find_head(deep).kind == "deep"
    assert attribution_maps(deep, x[:5]).shape == (5, 3, 3)
    flat = x.reshape(-1, 36)
    net = keras.Sequential(
        [keras.Input((36,)), L.Dense(4, activation="relu", name="hidden"), L.Dense(3, name="scores")]
    )
    assert find_head(net).kind == "input"
    maps = attribution_maps(net, flat[:5])
    best = np.asarray(net(flat[:5])).argmax(-1)
    active = (flat[:5] @ net.layers[0].get_weights()[0] > 0).astype(np.float32)
    first, last = (layer.get_weights()[0] for layer in net.layers)
    slopes = np.stack([(first * a) @ last[:, c] for a, c in zip(active, best, strict=True)])
    np.testing.assert_allclose(maps, np.maximum(slopes * flat[:5], 0), rtol=1e-4, atol=1e-6)  # float32 sums
    for model, data in ((deep, x), (net, flat)):  # their maps are differentiated again in the search
        folded = fold(model)
        mixed = SuperNet(folded, data, CANDIDATES)
        search(mixed, folded, data[:32], y[:32], Search(epochs=1, batch=32, eta=1e3, cd=0.0))
        assert all((np.asarray(one.kernel_quantizer.alpha) != 0.01).all() for one in mixed.layers.values())


def test_a_back_end_or_a_model_without_attribution_is_refused(monkeypatch: pytest.MonkeyPatch, samples: tuple) -> None:
    x, y = samples
    folded = fold(network("flat"))
    net = SuperNet(folded, x, CANDIDATES)
    two = keras.Model(folded.inputs, [folded.outputs[0], folded.get_layer("conv").output])
    with pytest.raises(ConversionError, match=r"one input and one vector[\s\S]*Fix: search a model with one"):
        find_head(two)
    more = keras.Model([folded.inputs[0], keras.Input((3,))], folded.outputs[0])
    with pytest.raises(ConversionError, match="has 2 inputs; GMPQ takes models of one"):
        deploy(more, MIXED, x)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ConversionError, match=r"not on torch[\s\S]*KERAS_BACKEND=jax"):
        search(net, folded, x, y)


def test_a_power_keeps_the_order_and_concentrates_the_map() -> None:
    maps = np.random.default_rng(0).uniform(0, 5, (4, 3, 3)).astype(np.float32)
    maps[0, 0, 0] = 0
    shares = []
    for p in (0.5, 1.0, 3.0, 6.0):
        sharp = np.asarray(sharpened(maps, p))
        assert rank_distance(maps, sharp) == 0
        shares.append(np.asarray(normalised(sharp)).max())
    assert shares == sorted(shares)
    assert float(imitation_loss(maps, sharpened(maps, 3.0), 3.0)) < 1e-12
    other = maps[::-1].copy()
    losses = [float(imitation_loss(maps, scale * other, 3.0)) for scale in (1.0, 64.0)]
    assert losses[0] > 1e-3
    np.testing.assert_allclose(*losses, rtol=1e-5)  # no scale matters but by float32
    assert float(imitation_loss(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), 3.0)) == 0


def test_the_power_follows_the_capacity() -> None:
    assert adaptive_p([(2.0, 2.0)]) == 6.0  # the public code's numbers
    assert adaptive_p([(4.0, 4.0)]) == 1.5
    assert adaptive_p([(2.0, 2.0), (4.0, 4.0)]) == (6.0 + 1.5) / 2


def test_ranks_are_compared() -> None:
    first, second = np.array([[1.0, 2, 3, 4]]), np.array([[1.0, 3, 2, 4]])
    assert rank_distance(first, second) == 2 / 16
    assert rank_correlation(first, second) == pytest.approx(0.8)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert np.isnan(rank_correlation(first, np.ones((1, 4))))


ON_JAX = """
import jax, numpy as np
from hgq.methods.gmpq.attribution import gradient_map
w = np.array([[1.0, -2.0], [0.5, 1.0]], np.float32)
x = np.array([[1.0, 2.0]], np.float32)
found = lambda w: gradient_map(x, lambda a: (a @ w) ** 2, positions=False)
print(np.asarray(found(w)).tolist(), np.asarray(jax.grad(lambda w: found(w).sum())(w)).tolist())
"""


def test_the_map_is_differentiated_again_on_jax() -> None:
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", ON_JAX]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    # Scores (2 (w00 + 2 w10))^2 .. = 4 and 0: M = x_k d/dx_k (x w_0)^2 = 2 x_k w_k0 (x w_0) = [4, 4], and its
    # derivatives by w00 and w10 of their sum 2 (x w_0)^2 are 4 (x w_0) x_k.
    assert done.stdout.strip() == "[[4.0, 4.0]] [[8.0, 0.0], [16.0, 0.0]]", done.stderr[-2000:]
