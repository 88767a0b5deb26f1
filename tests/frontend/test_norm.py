"""Softmax, normalisations and activations: Keras computes what the graph does."""

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
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.report.layers import ebops
from hgq.resource import model_ebops
from hgq.training import calibrate
from hgq.verify import corner_vectors, float32_certificate, verify_engines
from tests.frontend.norm_models import DATA, LAYERS, SHAPE, model_of


def check(name: str) -> None:
    """A model, its graph, the graph's text, and their EBOPs agree."""
    model = model_of(name)
    graph = read_model(model)
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 1000)
    (golden,) = evaluate(graph, inputs).values()
    assert len(np.unique(golden.reshape(len(golden), -1), axis=0)) > 20 or "of one" in name, "it hardly depends on x"
    float64 = not float32_certificate(graph).exact32
    verify_engines(graph, inputs, {"Keras": keras_engine(model, graph, float64=float64)})
    assert str(parse(str(graph))) == str(graph)
    assert sum(ebops(graph, node) for node in graph) == model_ebops(model)


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_is_what_its_graph_computes(name: str) -> None:
    check(name)


def test_models_survive_saving(tmp_path: Path) -> None:
    model = model_of(*LAYERS)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert str(read_model(again)) == str(read_model(model))


# --- softmax ---------------------------------------------------------------------------------------------------------


def alone(*layers: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(SHAPE, name="x"), *layers])
    calibrate(model, DATA)
    return model


@pytest.mark.parametrize("axis", [-1, 1, [1, 2]], ids=str)
def test_a_softmax_with_many_bits_is_that_of_keras(axis: int | list[int]) -> None:
    fine = {name: FracQuantizer(f0=f, overflow="SAT", granularity="tensor") for name, f in (
        ("input_quantizer", 9), ("difference_quantizer", 9), ("exp_quantizer", 16), ("sum_quantizer", 11),
        ("inverse_quantizer", 16), ("output_quantizer", 16),
    )}  # fmt: skip
    y = alone(q.QSoftmax(axis, **fine, table_bits=16)).predict(DATA, verbose=0)
    assert y == pytest.approx(keras.ops.convert_to_numpy(keras.layers.Softmax(axis)(DATA)), abs=2e-3)


def test_the_steps_of_a_softmax_by_hand() -> None:
    """x = 3, 1, 3 in units: d = 0, 2, 0; exp = 1, 35/256, 1; sum = 2 3/16 at 4 bits less rounding; 1/sum = 120/256."""
    model = keras.Sequential([keras.Input((3,)), q.QSoftmax()])
    calibrate(model, np.array([[3, 1, 3], [8, 0, 0]], "float32"))
    e = np.round(np.exp(-2.0) * 256) / 256
    total = np.floor((2 + e) * 16 + 0.5) / 16
    inverse = np.floor(256 / total + 0.5) / 256
    want = np.floor(np.array([1, e, 1]) * inverse * 256 + 0.5) / 256
    assert (model.predict(np.array([[3, 1, 3]], "float32"), verbose=0)[0] == want).all()


