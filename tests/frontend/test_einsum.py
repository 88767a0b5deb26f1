"""Einsums, embeddings, attention: Keras computes what its graph does, and what is not supported is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from hgq import layers as q
from hgq.frontend import read_model
from hgq.frontend.predict import keras_engine
from hgq.ir import evaluate, parse
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.report.layers import ebops
from hgq.resource import model_ebops
from hgq.verify import corner_vectors, float32_certificate, verify_engines
from tests.frontend.einsum_models import DATA, MODELS, of
from tests.frontend.test_model import refused

L = keras.layers


def check(make: Callable[[], keras.Model]) -> None:
    """A model, its graph, the graph's text, and their EBOPs agree."""
    model = make()
    graph = read_model(model)
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 1000)
    for values in evaluate(graph, inputs).values():
        assert len(np.unique(values.reshape(1000, -1), axis=0)) > 30, "an output hardly depends on the input"
    float64 = not float32_certificate(graph).exact32
    verify_engines(graph, inputs, {"Keras": keras_engine(model, graph, float64=float64)})
    assert str(parse(str(graph))) == str(graph)
    assert sum(ebops(graph, node) for node in graph) == model_ebops(model)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_is_what_its_graph_computes(make: Callable[[], keras.Model]) -> None:
    check(make)


def test_models_survive_saving(tmp_path: Path) -> None:
    for name in ("dense", "folded", "products", "embeddings", "attentions"):
        model = MODELS[name]()
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        assert str(read_model(again)) == str(read_model(model)), name


WIDE = {
    "input_quantizer": FracQuantizer(f0=20),
    "kernel_quantizer": WidthQuantizer(b0=22, i0=2),
    "bias_quantizer": WidthQuantizer(b0=22, i0=2),
}


@pytest.mark.parametrize("equation,shape,axes", [("abc,cd->abd", (4, 4), "bd"), ("abc,bcd->adb", (3, 4), "d"),
                                                 ("...x,xyz->...yz", (2, 2), "z")])  # fmt: skip
def test_einsum_dense_is_keras_einsum_dense(equation: str, shape: tuple, axes: str) -> None:
    """With so many bits that hardly anything is rounded; biases have the shape that Keras gives them."""
    x = DATA["x"]
    plain = L.EinsumDense(equation, shape, bias_axes=axes, bias_initializer="random_normal")
    layer = q.QEinsumDense(equation, shape, bias_axes=axes, **WIDE)
    want = plain(x)
    layer(x, training=True)
    layer.kernel.assign(plain.kernel)
    layer.bias.assign(plain.bias)
    assert np.allclose(layer(x, training=True), want, atol=1e-4) and layer.compute_output_shape(x.shape) == want.shape


@pytest.mark.parametrize("key_dim", [2, 3, 8])  # 1: Keras on TensorFlow adds the (heads, 1) biases wrongly
def test_attention_is_keras_attention_with_the_same_weights(key_dim: int) -> None:
    """What peers get wrong: query, key and value differ, key_dim and value_dim differ, one head or two."""
    x, y = DATA["x"], DATA["y"]
    z = np.concatenate([y, y[..., :1]], axis=2)
    heads = 1 if key_dim == 3 else 2
    plain = L.MultiHeadAttention(heads, key_dim, value_dim=3, output_shape=5)
    fine = FracQuantizer(f0=18)
    bounded = WidthQuantizer(b0=20, i0=4, signed=False, overflow="SAT")
    names = ("difference_quantizer", "exp_quantizer", "sum_quantizer", "inverse_quantizer")
    softmax = {"input_quantizer": fine} | dict.fromkeys(names, bounded)
    layer = q.QMultiHeadAttention(
        heads, key_dim, value_dim=3, output_shape=5, softmax=softmax, head_quantizer=fine, weight_quantizer=fine, **WIDE
    )
    want = plain(x, y, z)
    layer(x, y, z, training=True)
    for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
        for weight in ("kernel", "bias"):
            variable = getattr(getattr(plain, name), weight)
            variable.assign(np.random.default_rng(len(name)).normal(size=variable.shape) * 0.5)
            getattr(getattr(layer, name), weight).assign(variable)
    want = plain(x, y, z)
    assert np.allclose(layer(x, y, z, training=True), want, atol=2e-3)
    assert np.std(np.asarray(want)) > 0.05


