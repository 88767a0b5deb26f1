"""Weights of -mu, 0, mu: the regulariser against its formulas, what it decides, and what the converter reads."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from hgq.fixed import decode, encode
from hgq.layers import QConv2D, QDense, QDepthwiseConv2D
from hgq.quantizers import BinaryTernaryQuantizer
from hgq.quantizers.binary_ternary import regulariser, well_edge
from hgq.training import calibrate

RNG = np.random.default_rng


def ready(weights, **arguments):
    """A quantizer of constant weights, in units of mu, with mu = 1/4."""
    quantizer = BinaryTernaryQuantizer(**arguments)
    weights = ops.convert_to_tensor(np.asarray(weights, np.float32) / 4)
    quantizer.attach(tuple(weights.shape), "QDense 'dense'", lambda: weights)
    quantizer.log2_mu.assign(ops.full(quantizer.group, -2.0))
    return quantizer


def set_beta(quantizer, beta):
    quantizer.shape_.assign(beta / quantizer.rate)


def number(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


def gradient(function, *arrays):
    """Of a scalar function of tensors, by each of them, on any backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensors = [tf.constant(np.asarray(array, np.float32)) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return [np.asarray(g) for g in tape.gradient(value, tensors)]
    if keras.backend.backend() == "torch":
        import torch

        tensors = [torch.tensor(np.asarray(array, np.float32), requires_grad=True) for array in arrays]
        found = torch.autograd.grad(function(*tensors), tensors, allow_unused=True)
        return [np.zeros(t.shape) if g is None else g.numpy() for t, g in zip(tensors, found, strict=True)]
    import jax

    return [np.asarray(g) for g in jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)]


# --- the regulariser ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("beta", [math.pi / 4, 1.0, 1.5])
def test_the_regulariser_has_wells_at_0_and_1_that_meet_at_the_edge(p, beta):
    u = np.linspace(-1.5, 1.5, 3001).astype(np.float32)
    r = number(regulariser(u, np.float32(beta), p))
    assert (r == r[::-1]).all() and (r >= 0).all()
    assert r[[500, 1500, 2500]] == pytest.approx([0, 0, 0], abs=1e-6)
    edge = float(number(well_edge(np.float32(beta), p)))
    assert edge == pytest.approx(1 / (1 + math.tan(beta) ** (1 / p)), rel=1e-5)
    inside = np.abs(u) <= 1
    peak = abs(u[inside][r[inside].argmax()])
    assert peak == pytest.approx(edge, abs=1e-3)
    slope = np.gradient(r, u)
    assert (slope[(u > 0.01) & (u < edge - 0.01)] > 0).all() and (slope[(u > edge + 0.01) & (u < 0.99)] < 0).all()


def test_at_the_lower_bound_the_wells_are_as_wide_as_each_other():
    assert number(well_edge(np.float32(math.pi / 4), 1)) == pytest.approx(0.5, abs=1e-6)
    assert number(well_edge(np.float32(math.pi / 4), 2)) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_the_gradient_of_beta_is_the_formula(p):
    u, beta, gamma = RNG(0).normal(0, 1, 500).astype(np.float32), 1.2, 0.2

    def loss(beta):
        return ops.mean(regulariser(u, beta, p)) + gamma / ops.tan(beta)

    near = np.abs(u) < 1 / (1 + math.tan(beta) ** (1 / p))
    mass = (np.abs(u[near]) ** p).sum() / len(u)
    (got,) = gradient(loss, np.float32(beta))
    assert got == pytest.approx(mass / math.cos(beta) ** 2 - gamma / math.sin(beta) ** 2, rel=1e-4)


def decided(quantizer, weights, steps=40, rate=2.0):
    """tan(beta) after descent on the loss that the quantizer adds; the weights stay."""

    def loss(beta):
        price = ops.mean(regulariser(np.asarray(weights, np.float32), beta, quantizer.p))
        return price + quantizer.gamma / ops.tan(beta)

    for _ in range(steps):
        (slope,) = gradient(loss, np.float32(number(quantizer.beta)))
        moved = quantizer.shape_.constraint(
            ops.convert_to_tensor(number(quantizer.shape_) - rate * slope / quantizer.rate)
        )
        quantizer.shape_.assign(moved)
    return math.tan(float(number(quantizer.beta)))


PHASES = {"ternary": (0.05, 1.0), "between": (0.1, 1.21), "nearer binary": (0.2, 3.44), "binary": (0.4, 1000.0)}


@pytest.mark.parametrize("phase", PHASES)
def test_the_phases_of_evenly_spread_weights_are_those_predicted(phase):
    """One third of the weights in each unit: ternary below gamma = 1/12, binary above 1/3, tan = s / (1 - s)."""
    gamma, expected = PHASES[phase]
    weights = np.linspace(-1.5, 1.5, 4001)
    quantizer = ready(weights, gamma=gamma)
    found = decided(quantizer, weights)
    assert found == pytest.approx(expected, rel=0.05)
    assert quantizer.is_binary == (phase == "binary")


