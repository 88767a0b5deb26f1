"""LUTs to expect: digits, sums by hand, gradients as the docstrings state them, every layer."""

import keras
import numpy as np
import pytest
from keras import ops

import hgq.layers
from hgq.layers import QDense, QLayer
from hgq.layers.arrival import UNREAD
from hgq.layers.luts import COMPARED, CONSTANT, LAST_DIGIT, SPARE_BIT, sums
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.quantizers.exact import read, signed_digits
from hgq.resource import model_luts, set_cost
from hgq.training import copy_model


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
    spare = np.array([[0, 3, 0], [2, 0, 0], [0, 0, 5]])
    # Column 0: 3 terms of 3, 2, 2 bits (the third input is dead), column 1 a wire, column 2 likewise.
    value, slopes = gradients(lambda w, d, s: sums(w, d, s, ops.matmul), widths, digits, spare)
    to_widths, to_digits, to_spare = slopes
    assert value == pytest.approx(7 * (1 - 1 / 3) + 3 * CONSTANT)  # spare bits cost nothing
    pressed = [1 + LAST_DIGIT + LAST_DIGIT * 3 * SPARE_BIT, 2 + LAST_DIGIT + 2 * SPARE_BIT]
    assert to_widths == pytest.approx(np.array([[*pressed, 4 + LAST_DIGIT * 5 * SPARE_BIT]]))
    assert to_digits == pytest.approx(
        np.array([[3, 3 * LAST_DIGIT, 3 * LAST_DIGIT], [2, 2 * LAST_DIGIT, 2 * LAST_DIGIT], [0, 0, 0]])
    )
    assert not np.any(to_spare)


def test_digits_have_the_gradient_of_live_bits():
    quantizer = WidthQuantizer(b0=3.0, i0=0.0)
    kernel = keras.Variable(np.array([[0.25, 0.375, 0.875, 0.0]], np.float32))
    quantizer.attach((1, 4), "test", lambda: read(kernel))
    quantizer.b.assign(np.array([[3.0, 3.0, 3.0, 0.0]]))
    assert ops.convert_to_numpy(quantizer.digits()).tolist() == [[1, 2, 2, 0]]
    assert ops.convert_to_numpy(quantizer.spare_bits()).tolist() == [[2, 2, 2, 0]]
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


BY_PARTS = {"QLayer", "QMultiHeadAttention"}
"""Without arithmetic of their own."""


def test_every_layer_prices_its_own_arithmetic():
    for name in set(hgq.layers.__all__) - BY_PARTS:
        assert getattr(hgq.layers, name).luts is not QLayer.luts, name


LAYERS = {
    "convolution": ((4, 4, 2), lambda: hgq.layers.QConv2D(2, 3, padding="same", activation="relu")),
    "separable": ((5, 2), lambda: hgq.layers.QSeparableConv1D(2, 3)),
    "average": ((4, 4, 1), lambda: hgq.layers.QAveragePooling2D(3, 1)),
    "softmax": ((3, 4), lambda: hgq.layers.QSoftmax()),
    "layer norm": ((3, 4), lambda: hgq.layers.QLayerNormalization()),
    "batch norm": ((3,), lambda: hgq.layers.QBatchNormalization()),
    "function": ((3,), lambda: hgq.layers.QFunction("tanh")),
    "slope": ((3,), lambda: hgq.layers.QActivation("leaky_relu")),
    "gru": ((3, 2), lambda: hgq.layers.QGRU(2)),
    "embedding": ((3,), lambda: hgq.layers.QEmbedding(9, 2)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers_press_on_what_they_expect(case):
    shape, make = LAYERS[case]
    layer = make()
    layer.cost = "luts"
    x = np.random.default_rng(0).uniform(0, 4, (5, *shape)).astype(np.float32)
    layer(x, training=True)
    luts = float(layer.luts())
    layer.beta.assign(1.0)
    layer.gamma = 0.0
    layer(x, training=True)
    assert luts > 10
    assert float(sum(layer.losses)) == pytest.approx(float(layer.luts()), rel=1e-5)


def test_what_stands_between_layers_is_priced_by_the_one_behind():
    x = keras.Input((4, 4, 1))
    first = hgq.layers.QConv2D(2, 3, padding="same", use_bias=False)
    last = hgq.layers.QConv2D(1, 1, use_bias=False)
    y = last(keras.layers.MaxPooling2D(2)(keras.layers.ReLU()(first(x))))
    model = keras.Model(x, y)
    model(np.random.default_rng(0).uniform(-1, 1, (9, 4, 4, 1)).astype(np.float32), training=True)
    widths = ops.convert_to_numpy(last.input_quantizer.bits(sign=True)).ravel()  # of both channels
    # 8 results of 3 comparisons, each 6 bits wider than what is kept; a rectifier for each of the kept.
    expected = 8 * 3 * COMPARED * (widths.mean() + UNREAD) + 4 * widths.sum()
    assert widths.sum() > 2 and float(last._luts_before()) == pytest.approx(expected)
    assert float(first._luts_before()) == 0


def test_a_sequential_model_that_grew_layer_by_layer_has_the_luts_of_one_made_at_once():
    """Keras builds it anew with each layer, and so it does when it loads one."""

    def layers():
        conv = hgq.layers.QConv2D(2, 3, kernel_initializer="ones")
        pool = keras.layers.MaxPooling2D(2)
        return [keras.Input((6, 6, 1)), conv, pool, keras.layers.ReLU(), keras.layers.Flatten(), QDense(2)]

    at_once, grown = keras.Sequential(layers()), keras.Sequential()
    for layer in layers():
        grown.add(layer)
    for model in (at_once, grown):
        model(np.random.default_rng(0).uniform(0, 1, (5, 6, 6, 1)).astype(np.float32), training=True)
    before = [float(model.layers[-1]._luts_before()) for model in (at_once, grown)]
    assert before[0] == before[1] > 0


def test_attention_and_a_copy_of_it_press_on_what_they_were_told():
    layer, x = hgq.layers.QMultiHeadAttention(1, 2, cost="luts"), keras.Input((2, 3))
    model = keras.Model(x, layer(x, x))
    assert {part.cost for part in layer.parts()} == {"luts"}
    set_cost(model, "ebops")
    assert {part.cost for part in copy_model(model).layers[-1].parts()} == {"ebops"}