def test_dot_is_keras_dot() -> None:
    for axes, shapes in ((2, "xy"), ((1, 2), "yz"), ((-1, -2), "yz"), ((1, 1), "yy"), (-1, "xx")):
        a, b = (DATA[name] for name in shapes)
        if axes == (1, 2):
            a = a[:, :, :]
            b = b[:, :, :2]
        wide = {name: FracQuantizer(f0=20) for name in ("left_quantizer", "right_quantizer")}
        if axes == (-1, -2):
            a = a[..., :3]
        want = L.Dot(axes)([a, b])
        assert np.allclose(q.QDot(axes, **wide)([a, b], training=True), want, rtol=1e-4, atol=1e-4), axes


def test_attention_trains_and_its_price_falls() -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4, 3)).astype("float32")
    inputs = keras.Input((4, 3))
    h = q.QActivation(output_quantizer=FracQuantizer(f0=4), input_quantizer=None)(inputs)
    layer = q.QMultiHeadAttention(2, 4, beta=3e-3)
    model = keras.Model(inputs, q.QDense(1)(L.Flatten()(layer(h, h))))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    y = x[:, 0, :1] * x[:, 1, 1:2]
    model.fit(x, y, epochs=1, verbose=0)
    before, bar = model_ebops(model), float(sum(part.ebops_bar() for part in layer.parts()))
    history = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(history).all() and all(np.isfinite(np.asarray(v)).all() for v in model.trainable_variables)
    assert model_ebops(model) < before
    assert float(sum(part.ebops_bar() for part in layer.parts())) < bar


def test_the_estimate_of_a_product_of_tensors_by_hand() -> None:
    """Widths of 4 and 3 bits: each of 2 x 3 x 5 products costs 12."""
    wide = WidthQuantizer(b0=3, granularity="tensor"), WidthQuantizer(b0=2, granularity="tensor")
    layer = q.QEinsum("bij,bjk->bik", left_quantizer=wide[0], right_quantizer=wide[1])
    layer.build([(None, 2, 3), (None, 3, 5)])
    assert float(layer.ebops_bar()) == layer.exact_ebops() == 2 * 3 * 5 * 4 * 3


