"""GMPQ: mixtures of widths, their price in EBOPs, attribution, and policies that become models."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import hgq
from hgq.errors import ConversionError
from hgq.fixed import encode
from hgq.frontend import read_model
from hgq.ir import evaluate
from hgq.layers import QDense
from hgq.methods import rex
from hgq.methods.gmpq import (
    Candidates,
    Search,
    SuperNet,
    attribution_maps,
    deploy,
    finetune,
    layer_types,
    likeliest,
    likeliest_within,
    quantize,
    rank_correlation,
    rank_distance,
    search,
    trim,
)
from hgq.methods.gmpq.attribution import find_head, gradient_map, linear_map
from hgq.methods.gmpq.cost import LayerCost, policy_ebops
from hgq.methods.gmpq.imitation import adaptive_p, imitation_loss, normalised, sharpened
from hgq.methods.gmpq.mixed import MixedQuantizer
from hgq.methods.gmpq.ranges import least_error
from hgq.methods.mrecg.start import starts
from hgq.methods.network import fold
from hgq.methods.policy import Bits, Policy, load_policy, save_policy
from hgq.methods.run import run
from hgq.resource import model_ebops, priced_layers

L = keras.layers
CANDIDATES = Candidates((2, 3, 4), (2, 3, 5))


def network(head: str, classes: int = 3) -> keras.Model:
    """Two convolutions on 6 x 6 pixels, random weights, and a head."""
    keras.utils.set_random_seed(0)
    x = pixels = keras.Input((6, 6, 1), name="pixels")
    x = L.Conv2D(3, 3, strides=2, padding="same", activation="relu", bias_initializer="normal", name="conv")(x)
    x = L.DepthwiseConv2D(3, padding="same", bias_initializer="normal", name="depthwise")(x)
    x = L.ReLU(name="features")(x)
    x = L.GlobalAveragePooling2D()(x) if head == "pooled" else L.Flatten()(x)
    if head == "deep":
        x = L.Dense(4, activation="relu", name="hidden")(x)
    return keras.Model(pixels, L.Dense(classes, bias_initializer="normal", name="scores")(x))


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Bright halves of an image: left, right, top."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 128, (96, 6, 6, 1)).astype(np.float32) / 256, np.arange(96) % 3
    for number, (rows, columns) in enumerate((np.s_[:, :3], np.s_[:, 3:], np.s_[:3, :])):
        x[y == number, rows, columns] += 0.5
    return x, y


pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")


@pytest.fixture
def eager() -> Iterator[None]:
    """For the few steps of a test, tracing a graph takes longer than they do."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def choose(net: SuperNet, policy: Policy) -> None:
    """All shares on one candidate: softmax of 0 and -1000 is exactly 1 and 0."""
    for name, layer in net.layers.items():
        for quantizer, width in ((layer.kernel_quantizer, policy[name].w), (layer.input_quantizer, policy[name].a)):
            quantizer.alpha.assign([0.0 if width == n else -1000.0 for n in quantizer.widths])


MIXED = {"conv": Bits(3, 5), "depthwise": Bits(4, 2), "scores": Bits(2, 3)}


def test_with_all_shares_on_one_width_the_super_net_is_the_deployed_model(samples: tuple) -> None:
    x, _ = samples
    folded = fold(network("flat"))
    net = SuperNet(folded, x, CANDIDATES)
    for policy in (MIXED, net.widest(), net.narrowest()):
        choose(net, policy)
        deployed = deploy(folded, policy, x)
        assert np.array_equal(net.model(x), deployed(x, training=False))
        assert float(net.expected_ebops()) == policy_ebops(policy, net.costs) == model_ebops(deployed)
    weights = {type(q).__name__: q for layer, _ in priced_layers(deployed) for q in layer.quantizers().values()}
    assert list(weights) == ["WidthQuantizer"]  # fixed or trained on: widths are variables of their own


def test_a_float_super_net_reaches_the_largest_weight_exactly(samples: tuple) -> None:
    x, _ = samples
    folded = fold(network("flat"))
    net = SuperNet(folded, x, CANDIDATES, scale="paper")
    kernel = np.asarray(folded.get_layer("conv").kernel)
    for width, rounded in zip(
        (2, 3, 4), np.asarray(net.layers["conv"].kernel_quantizer.candidates(kernel)), strict=True
    ):
        levels = np.unique(np.abs(rounded))
        assert len(levels) <= 2 ** (width - 1)
        np.testing.assert_allclose(np.abs(rounded).max(), np.abs(kernel).max(), rtol=1e-6)  # a float step


def test_complexity_is_that_of_a_hand_computed_example() -> None:
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, name="dense")])
    # 3 bits, steps of 1: the spans of 2, 2, 3, -3 are 1, 1, 2, 2. 2 bits, steps of 2 (least error): each is one step.
    model.set_weights([np.array([[2, 2], [3, -3]], np.float32), np.array([0.5, 0], np.float32)])
    net = SuperNet(fold(model), np.array([[0.0, 1.0]], np.float32), Candidates((2, 3), (2, 4)))
    assert net.costs == {"dense": LayerCost({2: 4, 3: 6}, 8)}  # one bias of 8 bits that is not 0
    assert float(net.expected_ebops()) == (4 + 6) / 2 * (2 + 4) / 2 + 8
    choose(net, {"dense": Bits(3, 4)})
    assert float(net.expected_ebops()) == 6 * 4 + 8


