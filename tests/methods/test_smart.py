"""SQ from a float Keras model to hardware: adders and nothing else."""

import keras
import numpy as np
import pytest

import hgq
from hgq.errors import ConversionError
from hgq.frontend import read_model
from hgq.layers import QConv2D, QDense, QDenseBatchNorm
from hgq.lower import cmvm, lower
from hgq.methods import smart
from hgq.methods.fold import fold
from hgq.quantizers import BinaryTernaryQuantizer, WidthQuantizer
from hgq.training import calibrate

RNG = np.random.default_rng
X = RNG(0).uniform(-1, 1, (128, 5, 5, 2)).astype(np.float32)
Y = (X[:, 1:4, 1:4].sum((1, 2, 3)) > 0).astype(np.int64)


def float_model():
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2), name="x"),
            keras.layers.Conv2D(3, 3, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(name="relu"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(6, activation="relu", name="hidden"),
            keras.layers.Dropout(0.1, name="drop"),
            keras.layers.Dense(2, activation="softmax", name="head"),
        ]
    )
    norm = model.get_layer("norm")
    norm.moving_mean.assign([0.1, -0.2, 0.3])
    norm.moving_variance.assign([0.5, 1.5, 2.0])
    return model


@pytest.fixture(scope="module")
def result():
    """Trained for a moment; what it is good for is not the question here."""
    steps = []
    made = smart.quantize(
        float_model(), X, Y, gamma=0.2, keep=["first"], epochs=3, batch=32, drop_softmax=True, progress=steps.append
    )
    assert len(steps) == 3 and steps[2].startswith("depths and weights: epoch 3 of 3, loss ")
    return made


def test_the_quantised_model_starts_from_the_folded_weights():
    folded = fold(float_model(), drop_softmax=True)
    made = smart.build(folded, keep=["last"])
    for name, cls in (("conv", QConv2D), ("hidden", QDense), ("head", QDense)):
        assert type(made.get_layer(name)) is cls
        for before, after in zip(folded.get_layer(name).weights, made.get_layer(name).weights[:2], strict=True):
            assert (np.asarray(before) == np.asarray(after)).all()
    kinds = [type(made.get_layer(name).kernel_quantizer) for name in ("conv", "hidden", "head")]
    assert kinds == [BinaryTernaryQuantizer, BinaryTernaryQuantizer, WidthQuantizer]
    mean = np.abs(np.asarray(folded.get_layer("conv").kernel)).mean()
    assert float(np.asarray(made.get_layer("conv").kernel_quantizer.log2_mu).item()) == np.round(np.log2(2 * mean))


def test_the_result_says_what_was_decided(result):
    rows = result.details["depths"]
    assert [row.layer for row in rows] == ["hidden", "head"]
    text = result.summary()
    for row in rows:
        assert row.memory_bits == row.weights * (1 if row.depth == "binary" else 2)
        assert (row.zeros == 0) or row.depth == "ternary"
        assert f"{row.layer}: {row.depth}, {row.zeros:.0%} zeros, {row.memory_bits:,} bits" in text


def test_hardening_keeps_what_inference_computes_and_holds_the_weights():
    keras.utils.set_random_seed(3)
    weights = [BinaryTernaryQuantizer(depth=depth) for depth in ("binary", "ternary")]
    model = keras.Sequential([keras.Input((4,)), *[QDense(5, kernel_quantizer=one) for one in weights]])
    x = RNG(1).normal(size=(50, 4)).astype(np.float32)
    calibrate(model, x)
    before = np.asarray(model(x))
    rows = smart.harden(model)
    assert (np.asarray(model(x)) == before).all()
    assert [(row.depth, row.weights, row.memory_bits) for row in rows] == [("binary", 20, 20), ("ternary", 25, 50)]
    for layer in model.layers:
        assert (np.asarray(layer.kernel) == layer.constants()["kernel"][0]).all()
        assert {v.name for v in layer.trainable_variables} & {"kernel", "bias", "beta"} == {"bias"}


@pytest.mark.parametrize("depth", ["binary", "ternary"])
def test_the_netlist_has_one_digit_for_a_weight_and_no_multiplier(depth):
    keras.utils.set_random_seed(1)
    weights = BinaryTernaryQuantizer(depth=depth)
    given = keras.Input((12,))
    hidden = QDense(7, "relu", kernel_quantizer=weights, use_bias=False)(given)
    model = keras.Model(given, [QDense(1, kernel_quantizer=weights, use_bias=False)(hidden)])
    calibrate(model, RNG(1).normal(size=(500, 12)).astype(np.float32))
    with cmvm.using(cmvm.Options(effort=0)):  # a tree for each output, without a search
        design = lower(read_model(model), "top")
    kernels = [np.asarray(layer.constants()["kernel"][0]) for layer in model.layers[1:]]
    # A sum of n terms takes n - 1 adders, and one to turn it around where all are negative.
    adders = [int((k != 0).sum() - (k != 0).any(0).sum() + ((k < 0).any(0) & ~(k > 0).any(0)).sum()) for k in kernels]
    assert adders == [7 * 11, 6] if depth == "binary" else adders[0] < 7 * 11
    counts = [sum(node.op in ("add", "sub") for node in module.nodes) for module in design.modules.values()]
    assert design.count("mul") == 0
    assert len(counts) == 2 and counts[1] == adders[1]
    assert 0 < counts[0] <= adders[0] + 7  # one rounds each output; fewer where outputs have sums in common


@pytest.mark.rtl
@pytest.mark.hls
def test_it_converts_exactly(result, tmp_path):
    result.model.save(tmp_path / "smart.keras")
    model = hgq.load(tmp_path / "smart.keras")
    assert smart.depths(model) == result.details["depths"]
    project = hgq.convert(model, tmp_path / "project", calibrate=X, verify=X[64:], corners=500)
    assert (project.predict(X) == np.asarray(model(X))).all()
    assert {e["differences"] for e in project.report["verification"]["engines"].values()} == {0}


def test_a_float_scale_is_refused_with_the_layer_and_the_fix(tmp_path):
    keras.utils.set_random_seed(1)
    paper = BinaryTernaryQuantizer(scale="float")
    model = keras.Sequential([keras.Input((3,)), QDense(2, kernel_quantizer=paper, name="pair")])
    calibrate(model, RNG(1).normal(size=(50, 3)).astype(np.float32))
    with pytest.raises(ConversionError, match=r"QDense 'pair'.*scale='float'[\s\S]*Fix: train with scale='fixed'"):
        hgq.convert(model, tmp_path / "project", verify=False)


def test_a_folded_normalisation_is_not_held():
    model = keras.Sequential([keras.Input((3,)), QDenseBatchNorm(2, kernel_quantizer=BinaryTernaryQuantizer())])
    with pytest.raises(ValueError, match="folded normalisation"):
        smart.harden(model)


def test_what_cannot_be_is_refused_by_name():
    with pytest.raises(ValueError, match=r"keep='no_layer'.*conv, hidden, head"):
        smart.build(fold(float_model(), drop_softmax=True), keep=["no_layer"])
    with pytest.raises(ConversionError, match="softmax"):
        smart.quantize(float_model(), X, Y)
    alone = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2)])
    with pytest.raises(ConversionError, match=r"'norm'.*follows no layer"):
        smart.quantize(alone, X[:, 0, 0, :1].repeat(3, 1), Y)