x43 = (None, 4, 3)
BAD_ARGUMENTS = {
    "use_bias": (lambda: q.QEinsumDense("ab,bc->ac", 3, use_bias=True), "use_bias.*bias_axes"),
    "no equation": (lambda: q.QEinsumDense("ab->ab", 3).build((None, 4)), "'ab->ab' has not the form"),
    "batch in the kernel": (lambda: q.QEinsumDense("abc,ac->ab", 4).build(x43), "batch axis.*Fix"),
    "batch summed": (lambda: q.QEinsumDense("abc,cd->bd", (4, 2)).build(x43), "batch axis.*Fix"),
    "too few sizes": (lambda: q.QEinsumDense("abc,cd->abd", 2).build(x43), r"output_shape=\(2,\).*2 output axes"),
    "a size that differs": (lambda: q.QEinsumDense("abc,cd->abd", (5, 2)).build(x43), r"\(5, 2\).*4 along 'b'"),
    "an open size": (lambda: q.QEinsumDense("abc,cd->abd", (None, None)).build(x43), "leaves the axis 'd' of .* open"),
    "a kernel's own axis": (lambda: q.QEinsumDense("abc,cde->abd", (None, 2)).build(x43), "size of the kernel's 'e'"),
    "rank": (lambda: q.QEinsumDense("ab,bc->ac", 2).build(x43), "rank 3"),
    "bias axes": (lambda: q.QEinsumDense("abc,cd->abd", (4, 2), bias_axes="c").build(x43), "bias_axes='c'"),
    "bias of the batch": (lambda: q.QEinsumDense("abc,cd->abd", (4, 2), bias_axes="a").build(x43), "bias_axes='a'"),
    "unknown size": (lambda: q.QEinsumDense("abc,cd->abd", (None, 2)).build((None, None, 3)), "every size.*Fix"),
    "folded bias axes": (
        lambda: q.QEinsumDenseBatchNorm("abc,cd->abd", (None, 2), bias_axes="bd"),
        "bias_axes='bd'.*last axis 'd'.*Fix",
    ),
    "folded into the input": (
        lambda: q.QEinsumDenseBatchNorm("abc,bd->adc", (2, None)).build(x43),
        "last axis.*not in the kernel.*Fix",
    ),
    "einsum of the batch": (lambda: q.QEinsum("ab,ac->bc").build([(None, 2), (None, 3)]), "batch axis.*Fix"),
    "einsum without axes": (lambda: q.QEinsum("ab,ab->a").build([(None, 2), (None, 2)]), "no axis but the batch.*QDot"),
    "einsum sizes": (lambda: q.QEinsum("abc,acd->abd").build([x43, x43]), "joins axes of 3 and 4"),
    "einsum of one": (lambda: q.QEinsum("abc,acd->abd").build([x43]), "list of two tensors"),
    "einsum quantizer": (lambda: q.QEinsum("abc,acd->abd", left_quantizer=None), "left_quantizer=None.*Fix"),
    "einsum input quantizer": (lambda: q.QEinsum("abc,acd->abd", input_quantizer=FracQuantizer()), "two inputs.*Fix"),
    "dot normalize": (lambda: q.QDot(1, normalize=True), "normalize=True.*Fix"),
    "dot axes": (lambda: q.QDot((0, 1)), r"axes=\(0, 1\).*batch"),
    "dot rank": (lambda: q.QDot(3).build([x43, x43]), r"axes=\(3, 3\)"),
    "mask_zero": (lambda: q.QEmbedding(3, 2, mask_zero=True), "mask_zero=True.*Fix"),
    "input_dim": (lambda: q.QEmbedding(0, 2), "input_dim=0"),
    "too many vectors": (lambda: q.QEmbedding(70000, 2), "input_dim=70000.*65536"),
    "no embeddings quantizer": (lambda: q.QEmbedding(3, 2, embeddings_quantizer=None), "embeddings_quant.*Fix"),
    "index quantizer": (lambda: q.QEmbedding(3, 2, input_quantizer=FracQuantizer()), "no input_quantizer.*Fix"),
    "attention axes": (lambda: q.QMultiHeadAttention(1, 2, attention_axes=(1,)), r"attention_axes=\(1,\).*Fix"),
    "gate": (lambda: q.QMultiHeadAttention(1, 2, use_gate=True), "use_gate=True.*Fix"),
    "window": (lambda: q.QMultiHeadAttention(1, 2, sliding_window=3), "sliding_window=3.*Fix"),
    "heads": (lambda: q.QMultiHeadAttention(0, 2), "num_heads=0"),
    "mask": (lambda: q.QMultiHeadAttention(1, 2, mask="local"), "mask='local'.*'causal'"),
    "mask of numbers": (lambda: q.QMultiHeadAttention(1, 2, mask=np.ones((4, 4))).build(x43, x43), "float64.*booleans"),
    "images": (lambda: q.QMultiHeadAttention(1, 2).build((None, 2, 2, 3), (None, 2, 2, 3)), "tokens, features.*Fix"),
    "values": (lambda: q.QMultiHeadAttention(1, 2).build(x43, x43, (None, 5, 3)), "5 keys, but 4 values.*Fix"),
}  # fmt: skip