def test_masked_elements_are_zero_and_leave_the_others_as_if_they_were_not_there() -> None:
    kept = [0, 2, 3]
    masked = keras.Sequential([keras.Input((4,)), q.QSoftmax(mask=[True, False, True, True])])
    fewer = keras.Sequential([keras.Input((3,)), q.QSoftmax()])
    x = DATA.reshape(-1, 4).copy()
    x[:, 1] = 50  # would win
    calibrate(masked, x)
    calibrate(fewer, x[:, kept])
    fewer.layers[0].input_quantizer.hi.assign(masked.layers[0].input_quantizer.hi)
    y = masked.predict(x, verbose=0)
    assert (y[:, 1] == 0).all() and (y[:, kept] == fewer.predict(x[:, kept], verbose=0)).all()


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: q.QSoftmax(0, name="s"), r"QSoftmax 's': axis=\[0\] does not fit.*not the batch axis"),
        (lambda: q.QSoftmax([1, -2], name="s"), r"QSoftmax 's': axis=\[1, -2\] does not fit.*each axis once"),
        (lambda: q.QSoftmax(1.5, name="s"), r"QSoftmax 's': axis=1.5; it must be a whole number"),
        (lambda: q.QSoftmax(mask=[1, 0, 1, 1], name="s"), "QSoftmax 's': mask holds int64.*booleans"),
        (lambda: q.QSoftmax(mask=[True, False], name="s"), r"QSoftmax 's': mask of shape \(2,\) does not fit"),
        (lambda: q.QSoftmax(exp_quantizer=None, name="s"), "QSoftmax 's': exp_quantizer=None.*a table needs both"),
        (lambda: q.QSoftmax(stable=False, input_quantizer=None, name="s"), "input_quantizer=None.*a table needs both"),
        (lambda: q.QSoftmax(activation="relu", name="s"), "QSoftmax 's': activation='relu', but it has none"),
        (lambda: q.QSoftmax(table_bits=0, name="s"), r"QSoftmax 's': table_bits=0; it must be .* in 1\.\.16"),
    ],
    ids=["batch axis", "axis twice", "axis", "mask", "shape of mask", "no exp", "no input", "activation", "table bits"],
)
def test_arguments_that_cannot_be_are_named(make, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        alone(make())


def test_a_table_that_grew_too_wide_is_named() -> None:
    wide = FracQuantizer(f0=12, overflow="SAT", granularity="tensor")
    with pytest.raises(ValueError, match=r"QSoftmax 's': the argument of its inverse_table has the type u1\df12"):
        alone(q.QSoftmax(sum_quantizer=wide, name="s"))


def coarse(signed: bool) -> WidthQuantizer:
    return WidthQuantizer(b0=6, i0=3, signed=signed, overflow="SAT", granularity="tensor")


@pytest.mark.parametrize(
    "make",
    [
        lambda: q.QSoftmax(1, beta=1e-3, difference_quantizer=coarse(False)),
        lambda: q.QLayerNormalization(beta=1e-3),
        lambda: q.QRMSNormalization(1, beta=1e-3),
        lambda: q.QBatchNormalization(beta=1e-3),
        lambda: q.QPReLU(beta=1e-2),
        lambda: q.QActivation("hard_sigmoid", beta=1e-2),
    ],
    ids=["softmax", "layer norm", "rms norm", "batch norm", "prelu", "hard sigmoid"],
)
def test_a_layer_trains_its_price_falls_and_it_freezes(make) -> None:
    keras.utils.set_random_seed(0)
    layer, x = make(), np.random.default_rng(0).normal(size=(256, *SHAPE)).astype("float32")
    model = keras.Sequential([keras.Input(SHAPE), layer, keras.layers.Flatten(), q.QDense(2)])
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    losses = model.fit(x, x[:, 0, :2], epochs=1, verbose=0).history["loss"]
    before = layer.exact_ebops(), float(layer.ebops_bar())
    first = [np.array(v.value) for v in layer.trainable_variables]
    losses += model.fit(x, x[:, 0, :2], epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert 0 < layer.exact_ebops() < before[0] and 0 < float(layer.ebops_bar()) < before[1]
    for variable, old in zip(layer.trainable_variables, first, strict=True):
        assert np.isfinite(new := np.array(variable.value)).all() and (new != old).any(), variable.path
    assert not any(table.is_frozen for table in layer.tables().values())
    calibrate(model, x)
    assert all(table.is_frozen for table in layer.tables().values())
    read_model(model)


# --- normalisations --------------------------------------------------------------------------------------------------


def fine(layer: type, *names: str, **options) -> keras.layers.Layer:
    """A layer whose every type has many bits."""
    wide = {f"{name}_quantizer": FracQuantizer(f0=11, overflow="SAT", granularity="tensor") for name in names}
    wide |= {name: FracQuantizer(f0=9, overflow="SAT", granularity="tensor") for name in ("variance_quantizer",)}
    return layer(**wide, **options, table_bits=16)


@pytest.mark.parametrize("axis", [-1, 1, [1, 2]], ids=str)
def test_a_normalisation_with_many_bits_is_that_of_keras(axis: int | list[int]) -> None:
    """Over 4, 3 and 12 elements: no 1/n is lost."""
    names = ("input", "centered", "inverse", "normalized", "gamma", "beta")
    ours = alone(fine(q.QLayerNormalization, *names, axis=axis, epsilon=0.1))
    theirs = keras.layers.LayerNormalization(axis=axis, epsilon=0.1)
    theirs.build((None, *SHAPE))
    rng = np.random.default_rng(0)
    for variable, other in ((ours.layers[0].norm_gamma, theirs.gamma), (ours.layers[0].norm_beta, theirs.beta)):
        value = rng.integers(-8, 9, variable.shape) / 8
        variable.assign(value)
        other.assign(value.reshape(other.shape))
    calibrate(ours, DATA)
    y = ours.predict(DATA, verbose=0)
    assert y == pytest.approx(keras.ops.convert_to_numpy(theirs(DATA)), abs=0.02)
    rms = alone(fine(q.QRMSNormalization, "input", "inverse", "normalized", "gamma", axis=axis, epsilon=0.1))
    want = DATA / np.sqrt((DATA**2).mean(tuple(np.atleast_1d(axis)), keepdims=True) + 0.1)  # Keras' own takes the last
    assert rms.predict(DATA, verbose=0) == pytest.approx(want, abs=0.02)


def test_batch_norm_alone_trains_as_keras_does() -> None:
    wide = {f"{name}_quantizer": FracQuantizer(f0=18) for name in ("input", "scale", "offset")}
    ours, theirs = q.QBatchNormalization(momentum=0.5, **wide), keras.layers.BatchNormalization(momentum=0.5)
    for _ in range(3):
        a, b = (keras.ops.convert_to_numpy(layer(DATA, training=True)) for layer in (ours, theirs))
        assert a == pytest.approx(b, abs=1e-3)
    for name in ("moving_mean", "moving_variance"):
        assert np.array(getattr(ours, name).value) == pytest.approx(np.array(getattr(theirs, name).value), abs=1e-5)
    a, b = (keras.ops.convert_to_numpy(layer(DATA, training=False)) for layer in (ours, theirs))
    assert a == pytest.approx(b, abs=1e-3)


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: q.QLayerNormalization(0, name="n"), r"QLayerNormalization 'n': axis=\[0\] does not fit"),
        (lambda: q.QLayerNormalization(epsilon=0, name="n"), "QLayerNormalization 'n': epsilon=0; it must be above 0"),
        (lambda: q.QLayerNormalization(centered_quantizer=None, name="n"), "'n': centered_quantizer=None.*Fix"),
        (lambda: q.QLayerNormalization(table_bits=20, name="n"), "QLayerNormalization 'n': table_bits=20"),
        (lambda: q.QLayerNormalization(activation="tanh", name="n"), "QLayerNormalization 'n': activation='tanh'"),
        (lambda: q.QRMSNormalization(center=True), "QRMSNormalization '': it has no center"),
        (lambda: q.QLayerNormalization(rms_scaling=True), "rms_scaling"),
        (lambda: q.QBatchNormalization(1, name="n"), r"QBatchNormalization 'n': axis=1 is not supported.*axis=-1"),
        (lambda: q.QBatchNormalization(momentum=2, name="n"), "QBatchNormalization 'n': momentum=2"),
        (lambda: q.QBatchNormalization(scale_quantizer=None, name="n"), "'n': scale_quantizer=None.*Fix"),
        (lambda: q.QBatchNormalization(renorm=True), "renorm"),
    ],
    ids=lambda value: None if callable(value) else value[:40],
)
def test_arguments_of_normalisations_that_cannot_be_are_named(make, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        alone(make())


# --- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name,scale", [("relu6", 4), ("hard_tanh", 1), ("leaky_relu", 1), ("hard_sigmoid", 2)])
def test_an_activation_is_that_of_keras_but_for_its_constant(name: str, scale: float) -> None:
    x = DATA * scale
    model = keras.Sequential([keras.Input(SHAPE), q.QActivation(name, input_quantizer=FracQuantizer(f0=12))])
    calibrate(model, x)
    y, want = model.predict(x, verbose=0), keras.ops.convert_to_numpy(getattr(keras.activations, name)(x))
    off = 2.0**-12 if name in ("relu6", "hard_tanh") else 2.0**-8 * float(np.abs(x).max())
    assert y == pytest.approx(want, abs=off)


def test_the_constants_of_activations_by_hand() -> None:
    """x = -2, 1/2: 205/1024 is next to 1/5 and 171/1024 to 1/6, in 8 bits."""
    x = np.array([[-2, 0.5]], "float32")
    leaky, sigmoid = q.QActivation("leaky_relu"), q.QActivation("hard_sigmoid", input_quantizer=FracQuantizer(f0=1))
    for layer in (leaky, sigmoid):
        calibrate(keras.Sequential([keras.Input((2,)), layer]), x)
    assert np.array(leaky(x)).tolist() == [[-2 * 205 / 1024, 0.5]]
    assert np.array(sigmoid(x)).tolist() == [[0.5 - 2 * 171 / 1024, 0.5 + 171 / 2048]]
    # -2 and 1/2 in halves need 3 bits and 1; 171 spans 8 bits; the 1/2 that is added is one bit wide.
    assert sigmoid.exact_ebops() == 8 * (3 + 1) + 2


def test_slopes_stay_between_0_and_1() -> None:
    keras.utils.set_random_seed(0)
    layer = q.QPReLU()
    model = keras.Sequential([keras.Input(SHAPE), layer])
    model.compile(keras.optimizers.SGD(5.0), "mse")
    model.fit(DATA, np.where(DATA < 0, 3 * DATA, DATA), epochs=2, verbose=0)
    assert np.array(layer.alpha.value).max() == 1
    calibrate(model, DATA)
    read_model(model)


REFUSED = {
    "a softmax of Keras": (lambda: keras.layers.Softmax(name="s"), ["Softmax 's'", "hgq.layers.QSoftmax"]),
    "elu": (lambda: keras.layers.ELU(name="e"), ["ELU 'e'", "hgq.layers.QFunction('elu')"]),
    "softmax as activation": (
        lambda: keras.layers.Activation("softmax", name="a"),
        ["'softmax'", "hgq.layers.QSoftmax"],
    ),
    "sigmoid": (lambda: keras.layers.Activation("sigmoid", name="a"), ["Activation 'a'", "QFunction('sigmoid')"]),
    "hard_sigmoid": (lambda: keras.layers.Activation("hard_sigmoid"), ["QActivation('hard_sigmoid')"]),
    "a normalisation of Keras": (lambda: keras.layers.LayerNormalization(name="l"), ["hgq.layers.QLayerNormalization"]),
    "a slope above 1": (
        lambda: q.QPReLU(
            alpha_quantizer=WidthQuantizer(b0=0.6, i0=2, signed=False), alpha_initializer="ones", name="p"
        ),
        ["QPReLU 'p'", "a slope is 2.0; 0 to 1 is supported"],
    ),
}


@pytest.mark.parametrize("make,facts", REFUSED.values(), ids=REFUSED)
def test_what_is_not_converted_is_named_with_its_fix(make, facts: list[str]) -> None:
    with pytest.raises(ConversionError) as error:
        read_model(alone(q.QDense(4), make()))
    problems = "\n".join(error.value.problems)
    assert all(fact in problems for fact in [*facts, "Fix:"]), problems


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: q.QActivation("gelu", name="a"), "QActivation 'a': activation='gelu' is not supported.*QFunction"),
        (
            lambda: q.QActivation("leaky_relu", input_quantizer=None, output_quantizer="default", name="a"),
            "'a': input_",
        ),
        (lambda: q.QActivation("leaky_relu", negative_slope=0, name="a"), "QActivation 'a': negative_slope=0"),
        (lambda: q.QActivation("hard_sigmoid", constant_bits=17, name="a"), "QActivation 'a': constant_bits=17"),
        (lambda: q.QDense(3, "leaky_relu", name="d"), "QDense 'd': activation='leaky_relu'.*QActivation"),
        (lambda: q.QPReLU(shared_axes=[0], name="p"), r"QPReLU 'p': shared_axes=\[0\] does not fit"),
        (lambda: q.QPReLU(alpha_quantizer=None, name="p"), "QPReLU 'p': alpha_quantizer=None"),
        (lambda: q.QPReLU(activation="relu", name="p"), "QPReLU 'p': activation='relu', but it has none"),
        (lambda: q.QFunction("tanh", activation="relu", name="f"), "QFunction 'f': activation='relu', but it has none"),
    ],
    ids=lambda value: None if callable(value) else value[:30],
)
def test_arguments_of_activations_that_cannot_be_are_named(make, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        alone(make())
