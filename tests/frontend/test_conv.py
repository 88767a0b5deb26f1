"""Convolutions and poolings: Keras computes what its graph does, models survive saving, options are refused by name."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from hgq import layers as q
from hgq.errors import ConversionError
from hgq.frontend import read_model
from hgq.frontend.predict import keras_engine
from hgq.ir import evaluate, parse
from hgq.report.layers import ebops
from hgq.resource import model_ebops
from hgq.verify import corner_vectors, float32_certificate, verify_engines
from tests.frontend.conv_models import MODELS, net


def check(make) -> None:
    """A model, its graph, the graph's text, and their EBOPs agree."""
    model = make()
    graph = read_model(model)
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 1000)
    (golden,) = evaluate(graph, inputs).values()
    assert len(np.unique(golden.reshape(1000, -1), axis=0)) > 100, "the model hardly depends on its input"
    float64 = not float32_certificate(graph).exact32
    verify_engines(graph, inputs, {"Keras": keras_engine(model, graph, float64=float64)})
    assert str(parse(str(graph))) == str(graph)
    assert sum(ebops(graph, node) for node in graph) == model_ebops(model)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_is_what_its_graph_computes(make) -> None:
    check(make)


def test_models_survive_saving(tmp_path: Path) -> None:
    for name in ("conv2d batch norm", "separable 1d", "transpose 2d valid", "average 3 x 3", "conv1d causal"):
        model = MODELS[name]()
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        assert str(read_model(again)) == str(read_model(model)), name


def test_training_changes_widths_and_price_falls() -> None:
    keras.utils.set_random_seed(0)
    layers = [q.QConv2DBatchNorm(3, 3, activation="relu", beta=1e-2), q.QSeparableConv2D(2, 2), q.QAveragePooling2D(2)]
    model = keras.Sequential([keras.Input((7, 7, 2)), *layers, keras.layers.Flatten(), q.QDense(2)])
    x = np.random.default_rng(0).normal(size=(256, 7, 7, 2)).astype("float32")
    y = x.mean((1, 2))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, epochs=1, verbose=0)
    before = model_ebops(model)
    bars = [float(layer.ebops_bar()) for layer in layers]
    model.fit(x, y, epochs=6, verbose=0)
    assert model_ebops(model) < before
    assert float(layers[0].ebops_bar()) < bars[0] and bars[1] > 0


def test_the_estimate_counts_what_is_not_padding() -> None:
    """All widths 4 (3 bits and sign), all weights of 3 bits: what the estimate gives by hand."""
    from hgq.quantizers import FracQuantizer, WidthQuantizer

    layer = q.QConv1D(
        2,
        3,
        padding="same",
        use_bias=False,
        input_quantizer=FracQuantizer(granularity="tensor", f0=0),
        kernel_quantizer=WidthQuantizer(b0=3),
    )
    model = keras.Sequential([keras.Input((4, 1)), layer])
    layer.input_quantizer.lo.assign(np.full(layer.input_quantizer.lo.shape, -8.0))
    layer.input_quantizer.hi.assign(np.full(layer.input_quantizer.hi.shape, 7.0))
    taps = 2 + 3 + 3 + 2  # of four positions
    assert float(layer.ebops_bar()) == taps * 2 * 4 * 3
    layer.kernel.assign(np.full((3, 1, 2), 0.625))  # 5/8: all three bits
    assert layer.exact_ebops() == model_ebops(model) == taps * 2 * 4 * 3


