"""The parts of MRECG that need no training: rounding, grids, units, capacities, which are joined."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from hgq.errors import ConversionError
from hgq.methods.mrecg.capacity import differences, groups, pairs_to_join, parameter_capacity
from hgq.methods.mrecg.grid import FINER, Grid, fixed_point, floating, grid_of, types_of
from hgq.methods.mrecg.layer import Learning, Rounded, h, inverse_h, linear, rounding_loss
from hgq.methods.mrecg.losses import LossLog, largest, oscillation
from hgq.methods.mrecg.units import joined, partition
from hgq.methods.network import kernel_value, weighted

L = keras.layers
STILL = Learning(steps=100, rate=1e-2, round_weight=0.01, travel=1.0, powers=True)


def bottlenecks() -> keras.Model:
    """A convolution, a residual bottleneck, a depthwise convolution with strides, a dense layer."""
    x = given = keras.Input((8, 8, 3), name="pixels")
    x = before = L.ReLU(name="stem_relu")(L.Conv2D(4, 3, padding="same", name="stem")(x))
    x = L.Conv2D(16, 1, activation="relu", name="expand")(x)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="middle")(x)
    x = L.Add(name="add")([before, L.Conv2D(4, 1, name="project")(x)])
    x = L.DepthwiseConv2D(3, 2, padding="same", name="strided")(x)
    x = L.Flatten(name="flat")(L.MaxPooling2D(2, name="pool")(x))
    return keras.Model(given, L.Dense(5, name="head")(x), name="bottlenecks")


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return bottlenecks()


def units_of(model: keras.Model) -> list:
    return partition(model, {layer.name for layer in weighted(model)})


# --- rounding -------------------------------------------------------------------------------------------------------


def test_h_starts_where_the_weight_is_and_reaches_both_ends() -> None:
    part = np.linspace(0, 0.999, 50)
    assert np.allclose(ops.convert_to_numpy(h(ops.convert_to_tensor(inverse_h(part)))), part, atol=1e-6)  # float32
    assert ops.convert_to_numpy(h(ops.convert_to_tensor(np.array([-9.0, 9.0])))).tolist() == [0, 1]


def test_the_rounding_loss_is_zero_once_decided_and_largest_half_way() -> None:
    decided, half = (ops.convert_to_tensor(np.full(4, v, np.float32)) for v in (9.0, 0.0))
    assert float(rounding_loss(decided, 2.0)) == 0
    assert float(rounding_loss(half, 2.0)) == 4
    # A sharp exponent ignores all but the weights near one half; the soft one presses on every weight.
    between = ops.convert_to_tensor(np.full(4, 1.0, np.float32))
    assert float(rounding_loss(between, 20.0)) > float(rounding_loss(between, 2.0)) > 0


def rounded(layer: keras.layers.Layer, shape: tuple, bits: int = 3, given: Grid | None = None) -> Rounded:
    layer.build(shape)
    kernel = kernel_value(layer)
    weights = grid_of(fixed_point(kernel, bits, True, tuple(range(kernel.ndim - 1))))
    made = Rounded(
        layer, weights, given or Grid(np.array([2.0**-20]), np.array([-(2.0**30)]), np.array([2.0**30])), STILL
    )
    made.build(shape)
    return made


def test_untrained_it_rounds_to_the_nearest_and_decided_to_floor_or_ceiling() -> None:
    layer = L.Dense(6)
    made = rounded(layer, (None, 10))
    step = made.weights_grid.step
    assert np.array_equal(made.kernel(), made.weights_grid.nearest(kernel_value(layer)))
    scaled = kernel_value(layer).astype(np.float64) / step
    for v, expected in ((9.0, np.floor(scaled) + 1), (-9.0, np.floor(scaled))):
        made.v.assign(np.full(made.v.shape, v, np.float32))
        assert np.array_equal(made.kernel(), step * np.clip(expected, made.weights_grid.lo, made.weights_grid.hi))


def test_soft_at_the_start_the_layer_computes_what_the_float_layer_does() -> None:
    keras.utils.set_random_seed(1)  # a weight half a step above the highest of its grid would be cut
    layer = L.Dense(6)
    made = rounded(layer, (None, 10), bits=8)
    x = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    inside = np.abs(kernel_value(layer)) < made.weights_grid.hi * made.weights_grid.step
    assert inside.all()
    got = ops.convert_to_numpy(made(x, training=True))
    assert np.allclose(got, ops.convert_to_numpy(layer(x)), atol=1e-5)  # float32 sums


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: L.Dense(3, activation="relu"), (None, 4)),
        (lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2), (None, 8, 4)),
        (lambda: L.Conv1D(4, 3, strides=2, groups=2), (None, 8, 4)),
        (lambda: L.Conv2D(3, 3, strides=2, padding="same"), (None, 7, 7, 2)),
        (lambda: L.DepthwiseConv1D(3, strides=2, depth_multiplier=2), (None, 8, 4)),
        (lambda: L.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False), (None, 7, 7, 2)),
    ],
    ids=["dense", "conv1d causal", "conv1d groups", "conv2d", "depthwise1d", "depthwise2d"],
)
def test_with_its_own_kernel_every_layer_gives_what_it_gave(layer, shape) -> None:
    layer = layer()
    layer.build(shape)
    x = np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(np.float32)
    got = linear(layer, ops.convert_to_tensor(x), ops.convert_to_tensor(kernel_value(layer)))
    assert np.array_equal(ops.convert_to_numpy(got), ops.convert_to_numpy(layer(x)))


def test_the_input_is_quantised_exactly_and_its_step_moves_by_powers_of_two() -> None:
    layer = L.Dense(1, use_bias=False)
    given = Grid(np.array([0.25]), np.array([0.0]), np.array([15.0]))
    made = rounded(layer, (None, 1), given=given)
    x = np.array([[-1.0], [0.12], [0.125], [3.7], [99.0]], np.float32)
    wanted = given.nearest(x)
    assert wanted.ravel().tolist() == [0, 0, 0.25, 3.75, 3.75]
    assert np.array_equal(ops.convert_to_numpy(made(x)), (wanted @ made.kernel()).astype(np.float32))
    assert made.given().step == 0.25
    made.moved.assign(0.6 * STILL.rate * STILL.steps)  # 0.6 of a power of two
    assert made.given().step == 0.5
    assert np.array_equal(ops.convert_to_numpy(made(x)), (made.given().nearest(x) @ made.kernel()).astype(np.float32))


# --- grids ----------------------------------------------------------------------------------------------------------


def test_the_types_have_the_smallest_error_of_the_steps_that_are_tried() -> None:
    x = np.random.default_rng(1).normal(size=(40, 3)) * [1, 0.1, 30]
    types = fixed_point(x, 4, True, (0,))
    assert types.bits.shape == (1, 3)
    for column in range(3):
        covering = np.frexp(np.abs(x[:, column]).max())[1] - 3
        errors = []
        for finer in FINER:
            step = 2.0 ** (covering - finer)
            q = np.clip(np.floor(x[:, column] / step + 0.5), -8, 7) * step
            errors.append((np.abs(x[:, column] - q) ** 2.4).sum())
        assert types.frac[0, column] == FINER[int(np.argmin(errors))] - covering


def test_a_column_of_zeros_has_no_bits_and_types_come_back_from_their_grid() -> None:
    x = np.random.default_rng(2).normal(size=(20, 2))
    x[:, 1] = 0
    types = fixed_point(x, 3, True, (0,))
    assert types.bits.tolist() == [[2, 0]]
    again = types_of(grid_of(types), types)
    assert again.frac[0, 0] == types.frac[0, 0] and (again.bits == types.bits).all()


def test_float_grids_are_asymmetric_and_hold_zero() -> None:
    x = np.random.default_rng(3).uniform(-0.2, 1.0, (200, 1))
    grid = floating(x, 2, (0,))
    assert (grid.hi - grid.lo).item() == 3
    assert grid.lo.item() > -2  # more room above than a signed type has
    assert grid.nearest(np.zeros((1, 1))).item() == 0
    assert np.abs(grid.nearest(x) - x).mean() < np.abs(grid_of(fixed_point(x, 2, True, (0,))).nearest(x) - x).mean()


# --- units ----------------------------------------------------------------------------------------------------------


def test_a_residual_block_is_a_unit_and_what_has_no_weights_goes_with_the_layer_before(network) -> None:
    units = units_of(network)
    assert [unit.name for unit in units] == ["stem", "expand to project", "strided", "head"]
    assert [[layer.name for layer in unit.layers] for unit in units][1] == ["expand", "middle", "project"]
    assert units[2].last.shape == (None, 16)  # pooled and flat


def test_units_one_after_the_other_are_the_network(network) -> None:
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    units = units_of(network)
    y = x
    for unit in units:
        y = ops.convert_to_numpy(unit.model()(y))
    assert np.array_equal(y, ops.convert_to_numpy(network(x)))
    z = ops.convert_to_numpy(joined(units[1:]).model()(ops.convert_to_numpy(units[0].model()(x))))
    assert np.array_equal(y, z)


def test_what_mrecg_cannot_take_is_refused_by_name() -> None:
    shared = L.Dense(4, name="shared")
    x = given = keras.Input((4,))
    twice = keras.Model(given, shared(shared(x)))
    with pytest.raises(ConversionError, match=r"'shared'.*2 times"):
        units_of(twice)
    two = keras.Model(given, [L.Dense(2, name="one")(x), L.Dense(2, name="two")(x)], name="branching")
    with pytest.raises(ConversionError, match=r"(?s)'branching'.*2 outputs"):
        units_of(two)


# --- capacities -----------------------------------------------------------------------------------------------------


def test_capacity_is_weights_times_bits_and_a_stride_counts_more(network) -> None:
    bits = {"stem": 8, "expand": 2, "middle": 3, "project": 4, "strided": 2, "head": 8}
    found = [parameter_capacity(unit, bits) for unit in units_of(network)]
    block = 4 * 16 * 2 + 9 * 16 * 3 + 16 * 4 * 4
    assert found == [9 * 3 * 4 * 8, block, 9 * 4 * 2 * 1.6, 16 * 5 * 8]


def test_equal_units_are_never_joined() -> None:
    assert pairs_to_join(differences([7.0, 7.0, 7.0]), 2, 3).tolist() == [False, False]


def test_a_small_layer_between_wide_ones_is_joined_with_them() -> None:
    capacities = [1000, 1000, 1000, 90, 1000, 1000]  # a depthwise convolution between two of 1 x 1
    mask = pairs_to_join(differences(capacities), 2, 3)
    assert mask.tolist() == [False, False, True, True, False]
    assert groups(mask) == [[0], [1], [2, 3, 4], [5]]


def test_none_joined_is_the_base_and_all_joined_the_whole_network() -> None:
    d = differences([1, 5, 2, 9])
    assert groups(pairs_to_join(d, 0, 3)) == [[0], [1], [2], [3]]
    assert groups(pairs_to_join(d, 3, 4)) == [[0, 1, 2, 3]]


def test_no_group_is_longer_than_asked_and_each_unit_is_in_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 12))
        mask = pairs_to_join(differences(rng.uniform(size=count)), int(rng.integers(0, count + 1)), 3)
        found = groups(mask)
        assert [number for group in found for number in group] == list(range(count))
        assert max(map(len, found)) <= 3


def test_a_pair_that_would_make_a_group_too_long_gives_way_to_the_next() -> None:
    mask = pairs_to_join(np.array([9.0, 8.0, 7.0, 6.0, 5.0]), 3, 3)
    assert mask.tolist() == [True, True, False, True, False]


def test_the_measures_of_the_log_are_the_largest_loss_and_the_sum_of_steps() -> None:
    losses = np.array([1.0, 4.0, 2.0])
    assert (largest(losses), oscillation(losses)) == (4, 5)
    text = LossLog(("a", "b", "c"), losses, losses / 2).text()
    assert text.splitlines()[-1].split()[-2:] == ["5", "2.5"]
