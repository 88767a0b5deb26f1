"""MRECG as a whole: what is learned, what comes out, and what other methods do with it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from hgq.errors import ConversionError
from hgq.fixed import FixedType
from hgq.frontend import read_model
from hgq.frontend.predict import keras_engine
from hgq.methods import mrecg, rex
from hgq.methods.mrecg import Reconstruction, Settings, reconstruct, uniform
from hgq.methods.mrecg.reconstruction import Twin
from hgq.methods.mrecg.start import starts
from hgq.methods.network import build, fold, kernel_value, weighted
from hgq.methods.policy import Bits, load_policy, save_policy
from hgq.methods.result import Result
from hgq.verify import corner_vectors, float32_certificate, verify_engines

L = keras.layers
FEW = Settings("brecq", joined=0, steps=60, batch=32, rate=0.1)


def small() -> keras.Model:
    """A dense layer, a residual block of two, and a head."""
    keras.utils.set_random_seed(3)
    x = given = keras.Input((8,), name="features")
    x = before = L.Dense(12, activation="relu", name="first")(x)
    x = L.Dense(24, activation="relu", name="wide")(x)
    x = L.Add(name="add")([before, L.Dense(12, name="narrow")(x)])
    return keras.Model(given, L.Dense(4, name="scores")(L.ReLU(name="relu")(x)), name="small")


@pytest.fixture(scope="module")
def folded() -> keras.Model:
    return fold(small())


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(128, 3)) @ rng.normal(size=(3, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def widths(folded) -> dict[str, Bits]:
    return uniform(folded, 3, 6, ends=None)


@pytest.fixture(scope="module")
def base(folded, data, widths) -> tuple[Twin, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """BRECQ alone: the twin for other tests to use again, its log, its kernels."""
    found = reconstruct(folded, data, widths, FEW)
    return found.twin, found.losses.before, found.losses.after, kernels(found)


@pytest.fixture(scope="module")
def result(data) -> Result:
    return mrecg.quantize(small(), data, bits=3, ends=None, settings=Settings(joined=1, steps=40, rate=0.1))


def kernels(found: Reconstruction) -> dict[str, np.ndarray]:
    return {name: layer.kernel() for name, layer in found.twin.layers.items()}


# --- what is learned ------------------------------------------------------------------------------------------------


def test_every_unit_ends_closer_to_the_float_network_than_by_rounding_to_nearest(base) -> None:
    _, before, after, _ = base
    assert len(after) == 3 and (after < before).all()
    assert after[-1] < 0.7 * before[-1]


def test_every_weight_is_rounded_down_or_up_and_some_not_to_the_nearest(base, folded, data, widths) -> None:
    begun, other = starts(folded, data, widths, floats=False), 0
    for layer in weighted(folded):
        grid, w = begun[layer.name].weights, base[3][layer.name]
        scaled = kernel_value(layer).astype(np.float64) / grid.step
        floor, ceiling = (np.clip(np.floor(scaled) + up, grid.lo, grid.hi) * grid.step for up in (0, 1))
        assert ((w == floor) | (w == ceiling)).all()
        other += (w != grid.nearest(kernel_value(layer))).sum()
    assert other > 0


def test_the_losses_of_the_base_are_the_capacities_and_all_is_repeatable(base, folded, data, widths) -> None:
    twin, _, after, rounded = base
    settings = Settings("brecq", joined=1, capacity="losses", steps=FEW.steps, rate=FEW.rate)
    found = reconstruct(folded, data, widths, settings, twin=twin)
    assert np.array_equal(found.capacities, after)
    jump = int(np.argmax(np.diff(after) ** 2))
    assert found.groups == [[[0, 1], [2]], [[0], [1, 2]]][jump]
    again = reconstruct(folded, data, widths, FEW, twin=twin)
    assert all(np.array_equal(rounded[name], one) for name, one in kernels(again).items())
    assert np.array_equal(again.losses.after, after)


def test_units_together_take_as_many_steps_as_alone(folded, data, widths, base) -> None:
    settings = Settings("brecq", joined=1, steps=FEW.steps, rate=FEW.rate)
    found = reconstruct(folded, data, widths, settings, twin=base[0])
    taken = {name: float(ops.convert_to_numpy(layer.fixed["step"])) for name, layer in found.twin.layers.items()}
    units = {layer.name: len(g) for g in found.groups for n in g for layer in found.twin.units[n].layers}
    assert sorted(set(units.values())) == [1, 2]
    assert taken == {name: FEW.steps * count for name, count in units.items()}


def test_float_scales_lose_less_and_end_in_no_hardware(folded, data, widths, base) -> None:
    floats = starts(folded, data, widths, floats=True)
    begun = starts(folded, data, widths, floats=False)
    for layer in weighted(folded):
        w = kernel_value(layer)
        errors = [np.abs(w - one[layer.name].weights.nearest(w)).mean() for one in (floats, begun)]
        assert errors[0] < errors[1]
    with pytest.raises(ValueError, match="no hardware"):
        mrecg.quantize(folded, data, settings=Settings(scales="float"))


def test_errors_grow_with_depth_through_equal_blocks() -> None:
    losses = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        x = given = keras.Input((16,))
        for number in range(5):
            x = L.Dense(16, activation="relu", kernel_initializer="he_normal", name=f"dense{number}")(x)
        model = keras.Model(given, x)
        x = np.random.default_rng(seed).normal(size=(256, 16)).astype(np.float32)
        begun = starts(model, x, uniform(model, 4, 6, ends=None), floats=False)
        losses.append(Twin(model, begun, FEW).losses(x))
    assert (np.diff(np.mean(losses, axis=0)) > 0).all()


# --- what comes out -------------------------------------------------------------------------------------------------


def test_the_model_has_the_rounded_weights_and_hardware_computes_what_it_does(result, data) -> None:
    for layer in result.model.layers:
        if layer.name in result.chosen:
            assert np.array_equal(layer.constants()["kernel"][0], result.chosen[layer.name].kernel_values)
            assert set(result.chosen[layer.name].kernel.bits.ravel()) == {2}
    graph = read_model(result.model)
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 200)
    float64 = not float32_certificate(graph).exact32
    verify_engines(graph, inputs, {"Keras": keras_engine(result.model, graph, float64=float64)})
    assert any("wide" in " ".join(group) for group in result.details["groups"] if len(group) == 2)


def test_a_normalisation_that_stays_is_rounded_like_a_layer(data) -> None:
    x = given = keras.Input((8,))
    x = L.Dense(5, activation="relu", name="first")(L.BatchNormalization(name="before")(x))
    model = keras.Model(given, L.Dense(2, name="last")(L.BatchNormalization(name="behind")(x)))
    for name in ("before", "behind"):
        norm = model.get_layer(name)
        norm.gamma.assign(np.linspace(0.5, 1.5, norm.gamma.shape[0]))
    made = mrecg.quantize(model, data, bits=6, settings=Settings(steps=4))
    assert dict(made.facts)["first and last layer"].startswith("8 bits")
    for name in ("before", "behind"):
        assert np.array_equal(made.model.get_layer(name).constants()["scale"][0], made.chosen[name].kernel_values)
    wanted = np.asarray(model(data))
    assert np.abs(np.asarray(made.model(data)) - wanted).mean() < 0.15 * wanted.std()
    read_model(made.model)


def test_a_model_that_averages_its_input_is_made() -> None:
    given = keras.Input((8, 2))
    x = L.AveragePooling1D(2, name="mean")(L.MaxPooling1D(2, strides=1, padding="same")(given))
    x = L.GlobalAveragePooling1D(name="exact")(L.Conv1D(3, 2, activation="relu", name="conv")(x))
    x, samples = L.Dense(2, name="last")(x), np.random.default_rng(0).uniform(-3, 3, (32, 8, 2)).astype(np.float32)
    made = mrecg.quantize(keras.Model(given, x), samples, settings=Settings(steps=2))
    assert made.model.get_layer("mean").input_quantizer.types((8, 2)).width.max() == 8
    assert made.model.get_layer("exact").input_quantizer.types((3, 3)).width.max() > 8
    read_model(made.model, FixedType.parse("s8f5"))  # the maxima of the input are not rounded
    with pytest.raises(ConversionError, match="'mean': it averages inputs of the model"):
        build(made.folded, {name: one for name, one in made.chosen.items() if name != "mean"})


def test_a_policy_is_kept(folded, data, tmp_path: Path) -> None:
    policy = {"first": Bits(4, 8), "wide": Bits(2, 3), "narrow": Bits(3, 5), "scores": Bits(6, 4)}
    save_policy(policy, tmp_path / "policy.json")
    begun = starts(folded, data, load_policy(tmp_path / "policy.json"), floats=False)
    for name, bits in policy.items():
        kernel, given = begun[name].types.kernel, begun[name].types.input
        assert set((kernel.bits + kernel.signed).ravel()) == {bits.w}
        assert set((given.bits + given.signed).ravel()) == {bits.a}


def test_types_of_rex_are_kept_and_only_roundings_chosen(data) -> None:
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((8,)), L.Dense(12, activation="relu", name="a"), L.Dense(4, name="b")])
    given = rex.quantize(model, input_range=(-4, 4), bits=3, orders=2, gamma=0.5)
    after = mrecg.quantize(model, data, types=given.chosen, settings=Settings(joined=1, steps=40, rate=0.1))
    changed = 0
    for name, one in after.chosen.items():
        assert one.kernel == given.chosen[name].kernel
        assert one.input == given.chosen[name].input
        changed += (one.kernel_values != given.chosen[name].kernel_values).sum()
    assert changed > 0
    assert "first and last layer" not in dict(after.facts)
    losses = after.details["losses"]
    assert losses.after[-1] < losses.before[-1]


def test_training_of_widths_goes_on_from_the_result(result, data) -> None:
    model = keras.models.clone_model(result.model)
    model.set_weights(result.model.get_weights())
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    widths = [layer.kernel_quantizer.b for layer in model.layers if hasattr(layer, "kernel_quantizer")]
    before = [np.array(ops.convert_to_numpy(b)) for b in widths]
    model.fit(data, np.zeros((len(data), 4), np.float32), epochs=1, batch_size=64, verbose=0)
    assert any((ops.convert_to_numpy(b) != old).any() for b, old in zip(widths, before, strict=True))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "'wide': 1 bits for weights"),
        ({"bits": 0}, "'wide': 0 bits for weights"),
        ({"bits": 4, "policy": {}}, "give one of them"),
        ({"policy": {"first": Bits(4, 4)}}, "none for 'wide'"),
    ],
)
def test_widths_that_cannot_be_are_refused_with_the_layer(data, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        mrecg.quantize(small(), data, **options)


def test_outputs_whose_squares_are_no_float32_are_refused_with_the_unit(data) -> None:
    model = small()
    model.get_layer("first").set_weights([1e25 * w for w in model.get_layer("first").get_weights()])
    with pytest.raises(ValueError, match=r"unit 'first': fitting it ends in NaN; its outputs reach .*e\+2"):
        mrecg.quantize(model, data, settings=Settings(steps=5))


def test_too_few_samples_and_wrong_settings_are_refused(data) -> None:
    with pytest.raises(ValueError, match="all 128 samples hold nothing but 0"):
        mrecg.quantize(small(), 0 * data)
    with pytest.raises(ValueError, match="5 samples are less than one batch of 32"):
        mrecg.quantize(small(), data[:5])
    for wrong, message in (
        ({"base": "adaround"}, "choose one of brecq, qdrop"),
        ({"steps": 0}, "steps=0"),
        ({"joined": -1}, "joined=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(**wrong)
