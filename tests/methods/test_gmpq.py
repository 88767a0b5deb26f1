"""GMPQ: mixtures of widths, their price in EBOPs, attribution, and policies that become models."""

from __future__ import annotations

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConversionError
from hgq.fixed import encode
from hgq.frontend import read_model
from hgq.ir import evaluate
from hgq.layers import QDense
from hgq.methods import mrecg, rex
from hgq.methods.gmpq import (
    Candidates,
    Search,
    SuperNet,
    deploy,
    finetune,
    layer_types,
    likeliest,
    likeliest_within,
    quantize,
    search,
    trim,
    zeros_held,
)
from hgq.methods.gmpq.cost import LayerCost, policy_ebops
from hgq.methods.gmpq.mixed import MixedQuantizer
from hgq.methods.gmpq.ranges import least_error
from hgq.methods.mrecg.start import starts
from hgq.methods.network import fold
from hgq.methods.policy import Bits, Policy, load_policy, save_policy
from hgq.methods.run import run
from hgq.resource import model_ebops, priced_layers
from tests.methods.gmpq_models import CANDIDATES, MIXED, L, network

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")


def choose(net: SuperNet, policy: Policy) -> None:
    """All shares on one candidate: softmax of 0 and -1000 is exactly 1 and 0."""
    for name, layer in net.layers.items():
        for quantizer, width in ((layer.kernel_quantizer, policy[name].w), (layer.input_quantizer, policy[name].a)):
            quantizer.alpha.assign([0.0 if width == n else -1000.0 for n in quantizer.widths])


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
    kernel = model.get_layer("conv").kernel
    zero = model.get_layer("conv").constants()["kernel"][0].reshape(kernel.shape) == 0
    with zeros_held(model):
        was = kernel.numpy().copy()
        finetune(model, x, y, epochs=1, batch=32, rate=1e-1)
    assert zero.any() and (kernel.numpy()[zero] == 0).all() and (kernel.numpy() != was).any()
    assert kernel.constraint is None
    with pytest.raises(ValueError, match="budget of 1 EBOPs, but the biases"):
        trim(model, 1)


def test_an_interrupted_fine_tuning_leaves_widths_and_prices_as_they_were(
    samples: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    x, y = samples
    model = deploy(fold(network("pooled")), MIXED, x)
    model.get_layer("conv").beta.assign(0.5)
    monkeypatch.setattr(keras.Model, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(model, x, y)
    assert model.get_layer("conv").kernel_quantizer.b.trainable and float(model.get_layer("conv").beta) == 0.5


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
    with pytest.raises(ValueError, match="layer 'scores': 1 bits for weights and 3 for its input"):
        deploy(other, policy | {"scores": Bits(1, 3)}, x)
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


def test_a_normalisation_that_stays_is_paid_from_the_budget(samples: tuple, eager: None) -> None:
    x, y = samples
    net = network("pooled")
    normalised = L.BatchNormalization(name="before")(net.inputs[0])
    for layer in net.layers[1:]:
        normalised = layer(normalised)
    model = keras.Model(net.inputs[0], normalised)
    model.get_layer("before").gamma.assign([0.7])
    cost = model_ebops(deploy(fold(model), dict.fromkeys(MIXED, Bits(3, 3)), x))
    result = quantize(model, data=x, labels=y, bits=3, epochs=1)
    assert dict(result.facts)["budget"].startswith(f"{cost:,} EBOPs")
    assert 0.9 * cost < result.ebops <= cost
    policy = result.details["policy"]
    assert "before" not in policy
    others = mrecg.quantize(model, x, policy=policy, settings=mrecg.Settings(steps=1))
    for given in (others, rex.quantize(model, input_range=(0.0, 1.0), policy=policy)):
        rows = {row.layer: (row.w, row.a) for row in given.rows()}
        assert rows["before"] == (8, 8) and rows["scores"] == (policy["scores"].w, policy["scores"].a)
    with pytest.raises(ValueError, match=f"{cost // 4:,} EBOPs; the narrowest candidates"):
        quantize(model, data=x, labels=y, budget_ebops=cost // 4)


def test_options_that_make_no_sense_are_errors(samples: tuple) -> None:
    x, y = samples
    model = network("flat")
    for wrong, said in (
        ({"bits": 3, "budget_ebops": 9}, "give one of them"),
        ({"bits": 5}, "weights of 2, 3, 4, 6 bits and inputs of 2, 3, 4, 6"),
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
    two = keras.Model(model.inputs[0], [model.outputs[0], L.Dense(2)(model.outputs[0])])
    with pytest.raises(ConversionError, match="one vector of class scores"):
        quantize(two, data=x, labels=y, bits=3)
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
