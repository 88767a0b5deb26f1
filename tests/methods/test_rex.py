"""REx: provable bounds of the expansion, equalities, what the dial does, and that no data is needed."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConversionError
from hgq.methods.fold import norm_statistics
from hgq.methods.network import averages, build, fold, kernel_value, row_axes, weighted
from hgq.methods.policy import Bits
from hgq.methods.prices import Prices
from hgq.methods.ranges import measured
from hgq.methods.rex.ensemble import ensemble
from hgq.methods.rex.expand import Expansion, expand, float_scales, largest_of_rows, power_of_two, worst_output
from hgq.methods.rex.inputs import expand_input, expanded_product, product_pairs
from hgq.methods.rex.quantize import choose, quantize
from hgq.methods.scale import covering
from hgq.methods.spread import data_free
from hgq.resource import model_ebops

L = keras.layers
RNG = np.random.default_rng(5)
KERNELS = {
    "dense": (RNG.normal(size=(30, 11)).astype(np.float32), (-1,)),
    "conv": (RNG.normal(size=(3, 3, 4, 6)).astype(np.float32) ** 3, (-1,)),
    "depthwise": (RNG.standard_t(2, size=(3, 3, 5, 2)).astype(np.float32), (-2, -1)),
    "zero_row": (np.concatenate([np.zeros((4, 1)), RNG.uniform(size=(4, 3))], axis=1).astype(np.float32), (-1,)),
}


def left(kernel: np.ndarray, expansion: Expansion) -> np.ndarray:
    """The largest residual of each row."""
    return largest_of_rows(kernel - expansion.value, expansion.rows)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_residual_is_within_the_bound_of_float_scales(name: str, bits: int) -> None:
    kernel, rows = KERNELS[name]
    kernel = kernel.astype(np.float64)
    for orders in range(1, 5):
        found = left(kernel, expand(kernel, bits, orders, rows=rows, operator=float_scales))
        bound = largest_of_rows(kernel, rows) / (2.0 * (2 ** (bits - 1) - 1)) ** orders
        assert (found <= bound * (1 + 1e-9) + 1e-15).all()  # float64 arithmetic of the residual


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_residual_is_within_the_bound_of_power_of_two_scales(name: str, bits: int) -> None:
    kernel, rows = KERNELS[name]
    for orders in range(1, 16 // bits + 1):
        expansion = expand(kernel, bits, orders, rows=rows)
        first = expansion.orders[0].scale
        assert (left(kernel, expansion) <= first / 2 * 2.0 ** (-(bits - 1) * (orders - 1))).all()
        assert (np.frexp(first[first > 0])[0] == 0.5).all()


@pytest.mark.parametrize("operator", [power_of_two, float_scales])
def test_integers_fit_their_bits_and_a_zero_row_stays_zero(operator: object) -> None:
    kernel, rows = KERNELS["zero_row"]
    expansion = expand(kernel, 3, 4, rows=rows, operator=operator)  # type: ignore[arg-type]
    assert all(np.abs(order.integers).max() <= 3 for order in expansion.orders)
    assert (expansion.value[:, 0] == 0).all() and np.isfinite(expansion.value).all()


@pytest.mark.parametrize("name", KERNELS)
def test_the_sum_of_the_orders_is_one_number_of_the_stated_types(name: str) -> None:
    kernel, rows = KERNELS[name]
    expansion = expand(kernel, 3, 3, 0.5, rows=rows)
    types = expansion.types().fixed(kernel.shape)
    m = np.ldexp(expansion.value, types.frac)
    assert (m == np.floor(m)).all()
    assert (np.abs(m) <= 2.0 ** (types.width - types.signed) - 1).all()
    total = sum(np.ldexp(o.integers * o.scale, types.frac) for o in expansion.orders)
    assert np.array_equal(m, total)
    with pytest.raises(ValueError, match="power_of_two"):
        expand(kernel, 3, 2, rows=rows, operator=float_scales).types()


def test_the_sum_of_all_outputs_is_the_output_of_the_expanded_kernel() -> None:
    kernel, _ = KERNELS["dense"]
    x = np.random.default_rng(1).integers(-128, 128, (20, 30)).astype(np.float64)
    expansion = expand(kernel, 4, 3)
    assert np.array_equal(sum(x @ order.value for order in expansion.orders), x @ expansion.value)  # exact: integers


@pytest.mark.parametrize("name", KERNELS)
def test_more_orders_and_more_rows_never_leave_more(name: str) -> None:
    kernel, rows = KERNELS[name]
    for orders in (2, 3, 4):
        worst = [worst_output(kernel - expand(kernel, 2, orders, g, rows=rows).value, rows).max() for g in GAMMAS]
        assert worst == sorted(worst, reverse=True)
    for gamma in GAMMAS:
        each = [left(kernel, expand(kernel, 2, orders, gamma, rows=rows)) for orders in range(1, 6)]
        assert all((after <= before).all() for before, after in itertools.pairwise(each))


GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def test_no_rows_is_one_order_all_rows_is_dense_and_others_stay_as_they_were() -> None:
    kernel, _ = KERNELS["dense"]
    one = expand(kernel, 3, 1)
    assert np.array_equal(expand(kernel, 3, 3, 0.0).value, one.value)
    half = expand(kernel, 3, 2, 0.5)
    taken = half.orders[1].taken[0]
    assert taken.sum() == round(0.5 * 11)
    assert np.array_equal(half.value[:, ~taken], one.value[:, ~taken])
    assert np.array_equal(half.value[:, taken], expand(kernel, 3, 2).value[:, taken])
    points = worst_output(kernel - one.value, (-1,))[0]
    assert points[taken].min() >= points[~taken].max()


def test_nonsense_is_refused() -> None:
    kernel, _ = KERNELS["dense"]
    for arguments, named in (((1, 2), "bits=1"), ((3, 0), "orders=0"), ((3, 2, 1.5), "gamma=1.5")):
        with pytest.raises(ValueError, match=named):
            expand(kernel, *arguments)


def test_input_expansion_keeps_the_products_of_the_last_order_and_larger() -> None:
    x = np.random.default_rng(2).normal(size=(40, 30))
    kernel = KERNELS["dense"][0]
    wanted = x @ kernel
    errors = []
    for orders in (1, 2, 3, 4):
        assert len(list(product_pairs(orders))) == orders * (orders + 1) // 2
        errors.append(np.abs(expanded_product(x, expand(kernel, 4, orders), 4) - wanted).max())
    assert all(after < before / 4 for before, after in itertools.pairwise(errors))
    # With one order there is one product, of the rounded operands.
    rounded = expand_input(x, 4, 1).value.reshape(x.shape)
    assert np.array_equal(expanded_product(x, expand(kernel, 4, 1), 4), rounded @ expand(kernel, 4, 1).value)


# --- whole networks -------------------------------------------------------------------------------------------------


def network() -> keras.Model:
    """A small convolutional network with everything that ranges go through; random but of sane statistics."""
    x = given = keras.Input((6, 6, 1), name="given")
    x = L.BatchNormalization(name="norm1")(L.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(x))
    x = branch = L.ReLU(6.0, name="relu1")(x)
    x = L.BatchNormalization(name="norm2")(L.DepthwiseConv2D(3, padding="same", use_bias=False, name="deep")(x))
    x = L.Add(name="add")([L.LeakyReLU(negative_slope=0.25, name="leaky")(x), branch])
    x = L.Concatenate(name="joined")([x, L.Maximum(name="larger")([x, branch])])
    x = L.MaxPooling2D(2, name="pool")(L.ZeroPadding2D(1, name="padded")(x))
    x = L.Flatten(name="flat")(L.AveragePooling2D(2, name="average")(x))
    model = keras.Model(given, L.Dense(3, name="head")(L.Dense(6, activation="relu", name="hidden")(x)))
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            shape = layer.gamma.shape
            values = rng.uniform(0.5, 1.5, shape), rng.normal(size=shape), 0.1 * rng.normal(size=shape)
            layer.set_weights([*values, rng.uniform(0.5, 2, shape)])
        elif layer.weights:
            layer.set_weights([rng.normal(size=w.shape) / np.sqrt(w.shape[0] * 3) for w in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def original() -> keras.Model:
    return network()


@pytest.fixture(scope="module")
def folded(original: keras.Model) -> keras.Model:
    return fold(original)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, (200, 6, 6, 1)).astype(np.float32)


def test_bounds_hold_for_every_input_of_the_stated_range(
    original: keras.Model, folded: keras.Model, samples: np.ndarray
) -> None:
    corners = np.sign(samples)
    seen = measured(folded, np.concatenate([samples, corners]), per_channel=True)
    for channels in (True, False):
        bounds = data_free(folded, (-1.0, 1.0), norm_statistics(original), None, channels)
        assert set(bounds) == {"conv", "deep", "average", "hidden", "head"}
        for name, (lo, hi) in seen.items():
            slack = 1e-5 * np.abs(bounds[name][1]).max()  # float32
            assert (bounds[name][0] - slack <= lo).all() and (hi <= bounds[name][1] + slack).all()


def test_statistics_of_normalisations_narrow_the_ranges(original: keras.Model, folded: keras.Model) -> None:
    found = norm_statistics(original)
    assert set(found) == {"conv", "deep"}
    norm = original.get_layer("norm1")
    assert np.array_equal(found["conv"][0], np.asarray(norm.beta))
    assert np.array_equal(found["conv"][1], np.abs(np.asarray(norm.gamma)))
    bounds, near = (data_free(folded, (-1.0, 1.0), found, sigmas) for sigmas in (None, 2.0))
    assert all((bounds[name][0] <= near[name][0]).all() and (near[name][1] <= bounds[name][1]).all() for name in near)
    wanted = np.clip(found["conv"][0] + 2 * found["conv"][1], 0, 6)  # behind a ReLU6, so read through its moments
    assert (near["deep"][1].ravel() <= wanted + 6).all() and near["deep"][1].max() < bounds["deep"][1].max()


def test_accuracy_and_cost_grow_with_the_orders_and_no_data_is_touched(
    original: keras.Model, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = np.asarray(original(samples))

    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("data was asked for")

    assert "data" not in inspect.signature(quantize).parameters
    for name in ("predict", "fit", "evaluate"):
        monkeypatch.setattr(keras.Model, name, refused)
    monkeypatch.setattr(np.random, "default_rng", refused)
    results = [quantize(original, input_range=(-1, 1), bits=3, orders=orders, activation_bits=14) for orders in (1, 3)]
    errors = [float(np.abs(np.asarray(one.model(samples)) - wanted).mean()) for one in results]
    assert errors[1] < errors[0] / 4
    assert results[0].ebops < results[1].ebops
    again = quantize(original, input_range=(-1, 1), bits=3, orders=1, activation_bits=14)
    assert all(
        np.array_equal(a, b) for a, b in zip(again.model.get_weights(), results[0].model.get_weights(), strict=True)
    )


def test_a_budget_is_kept_and_spent() -> None:
    model = perceptron("relu")
    dense = quantize(model, input_range=(-1, 1), bits=3, orders=3, activation_bits=6)
    found = quantize(model, input_range=(-1, 1), budget_ebops=dense.ebops, activation_bits=6)
    assert 0.8 * dense.ebops < found.ebops <= dense.ebops
    with pytest.raises(ValueError, match="budget of 100 EBOPs is below"):
        quantize(model, input_range=(-1, 1), budget_ebops=100)


def test_prices_without_building_are_those_of_the_built_model(folded: keras.Model) -> None:
    model = keras.Sequential(
        [keras.Input((8, 4)), L.Conv1D(6, 3, strides=2, groups=2, padding="same", name="c"), L.Dense(3, name="d")]
    )
    for one in (folded, fold(model)):
        inputs = {n.name: covering(-1, 1, 5 + k) for k, n in enumerate([*weighted(one), *averages(one)])}
        kernels = {layer.name: (kernel_value(layer), row_axes(layer)) for layer in weighted(one)}
        made = [choose(one, {n: expand(w, 3, k, 0.5, rows=r) for n, (w, r) in kernels.items()}, inputs) for k in (1, 3)]
        prices = Prices(one, build(one, made[0]))
        assert [prices.total(chosen) for chosen in made] == [model_ebops(build(one, chosen)) for chosen in made]


def test_bits_come_from_a_policy_and_only_one_way_of_saying_them_is_taken(original: keras.Model) -> None:
    policy = {"conv": Bits(2, 8), "deep": Bits(4, 6), "hidden": Bits(3, 7), "head": Bits(6, 5)}
    rows = {r.layer: r for r in quantize(original, input_range=(-1, 1), policy=policy).rows()}
    assert {name: (rows[name].w, rows[name].a) for name in policy} == {n: (b.w, b.a) for n, b in policy.items()}
    for few, least in ((Bits(1, 8), "2 and 1"), (Bits(3, 0), "2 and 1")):
        with pytest.raises(
            ValueError, match=f"layer 'head': {few.w} bits for weights and {few.a} .* least are {least}"
        ):
            quantize(original, input_range=(-1, 1), policy=policy | {"head": few})
    with pytest.raises(ValueError, match="the policy: has no bits for"):
        quantize(original, input_range=(-1, 1), policy={"conv": Bits(2, 8)})
    for options in ({}, {"bits": 3, "budget_ebops": 5}):
        with pytest.raises(ValueError, match="one of bits, budget_ebops"):
            quantize(original, input_range=(-1, 1), **options)


def chain_error(folded: keras.Model, expansions: dict[str, Expansion], reach: float) -> float:
    """How far the expanded ReLU network may be off for inputs within -reach..reach: Lipschitz constants in a chain."""
    error, size = 0.0, reach
    for layer in weighted(folded):
        kernel, residual = kernel_value(layer).astype(np.float64), expansions[layer.name]
        norm = np.abs(kernel).sum(axis=0).max()
        error = norm * error + np.abs(kernel - residual.value).sum(axis=0).max() * (size + error)
        size = norm * size + np.abs(np.asarray(layer.bias)).max()
    return error


def perceptron(activation: str | None) -> keras.Model:
    sizes = (16, 8)
    hidden = [L.Dense(n, activation=activation, name=f"d{n}") for n in sizes]
    model = keras.Sequential([keras.Input((10,)), *hidden, L.Dense(4, name="d4")])
    rng = np.random.default_rng(8)
    model.set_weights([rng.normal(size=w.shape) / 4 for w in model.get_weights()])
    return fold(model)


@pytest.mark.parametrize("operator", [power_of_two, float_scales])
def test_the_error_of_a_network_is_within_the_bound_of_its_layers(operator: object) -> None:
    model = perceptron("relu")
    x = np.random.default_rng(9).uniform(-1, 1, (500, 10)).astype(np.float32)
    wanted, bounds = np.asarray(model(x)), []
    for orders in (1, 2, 3):
        expansions = {one.name: expand(kernel_value(one), 3, orders, operator=operator) for one in weighted(model)}  # type: ignore[arg-type]
        found = np.asarray(ensemble(model, expansions, [orders])(x))
        bounds.append(chain_error(model, expansions, 1.0))
        assert np.abs(found - wanted).max() <= bounds[-1] + 1e-5  # float32
    assert bounds[2] < bounds[1] / 4 < bounds[0] / 16


def test_an_ensemble_is_exact_where_the_network_is_linear_in_each_layer_alone() -> None:
    given = keras.Input((6,))
    model = fold(keras.Model(given, L.Dense(5, name="only", bias_initializer="ones")(given)))
    expansions = {"only": expand(kernel_value(model.get_layer("only")), 3, 3)}
    x = np.random.default_rng(0).integers(-8, 8, (20, 6)).astype(np.float32)
    whole, parts = (np.asarray(ensemble(model, expansions, groups)(x)) for groups in ([3], [1, 1, 1]))
    assert np.array_equal(whole, parts)


def test_an_ensemble_comes_closer_as_its_first_member_grows_and_becomes_hardware() -> None:
    model = perceptron("relu")
    expansions = {one.name: expand(kernel_value(one), 3, 4) for one in weighted(model)}
    x = np.random.default_rng(1).uniform(-1, 1, (300, 10)).astype(np.float32)
    whole = np.asarray(ensemble(model, expansions, [4])(x))
    errors = [np.abs(np.asarray(ensemble(model, expansions, [n, 4 - n])(x)) - whole).mean() for n in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True) and errors[2] < errors[0] / 4
    both = ensemble(model, expansions, [2, 2])
    made = quantize(both, input_range=(-1, 1), bits=3, orders=2, activation_bits=12)
    assert {row.layer for row in made.rows()} == {f"d{n}_{m}" for n in (16, 8, 4) for m in (1, 2)}
    with pytest.raises(ValueError, match="add up to 3"):
        ensemble(model, expansions, [1, 2])


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_kernel_of_zeros_leaves_nothing() -> None:
    layers = [keras.layers.Dense(2, kernel_initializer="zeros"), keras.layers.Dense(2, name="b")]
    found = quantize(keras.Sequential([keras.Input((3,)), *layers]), input_range=(-1, 1), bits=3)
    assert "nan" not in found.summary() and "of the largest of 'b'" in found.summary()


def test_layers_whose_values_nobody_can_tell_are_refused(tmp_path: Path) -> None:
    given = keras.Input((4,))
    with pytest.raises(ConversionError, match="'curve'"):
        quantize(keras.Model(given, L.Dense(2, activation="tanh", name="curve")(given)), input_range=(0, 1), bits=4)
    with pytest.raises(ValueError, match="input_range"):
        quantize(perceptron("relu"), input_range=(1, 0), bits=4)
    with pytest.raises(ValueError, match="layer 'd8': what it reads may be beyond float32 for inputs from 0 to 1e"):
        quantize(perceptron("relu"), input_range=(0, 1e30), bits=4)


def test_training_goes_on_from_the_result_and_makes_it_cheaper() -> None:
    model = fold(dense_pair())
    made = quantize(model, input_range=(-1, 1), bits=4, orders=2).model
    x = np.random.default_rng(3).uniform(-1, 1, (64, 4)).astype(np.float32)
    y = np.asarray(model(x))
    before = model_ebops(made)
    assert np.square(np.asarray(made(x)) - y).mean() < 1e-3 * np.square(y).mean()
    for name in ("first", "last"):
        made.get_layer(name).beta.assign(1e-3)
    made.compile(keras.optimizers.Adam(0.03), "mse")
    made.fit(x, y, epochs=30, batch_size=64, verbose=0)  # bits move by almost one, which rounds to one
    assert model_ebops(made) < 0.9 * before
    assert np.square(np.asarray(made(x)) - y).mean() < 0.1 * np.square(y).mean()


def dense_pair() -> keras.Model:
    given = keras.Input((4,))
    model = keras.Model(given, L.Dense(2, name="last")(L.Dense(4, activation="relu", name="first")(given)))
    rng = np.random.default_rng(8)
    model.set_weights([rng.normal(size=w.shape) / 2 for w in model.get_weights()])
    return model


@pytest.mark.rtl
@pytest.mark.hls
def test_a_model_quantised_without_data_becomes_hardware_that_agrees(tmp_path: Path) -> None:
    made = quantize(dense_pair(), input_range=(-1, 1), bits=3, orders=2, gamma=0.5, activation_bits=4)
    x = np.random.default_rng(2).uniform(-1.2, 1.2, (100, 4))
    assert "0 differences" in hgq.convert(made.model, tmp_path / "p", verify=x).summary()