BAD_ARGUMENTS = {
    "data format": (lambda: q.QConv2D(2, 3, data_format="channels_first"), "data_format='channels_first'.*Fix"),
    "padding": (lambda: q.QConv2D(2, 3, padding="causal"), "padding='causal'.*valid, same"),
    "strides and dilation": (lambda: q.QConv1D(2, 3, 2, dilation_rate=2), r"strides=\(2,\).*dilation_rate=\(2,\).*Fix"),
    "kernel size": (lambda: q.QConv2D(2, 0), "kernel_size|number above 0"),
    "three sizes": (lambda: q.QConv2D(2, (1, 2, 3)), r"kernel_size=\(1, 2, 3\)"),
    "depthwise strides": (lambda: q.QDepthwiseConv2D(2, (1, 2)), r"strides=\(1, 2\).*Fix"),
    "transpose dilation": (lambda: q.QConv2DTranspose(2, 3, dilation_rate=2), r"dilation_rate=\(2, 2\).*Fix"),
    "transpose groups": (lambda: q.QConv1DTranspose(2, 3, groups=2), "groups=2.*Fix"),
    "output padding": (lambda: q.QConv2DTranspose(2, 3, output_padding=1), "output_padding=1.*Fix"),
    "pool padding": (lambda: q.QAveragePooling2D(2, padding="full"), "padding='full'.*valid, same"),
    "pool data format": (lambda: q.QAveragePooling2D(2, data_format="channels_first"), "data_format.*Fix"),
    "constant bits": (lambda: q.QAveragePooling2D(3, constant_bits=0), "constant_bits=0"),
    "no input quantizer": (lambda: q.QAveragePooling1D(2, input_quantizer=None), "input_quantizer=None.*Fix"),
    "no kernel quantizer": (lambda: q.QConv1D(2, 2, kernel_quantizer=None), "kernel_quantizer=None.*Fix"),
    "fold without bias": (lambda: q.QConv1DBatchNorm(2, 2, use_bias=False), "use_bias=False.*QConv1D"),
    "groups": (lambda: q.QConv2D(3, 1, groups=2)(keras.Input((4, 4, 4))), "groups=2 must divide"),
    "no groups": (lambda: q.QConv2D(2, 3, groups=0), "groups=0.*above 0"),
    "no filters": (lambda: q.QConv2D(0, 3), "filters=0.*above 0"),
    "no strides": (lambda: q.QConv2D(2, 3, strides=0), "strides=0.*above 0"),
    "no dilation": (lambda: q.QConv2D(2, 3, dilation_rate=0), "dilation_rate=0.*above 0"),
    "activation": (lambda: q.QConv2D(2, 3, activation="gelu"), "activation='gelu'.*linear, relu"),
    "regularizer": (lambda: q.QConv2D(2, 3, kernel_regularizer="l2"), "kernel_regularizer"),
    "constraint": (lambda: q.QConv2D(2, 3, kernel_constraint="unit_norm"), "kernel_constraint"),
    "no multiplier": (lambda: q.QDepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier=0.*above 0"),
    "separable multiplier": (lambda: q.QSeparableConv2D(3, 3, depth_multiplier=0), "depth_multiplier=0.*above 0"),
    "separable padding": (lambda: q.QSeparableConv2D(2, 3, padding="causal"), "padding='causal'.*valid, same"),
    "depthwise data format": (lambda: q.QDepthwiseConv2D(3, data_format="channels_first"), "data_format.*Fix"),
    "depthwise strides and dilation": (
        lambda: q.QDepthwiseConv2D(3, strides=2, dilation_rate=2),
        r"strides=\(2, 2\).*dilation_rate=\(2, 2\).*Fix",
    ),
    "transpose padding": (lambda: q.QConv1DTranspose(2, 3, padding="causal"), "padding='causal'.*valid, same"),
    "transpose data format": (lambda: q.QConv2DTranspose(2, 3, data_format="channels_first"), "data_format.*Fix"),
    "pool size": (lambda: q.QAveragePooling2D(0), "pool_size=0.*above 0"),
    "pool strides": (lambda: q.QAveragePooling2D(2, strides=0), "strides=0.*above 0"),
    "global pool data format": (lambda: q.QGlobalAveragePooling2D(data_format="channels_first"), "data_format.*Fix"),
    "too large": (lambda: q.QConv1D(3, 5)(keras.Input((4, 1))), r"kernel_size=\(5,\) does not fit"),
    "unknown size": (lambda: q.QConv1D(3, 2)(keras.Input((None, 1))), "hardware needs every size.*Fix"),
}


@pytest.mark.parametrize("make,message", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_arguments_without_a_meaning_in_hardware_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


pooling = keras.layers
REFUSED = {
    "a mean of 9": (lambda: pooling.AveragePooling2D(3), ["AveragePooling2D 'p'", "9 elements", "QAveragePooling2D"]),
    "a mean at borders": (
        lambda: pooling.AveragePooling2D(2, padding="same"),
        ["AveragePooling2D 'p'", "2 or 4", "'same'", "QAveragePooling2D"],
    ),
    "a mean of all": (lambda: pooling.GlobalAveragePooling2D(), ["GlobalAveragePooling2D 'p'", "49", "QGlobalAverage"]),
    "channels first, largest of all": (
        lambda: pooling.GlobalMaxPooling2D(data_format="channels_first"),
        ["GlobalMaxPooling2D 'p'", "data_format='channels_first'", "channels_last"],
    ),
    "channels first, mean": (
        lambda: pooling.AveragePooling2D(2, data_format="channels_first"),
        ["AveragePooling2D 'p'", "data_format='channels_first'", "channels_last"],
    ),
    "channels first, mean of all": (
        lambda: pooling.GlobalAveragePooling2D(data_format="channels_first"),
        ["GlobalAveragePooling2D 'p'", "data_format='channels_first'", "channels_last"],
    ),
    "bilinear": (
        lambda: pooling.UpSampling2D(2, interpolation="bilinear"),
        ["UpSampling2D 'p'", "interpolation='bilinear'", "nearest"],
    ),
    "channels first": (
        lambda: pooling.MaxPooling2D(2, data_format="channels_first"),
        ["MaxPooling2D 'p'", "data_format='channels_first'", "channels_last"],
    ),
    "a float convolution": (lambda: pooling.Conv2D(2, 3), ["Conv2D 'p'", "not supported", "hgq.layers.QConv2D"]),
}


@pytest.mark.parametrize("make,facts", REFUSED.values(), ids=REFUSED)
def test_layers_without_an_exact_meaning_are_refused_with_what_to_use(make, facts: list[str]) -> None:
    layer = make()
    layer.name = "p"
    with pytest.raises(ConversionError) as error:
        read_model(net((7, 7, 2), q.QConv2D(2, 1), layer))
    assert all(fact in str(error.value) for fact in facts), error.value


def test_the_largest_element_ignores_padding_even_where_all_are_negative() -> None:
    model = net((5, 1), q.QConv1D(1, 1, use_bias=True), keras.layers.MaxPooling1D(2, padding="same"))
    model.layers[0].bias.assign([-9.0])
    model.layers[0].bias_quantizer.b.assign([6])
    model.layers[0].bias_quantizer.i.assign([5])
    graph = read_model(model)
    inputs = corner_vectors({"x": graph["x"].types}, 300)
    verify_engines(graph, inputs, {"Keras": keras_engine(model, graph)})
    assert (next(iter(evaluate(graph, inputs).values())) < 0).any()


@pytest.mark.parametrize(
    "move,before",
    {
        "cropping": (lambda: keras.layers.Cropping2D(1), True),
        "upsampling": (lambda: keras.layers.UpSampling2D(2), True),
        "zeros have widths in training": (lambda: keras.layers.ZeroPadding2D(1), False),
        "channels become positions": (lambda: keras.layers.Permute((1, 3, 2)), False),
    }.values(),
    ids=["cropping", "upsampling", "zeros have widths in training", "channels become positions"],
)
def test_a_quantizer_stands_before_what_only_moves_positions(move, before: bool) -> None:
    """There it shares the modules of the convolution that it follows."""

    def make() -> keras.Model:
        return net((6, 6, 2), q.QConv2D(3, 2, activation="relu", name="first"), move(), q.QConv2D(2, 2, name="second"))

    check(make)
    ops = [node.op for node in read_model(make()) if node.origin != "x"]
    assert ops == ["conv", "relu", *(("quantize", "take") if before else ("take", "quantize")), "conv"]
