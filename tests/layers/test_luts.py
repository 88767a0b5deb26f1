"""LUTs to expect: digits, sums by hand, gradients as the docstrings state them, every layer."""

import keras
import numpy as np
import pytest
from keras import ops

from hgq.layers import QDense
from hgq.layers.luts import CONSTANT, LAST_DIGIT, sums
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.quantizers.exact import read, signed_digits
from hgq.resource import model_luts, set_cost


def digits_by_hand(m):
    """Non-adjacent form, digit by digit."""
    count = 0
    while m:
        if m & 1:
            m -= 2 - (m & 3)
            count += 1
        m //= 2
    return count


def test_signed_digits_are_those_of_the_non_adjacent_form():
    m = np.unique(np.r_[0:5000, 2 ** np.arange(24) - 1, np.random.default_rng(0).integers(0, 1 << 24, 2000)])
    expected = [digits_by_hand(int(v)) for v in m]
    assert ops.convert_to_numpy(signed_digits(ops.convert_to_tensor(m.astype(np.float32)))).tolist() == expected
    assert ops.convert_to_numpy(signed_digits(ops.convert_to_tensor(-m.astype(np.float32)))).tolist() == expected


def gradients(function, *arrays):
    """Of a scalar function of tensors."""
    tensors = [keras.Variable(a.astype(np.float32)) for a in arrays]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y = function(*(ops.convert_to_tensor(t) for t in tensors))
        return float(y), [np.asarray(g) for g in tape.gradient(y, [t.value for t in tensors])]
    if keras.backend.backend() == "jax":
        import jax

        values = [t.value for t in tensors]
        return float(function(*values)), [
            np.asarray(g) for g in jax.grad(function, argnums=tuple(range(len(values))))(*values)
        ]
    y = function(*(t.value for t in tensors))
    y.backward()
    return float(y), [t.value.grad.numpy() for t in tensors]


def test_sums_by_hand_with_their_gradients():
    widths = np.array([[3.0, 2.0, 0.0]])
    digits = np.array([[1, 0, 1], [2, 1, 0], [4, 0, 0]])
    # Column 0: 3 terms of 3, 2, 2 bits (the third input is dead), column 1 a wire, column 2 likewise.
    value, (to_widths, to_digits) = gradients(lambda w, d: sums(w, d, ops.matmul), widths, digits)
    assert value == pytest.approx(7 * (1 - 1 / 3) + 3 * CONSTANT)
    assert to_widths == pytest.approx(np.array([[1 + LAST_DIGIT, 2 + LAST_DIGIT, 4]]))
    assert to_digits == pytest.approx(
        np.array([[3, 3 * LAST_DIGIT, 3 * LAST_DIGIT], [2, 2 * LAST_DIGIT, 2 * LAST_DIGIT], [0, 0, 0]])
    )


def test_digits_have_the_gradient_of_live_bits():
    quantizer = WidthQuantizer(b0=3.0, i0=0.0)
    kernel = keras.Variable(np.array([[0.25, 0.375, 0.875, 0.0]], np.float32))
    quantizer.attach((1, 4), "test", lambda: read(kernel))
    quantizer.b.assign(np.array([[3.0, 3.0, 3.0, 0.0]]))
    assert ops.convert_to_numpy(quantizer.digits()).tolist() == [[1, 2, 2, 0]]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y = ops.sum(quantizer.digits())
        assert tape.gradient(y, quantizer.b.value).numpy().tolist() == [[1, 1, 1, 0]]


def dense_by_hand():
    """x of 4 bits behind a rectifier, three weights of 1, 2, 0 digits for one output, one digit for the other."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            QDense(3, "relu", kernel_initializer="identity", use_bias=False),
            QDense(2, use_bias=False, input_quantizer=FracQuantizer(f0=2.0)),
        ]
    )
    first, second = model.layers
    for layer in model.layers:
        q = layer.input_quantizer
        q.lo.assign(np.zeros(q.lo.shape))
        q.hi.assign(np.full(q.hi.shape, 3.75))
        layer.kernel_quantizer.i.assign(np.full(layer.kernel.shape, 1.0))
    first.input_quantizer.f.assign(np.full((3,), 2.0))
    second.kernel.assign(np.array([[0.5, 0], [0.75, 1], [0, 0]], np.float32))
    return model


def test_a_small_model_by_hand():
    model = dense_by_hand()
    first, second = model.layers
    wires = 3 * CONSTANT  # three sums of one term; the port's quantizer is the host's
    assert float(first.luts()) == pytest.approx(wires)
    rectifiers = 3 * 4
    assert float(second.luts()) == pytest.approx(rectifiers + 12 * (1 - 1 / 3) + 2 * CONSTANT)
    assert model_luts(model) == round(wires + rectifiers + 8 + 2 * CONSTANT)


def test_the_cost_is_switched_even_after_training_began():
    model = dense_by_hand()
    model.compile("sgd", "mse", jit_compile=False)
    x = np.random.default_rng(0).uniform(0, 3, (4, 3)).astype(np.float32)
    for layer in model.layers:
        layer.beta.assign(1.0)
        layer.gamma = 0.0

    def loss():
        before = model.get_weights()
        found = model.train_on_batch(x, np.zeros((4, 2)))
        model.set_weights(before)
        return float(np.asarray(found).ravel()[0])

    ebops = loss()
    set_cost(model, "luts")
    luts = loss()
    set_cost(model, "ebops")
    bar = sum(float(layer.ebops_bar()) for layer in model.layers)
    price = sum(float(layer.luts()) for layer in model.layers)
    assert loss() == ebops and luts - ebops == pytest.approx(price - bar, abs=0.05) and price != bar


def test_an_unknown_cost_is_named():
    with pytest.raises(ValueError, match="cost='flops'; choose one of ebops, luts"):
        set_cost(dense_by_hand(), "flops")
    with pytest.raises(ValueError, match="cost='flops'"):
        QDense(2, cost="flops")