def test_two_heaps_become_binary_and_three_ternary():
    noise, heaps = RNG(1).normal(0, 0.1, 1200), RNG(2).integers(-1, 2, 1200)
    for weights, binary in (((heaps != 0) * 2 - 1 + noise, True), (heaps + noise, False)):
        quantizer = ready(weights, gamma=0.02)
        found = decided(quantizer, weights)
        assert found > 900 if binary else found == pytest.approx(1, abs=1e-4)
        assert quantizer.is_binary == binary


def test_the_loss_of_a_layer_is_the_formula_and_evaluation_adds_none():
    layer = QDense(7, use_bias=False, beta=0, gamma=0, kernel_quantizer=BinaryTernaryQuantizer(strength=0.3, gamma=0.2))
    x = ops.convert_to_tensor(RNG(0).normal(size=(4, 5)).astype(np.float32))
    layer(x)
    assert not layer.losses
    layer(x, training=True)
    q = layer.kernel_quantizer
    mu, beta = 2.0 ** number(q.log2_mu).item(), float(number(q.beta))
    u = np.abs(number(layer.kernel)) / mu
    expected = np.minimum(np.abs(u - 1), math.tan(beta) * u).mean() + 0.2 / math.tan(beta)
    assert float(sum(number(loss) for loss in layer.losses)) == pytest.approx(0.3 * expected, rel=1e-5)


# --- forward and backward -------------------------------------------------------------------------------------------


def apply(quantizer, weights, training=False):
    return number(quantizer.apply(ops.convert_to_tensor(np.asarray(weights, np.float32)), training))


def test_ternary_binary_and_the_sign_of_zero_by_hand():
    u = [-2, -0.5, -0.25, -0.0, 0, 0.2, 0.5, 0.7]
    quantizer = ready(u, gamma=0.1)
    w = np.array(u) / 4
    set_beta(quantizer, math.pi / 4)
    assert (apply(quantizer, w) * 4).tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]
    set_beta(quantizer, math.atan(4.0))  # the well ends at 1/5
    assert (apply(quantizer, w) * 4).tolist() == [-1, -1, -1, 0, 0, 1, 1, 1]
    set_beta(quantizer, math.atan(11.0))
    assert (apply(quantizer, w) * 4).tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]


def test_what_was_quantised_stays():
    for depth in ("binary", "ternary"):
        quantizer = ready(RNG(3).normal(size=50), depth=depth)
        once = apply(quantizer, RNG(3).normal(size=50) / 4)
        assert (apply(quantizer, once) == once).all()
        assert set((once * 4).tolist()) == ({-1, 1} if depth == "binary" else {-1, 0, 1})


def test_gradients_are_straight_through_but_not_outwards():
    u = np.array([-1.5, -0.9, 0.1, 0.9, 1.5, 1.5])
    quantizer = ready(u, depth="ternary", scale="trained")
    up = ops.convert_to_tensor(np.array([2, -3, 5, -7, -11, 13], np.float32))  # descent moves the other way

    def total(w):
        return ops.sum(quantizer.apply(w, True) * up)

    (to_w,) = gradient(total, u.astype(np.float32) / 4)
    assert to_w.tolist() == [0, -3, 5, -7, 0, 13]


def test_without_straight_through_training_leaves_weights_alone():
    quantizer = ready([0.3, 0.9], depth="ternary", straight_through=False)
    assert (apply(quantizer, [0.075, 0.225], training=True) == np.float32([0.075, 0.225])).all()
    assert apply(quantizer, [0.075, 0.225]).tolist() == [0, 0.25]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_the_scale_is_a_power_of_two_near_twice_the_mean(granularity):
    weights = RNG(5).normal(size=(30, 3)).astype(np.float32) * [0.01, 0.3, 20]
    quantizer = BinaryTernaryQuantizer(granularity=granularity)
    quantizer.attach((30, 3), "QDense 'dense'", lambda: ops.convert_to_tensor(weights.astype(np.float32)))
    means = 2 * np.abs(weights).mean(0 if granularity == "channel" else None).ravel()
    assert number(quantizer.log2_mu).ravel().tolist() == np.round(np.log2(means)).tolist()


def test_a_float_scale_is_for_comparison_only():
    quantizer = ready([0.5, 1.0, -1.0], scale="float", depth="ternary")
    quantizer.log2_mu.assign([math.log2(0.3)])
    assert apply(quantizer, [0.1, 0.2, -1]) == pytest.approx([0, 0.3, -0.3])
    with pytest.raises(ValueError, match=r"QDense 'dense': .*scale='float'.*Fix: "):
        quantizer.types((3,))