def test_the_range_of_least_error_is_found() -> None:
    values = np.array([[0.9, 0.9, -0.9, 0.5, 0.1], [0.0, 0.0, 0.0, 0.0, 0.0]])
    # 2 bits: -r/2, 0, r/2. A range of 2 makes 1 of 0.9 and 0.5; a range of 1 makes 0.5 of both.
    assert least_error(values, 2, signed=True, constant=True, axes=(1,)).tolist() == [[1], [0]]
    pixels = np.arange(256) / 256
    assert least_error(pixels, 8, signed=False, constant=False, axes=(0,)).tolist() == [0]
    outlier = np.append(np.full(1000, 0.75), 5.0)
    assert least_error(outlier, 2, signed=False, constant=False, axes=(0,)).tolist() == [0]  # it is clipped


def test_gradients_reach_every_share_and_more_pressure_means_fewer_bits(samples: tuple, eager: None) -> None:
    x, y = samples
    folded = fold(network("pooled"))
    expected = []
    for cd in (0.0, 3.0):
        net = SuperNet(folded, x, CANDIDATES)
        start = float(net.expected_ebops())
        lines: list[str] = []
        settings = Search(epochs=2, batch=32, cd=cd, alpha_rate=0.05, p=None)
        history = search(net, folded, x, y, settings, lines.append)
        expected.append(history[-1]["expected_ebops"])
        assert len(lines) == len(history) == 2
        for layer in net.layers.values():
            for quantizer in (layer.kernel_quantizer, layer.input_quantizer):
                assert (np.asarray(quantizer.alpha) != np.float32(0.01)).all()
    assert expected[1] < 0.97 * expected[0]
    assert expected[1] < start
    assert np.array_equal(folded.get_layer("conv").kernel, fold(network("pooled")).get_layer("conv").kernel)


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


def test_the_likeliest_policy_within_a_budget_is_the_best_of_all() -> None:
    rng = np.random.default_rng(3)
    widths = dict.fromkeys("abc", ((2, 3, 4), (2, 6)))
    shares = {name: (rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(2))) for name in widths}
    costs = {name: LayerCost({2: m, 3: 2 * m, 4: 3 * m}, 7) for name, m in (("a", 100), ("b", 37), ("c", 11))}

    def gain(policy: Policy) -> float:
        parts = [zip((b.w, b.a), widths[name], shares[name], strict=True) for name, b in policy.items()]
        return float(sum(np.log(share[of.index(width)]) for part in parts for width, of, share in part))

    each = [[Bits(w, a) for w, a in itertools.product(*widths[name])] for name in widths]
    policies = [dict(zip(widths, bits, strict=True)) for bits in itertools.product(*each)]
    assert likeliest(shares, widths) == max(policies, key=gain)
    for budget in (450, 600, 1000, 1500, 10_000):
        found = likeliest_within(shares, widths, costs, budget)
        close = [p for p in policies if 0.95 * budget <= policy_ebops(p, costs) <= budget]
        allowed = close or [p for p in policies if policy_ebops(p, costs) <= budget]
        assert found == max(allowed, key=gain)
    with pytest.raises(ValueError, match=r"10 EBOPs; the narrowest candidates of all layers cost 317"):
        likeliest_within(shares, widths, costs, 10)


def test_fine_tuning_moves_weights_and_keeps_widths(samples: tuple, eager: None) -> None:
    x, y = samples
    model = deploy(fold(network("pooled")), MIXED, x)
    quantizers = [q for layer, _ in priced_layers(model) for q in layer.quantizers().values()]
    before = [[v.numpy().copy() for v in (q.b, q.i)] for q in quantizers]
    kernel, ebops = model.get_layer("conv").kernel.numpy().copy(), model_ebops(model)
    beta = float(model.get_layer("conv").beta)
    finetune(model, x, y, epochs=2, batch=32, rate=1e-2)
    after = [(q.b, q.i) for q in quantizers]
    assert all(np.array_equal(b, was) for (b, _), (was, _) in zip(after, before, strict=True))
    assert any((i.numpy() != was).any() for (_, i), (_, was) in zip(after, before, strict=True))
    assert (model.get_layer("conv").kernel.numpy() != kernel).any()
    assert all(b.trainable for b, _ in after) and float(model.get_layer("conv").beta) == beta
    assert trim(model, ebops * 2) == 0
    lower = model_ebops(model) - 20
    assert 0 < trim(model, lower) <= 20
    assert lower - 20 <= model_ebops(model) <= lower
    with pytest.raises(ValueError, match="budget of 1 EBOPs, but the biases"):
        trim(model, 1)