@pytest.mark.parametrize("make,message", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_arguments_without_a_meaning_in_hardware_are_refused(make: Callable, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
        make()


REFUSED = {
    "a float einsum": (
        of(lambda x: L.EinsumDense("abc,cd->abd", (None, 2), name="e")(x), "x"),
        ["EinsumDense 'e'", "QEinsumDense"],
    ),
    "float attention": (
        of(lambda x: L.MultiHeadAttention(1, 2, name="m")(x, x), "x"),
        ["MultiHeadAttention 'm'", "QMultiHeadAttention"],
    ),
    "a float embedding": (
        of(lambda x: L.Embedding(99, 2, name="e")(L.ReLU()(x)), "x"),
        ["Embedding 'e'", "QEmbedding"],
    ),
    "normalize": (
        of(lambda x: L.Dot(2, normalize=True, name="d")([x, x]), "x"), ["Dot 'd'", "normalize=True"]
    ),
    "a product of accumulators": (
        of(lambda x: L.Dot(2, name="d")([q.QDense(3)(x), q.QDense(3)(x)]), "x"),
        ["Dot 'd'", "no quantizer has narrowed", "QActivation"],
    ),
    "three operands": (of(lambda x: ops.einsum("abc,abd,abe->acd", x, x, x), "x"), ["of 3 tensors", "in steps"]),
    "a constant operand": (
        of(lambda x: ops.matmul(x, np.ones((1, 3, 2), "float32")), "x"),
        ["Matmul", "operand is a constant", "QEinsumDense"],
    ),
    "a mixed batch": (of(lambda x: ops.einsum("abc,dbc->ad", x, x), "x"), ["Einsum", "batch axis"]),
    "matrices of several shapes": (
        of(lambda y, z: ops.matmul(L.Reshape((1, 2, 3))(y), z), "y", "z"),
        ["Matmul", "einsum"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("make,facts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_named_with_its_fix(make: Callable[[], keras.Model], facts: list[str]) -> None:
    problems = "\n".join(refused(make()))
    assert all(fact in problems for fact in facts), problems
    assert "Fix:" in problems


def plain_products() -> keras.Model:
    """Keras' own products, of moved and rectified tensors; one layer feeds several."""
    inputs = keras.Input((4, 3), name="x")
    front = q.QActivation(output_quantizer=FracQuantizer(f0=3), input_quantizer=None, name="front")(inputs)
    h = q.QDense(3, activation="relu", output_quantizer=FracQuantizer(f0=2), name="h")(front)
    return keras.Model(inputs, [
        L.Multiply()([L.ReLU()(front), h]), h * ops.flip(h, axis=1), ops.square(front), L.Dot(2)([front, h]),
        ops.einsum("bij,bkj->bik", h, front[:, 1:]), ops.matmul(ops.transpose(front, (0, 2, 1)), h), h * 0.5,
    ])  # fmt: skip


def test_products_by_keras_have_the_price_that_the_report_says() -> None:
    model = plain_products()
    model(DATA["x"], training=True)
    graph = read_model(model)
    products = sum(ebops(graph, node) for node in graph if node.op in ("mul", "matmul"))
    front, h = model.get_layer("front"), model.get_layer("h")
    assert front.product_ebops() + h.product_ebops() == products > 500
    assert model_ebops(model) == sum(ebops(graph, node) for node in graph)


def test_products_by_keras_are_in_the_loss() -> None:
    """Only the price moves the widths here."""
    from hgq.layers.price import products_price, trained

    model = plain_products()
    model(DATA["x"], training=True)
    front = model.get_layer("front")
    front.beta.assign(1e-2)
    front.gamma = 0.0
    model(DATA["x"], training=True)
    bar = float(products_price(front, trained))
    assert bar >= front.product_ebops() > 0
    (loss,) = front.losses
    assert np.isclose(float(loss), 1e-2 * bar)
    before = ops.convert_to_numpy(front.output_quantizer.f)
    model.compile(keras.optimizers.SGD(1e-1), loss=[lambda y, p: 0.0 * ops.sum(p)] * 7)
    model.fit(DATA["x"], [np.zeros((300, 1), "float32")] * 7, epochs=1, batch_size=300, verbose=0)
    after = ops.convert_to_numpy(front.output_quantizer.f)
    assert (after[1:] < before[1:]).all(), "the first row is small and has no bits"