WRONG = {
    "depth": (dict(depth="quaternary"), "depth='quaternary'"),
    "gamma": (dict(gamma=-1), "gamma=-1"),
    "p": (dict(p=3), "p=3"),
    "rate": (dict(rate=0), "rate=0"),
    "threshold": (dict(binary_above=1), "binary_above=1"),
    "scale": (dict(scale="any"), "scale='any'"),
    "granularity": (dict(granularity="element"), "granularity='element'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        BinaryTernaryQuantizer(**arguments)


def test_it_quantises_no_activations():
    with pytest.raises(ValueError, match="kernel_quantizer"):
        QDense(2, input_quantizer=BinaryTernaryQuantizer()).build((None, 3))


# --- in layers ------------------------------------------------------------------------------------------------------

LAYERS = {
    "dense": (lambda **k: QDense(6, **k), (9,)),
    "conv": (lambda **k: QConv2D(3, 2, padding="same", **k), (5, 5, 2)),
    "depthwise": (lambda **k: QDepthwiseConv2D(3, depth_multiplier=2, **k), (5, 5, 2)),
}


@pytest.mark.parametrize("depth", ["binary", "ternary"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_price_in_training_is_exact(kind, depth):
    make, shape = LAYERS[kind]
    layer = make(use_bias=False, kernel_quantizer=BinaryTernaryQuantizer(depth=depth))
    model = keras.Sequential([keras.Input(shape), layer])
    calibrate(model, RNG(0).uniform(-2, 2, (16, *shape)).astype(np.float32))
    assert float(number(layer.ebops_bar())) == layer.exact_ebops() > 0
    values, types = layer.constants()["kernel"]
    m = np.ldexp(values, types.frac)
    assert set(np.unique(m).tolist()) == ({-1, 1} if depth == "binary" else {-1, 0, 1})
    assert types.width.max() == 2
    assert layer.kernel_quantizer.memory_bits() == m.size * (1 if depth == "binary" else 2)


def test_the_price_pulls_ternary_weights_to_zero_and_leaves_binary_ones():
    u = np.array([-1.5, -0.7, 0.3, 0.9], np.float32)
    for depth, slope in (("ternary", [0, -4, 4, 4]), ("binary", [0, 0, 0, 0])):
        quantizer = ready(u, depth=depth)

        def price(w, quantizer=quantizer):
            quantizer._value = lambda: w
            return ops.sum(quantizer.bits(sign=False))

        assert gradient(price, u / 4)[0].tolist() == slope


def test_a_saved_model_is_the_same_model(tmp_path):
    keras.utils.set_random_seed(7)
    smart = BinaryTernaryQuantizer(gamma=0.3, p=2, granularity="channel", scale="trained", binary_above=5)
    model = keras.Sequential([keras.Input((6,)), QDense(8, "relu", kernel_quantizer=smart), QDense(3)])
    x = RNG(1).normal(size=(64, 6)).astype(np.float32)
    calibrate(model, x)
    set_beta(model.layers[0].kernel_quantizer, math.atan(6.0))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    q, r = model.layers[0].kernel_quantizer, again.layers[0].kernel_quantizer
    assert r.get_config() == q.get_config()
    assert q.is_binary and r.is_binary and r.memory_bits() == 48
    assert (number(again(x)) == number(model(x))).all()
    # and it computes what integers of the types that the converter reads do
    layer = again.layers[0]
    types = layer.input_quantizer.types((6,))
    given = decode(encode(x.astype(np.float64), types, layer.input_quantizer.rounding, "WRAP"), types.frac)
    (kernel, _), (bias, _) = layer.constants()["kernel"], layer.constants()["bias"]
    assert (number(layer(x)) == np.maximum(given @ kernel + bias, 0)).all()


def test_training_moves_the_depth_and_brings_weights_to_the_wells():
    keras.utils.set_random_seed(0)
    given = keras.Input((8,))
    layers = [
        QDense(4, kernel_quantizer=BinaryTernaryQuantizer(gamma=gamma, rate=2.0, strength=1.0))
        for gamma in (2.0, 0.001)
    ]
    model = keras.Model(given, keras.layers.Concatenate()([layer(given) for layer in layers]))
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=keras.backend.backend() == "jax")
    x = RNG(0).normal(size=(256, 8)).astype(np.float32)

    def at_wells(layer):
        u = np.abs(number(layer.kernel)) / np.abs(layer.constants()["kernel"][0]).max()
        return (np.minimum(u, np.abs(u - 1)) < 0.1).mean()

    before = [at_wells(layer) for layer in layers]
    model.fit(x, x, batch_size=64, epochs=20, verbose=0)
    assert [layer.kernel_quantizer.is_binary for layer in layers] == [True, False]
    assert [at_wells(layer) > was + 0.2 for layer, was in zip(layers, before, strict=True)] == [True, True]