def test_a_policy_goes_to_another_head_and_to_training_with_learned_widths(
    samples: tuple, eager: None, tmp_path: Path
) -> None:
    x, _ = samples
    save_policy(MIXED, tmp_path / "policy.json")
    policy = load_policy(tmp_path / "policy.json")
    other = fold(network("flat", classes=7))
    plain, learned = deploy(other, policy, x), deploy(other, policy, x, each_weight=True)
    assert plain.output_shape == (None, 7)
    widths = learned.get_layer("conv").kernel_quantizer.b
    assert widths.shape == (3, 3, 1, 3) and (np.asarray(widths) == MIXED["conv"].w - 1).all()
    assert np.array_equal(learned(x, training=False), plain(x, training=False))
    learned.compile("adam", "mse")
    learned.fit(x, np.zeros((len(x), 7)), batch_size=96, verbose=0)
    assert (np.asarray(widths) != MIXED["conv"].w - 1).any()
    with pytest.raises(ValueError, match="no widths for layer 'depthwise'; it has some for conv, scores"):
        deploy(other, {name: bits for name, bits in policy.items() if name != "depthwise"}, x)


def test_widths_and_types_go_on_to_other_methods(samples: tuple) -> None:
    x, _ = samples
    folded = fold(network("flat"))
    for widths in (MIXED, layer_types(folded, MIXED, x)):
        begun = starts(folded, x, widths, floats=False)
        assert {n: one.capacity_bits for n, one in begun.items()} == {n: bits.w for n, bits in MIXED.items()}
    expanded = rex.quantize(network("flat"), input_range=(0.0, 1.0), policy=MIXED).model
    for name, bits in MIXED.items():
        layer = expanded.get_layer(name)
        assert layer.input_quantizer.types(layer.input_shape_).width.max() == bits.a


def test_the_whole_method_keeps_its_budget_and_computes_what_the_hardware_does(
    samples: tuple, eager: None, tmp_path: Path
) -> None:
    x, y = samples
    network("flat").save(tmp_path / "float.keras")
    options = {"data": x, "labels": y, "epochs": 1}
    result = run("gmpq", tmp_path / "float.keras", tmp_path / "out.keras", options | {"bits": 3}, lambda line: None)
    budget = int(dict(result.facts)["budget"].split(" ")[0].replace(",", ""))
    assert 0.9 * budget < result.ebops <= budget
    policy = load_policy(tmp_path / "out.policy.json")
    assert policy == result.details["policy"]
    graph = read_model(result.model)
    (port,), (y_name,) = (graph[name] for name in graph.inputs), graph.outputs
    integers = encode(x, port.types, port.attrs["rounding"], port.attrs["overflow"])
    made = evaluate(graph, {port.name: integers})[y_name] * np.ldexp(1.0, -graph[y_name].range.frac)
    assert np.array_equal(made, hgq.load(tmp_path / "out.keras")(x, training=False))
    again = quantize(tmp_path / "float.keras", policy=policy, **(options | {"labels": np.eye(3)[y]}))
    assert again.details["policy"] == policy and "searched" not in dict(again.facts)


def test_options_that_make_no_sense_are_errors(samples: tuple) -> None:
    x, y = samples
    model = network("flat")
    for wrong, said in (
        ({"bits": 3, "budget_ebops": 9}, "give one of them"),
        ({"bits": 5}, "candidates are 2, 3, 4, 6"),
        ({"budget_ebops": 5}, "narrowest candidates of all layers cost"),
        ({"labels": y[:5]}, "96 samples and 5 labels"),
        ({"labels": y + 1}, "from 1 to 3; they must be whole numbers of classes, 0 to 2"),
        ({"labels": np.zeros((96, 2))}, r"labels of shape \(96, 2\)"),
    ):
        with pytest.raises(ValueError, match=said):
            quantize(model, **({"data": x, "labels": y} | wrong))
    for settings, said in (({"eta": -1}, "eta=-1"), ({"p": 0}, "p=0"), ({"epochs": 0}, "epochs=0")):
        with pytest.raises(ValueError, match=said):
            Search(**settings)
    for widths in ((1, 2), (3, 2), (2, 2), (2, 17), (2.5,), ()):
        with pytest.raises(ValueError, match=r"whole numbers of bits in 2\.\.16"):
            MixedQuantizer(widths)
    with pytest.raises(
        ValueError, match=r"fixed widths for 'none'; the layers of the model are conv, depthwise, scores"
    ):
        SuperNet(fold(model), x, Candidates(fixed={"none": Bits(8, 8)}))
    layer = QDense(2, kernel_quantizer=MixedQuantizer((2, 3)))
    layer.build((None, 3))
    with pytest.raises(ValueError, match="a mixture of the widths 2, 3 has no fixed-point type"):
        layer.kernel_quantizer.types((3, 2))


def test_layers_may_be_left_out_of_the_search(samples: tuple) -> None:
    net = SuperNet(fold(network("pooled")), samples[0], Candidates(fixed={"conv": Bits(8, 8)}))
    assert net.widest()["conv"] == net.narrowest()["conv"] == Bits(8, 8)
    assert len(net.expected_widths()) == 2
    assert likeliest(net.shares(), net.widths())["conv"] == Bits(8, 8)


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
