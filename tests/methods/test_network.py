"""Folding float models, and building quantised ones from chosen types."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from hgq.errors import ConversionError
from hgq.fixed import Overflow, Rounding
from hgq.importers.types import Types
from hgq.methods.network import (
    LayerTypes,
    averages,
    build,
    fold,
    kernel_value,
    largest_of_rows,
    row_axes,
    weighted,
)
from hgq.methods.policy import Bits, load_policy, save_policy
from hgq.methods.ranges import measured
from hgq.methods.result import Result
from hgq.methods.scale import covering, symmetric

L = keras.layers


def stirred(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model with random weights, statistics of normalisations included."""
    rng = np.random.default_rng(seed)
    for v in model.weights:
        low = 0.5 if v.name == "moving_variance" else -1.0
        v.assign(rng.uniform(low, 1.5 if low > 0 else 1.0, v.shape).astype(np.float32))
    return model


def convolutional() -> keras.Model:
    x = given = keras.Input((4, 4, 2), name="given")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="first")(x)
    x = branch = L.ReLU(name="rectified")(L.BatchNormalization(name="norm")(x))
    x = L.Dropout(0.3, name="dropped")(x)
    x = L.DepthwiseConv2D(3, padding="same", depth_multiplier=1, name="deep")(x)
    x = L.BatchNormalization(name="norm2")(x)
    x = L.Add(name="added")([x, branch])
    x = L.BatchNormalization(name="kept")(L.ReLU(name="rectified2")(x))
    x = L.GlobalAveragePooling2D(name="pooled")(x)
    return stirred(keras.Model(given, L.Dense(3, activation="softmax", name="head")(x)))


@pytest.fixture(scope="module")
def original() -> keras.Model:
    return convolutional()


@pytest.fixture(scope="module")
def folded(original: keras.Model) -> keras.Model:
    return fold(original, drop_softmax=True)


def chosen_of(model: keras.Model, data: np.ndarray, bits: int) -> dict[str, LayerTypes]:
    ranges = measured(model, data)
    found = {}
    for layer in weighted(model):
        largest = largest_of_rows(kernel_value(layer), row_axes(layer))
        found[layer.name] = LayerTypes(covering(*ranges[layer.name], bits), symmetric(largest, bits))
    for layer in averages(model):
        found[layer.name] = LayerTypes(covering(*ranges[layer.name], bits))
    return found


def test_a_folded_model_computes_the_same_and_keeps_its_names(original: keras.Model, folded: keras.Model) -> None:
    x = np.random.default_rng(1).normal(size=(7, 4, 4, 2)).astype(np.float32)
    logits = np.asarray(folded(x))
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(logits)), np.asarray(original(x)), atol=1e-5)  # float32
    assert [layer.name for layer in weighted(folded)] == ["first", "deep", "kept", "head"]
    assert "norm" not in [layer.name for layer in folded.layers]
    assert kernel_value(weighted(folded)[2]).shape == (4,)
    assert [layer.name for layer in averages(folded)] == ["pooled"]


def test_a_folded_file_is_the_folded_model(original: keras.Model, folded: keras.Model, tmp_path: Path) -> None:
    original.save(tmp_path / "m.keras")
    again = fold(tmp_path / "m.keras", drop_softmax=True)
    assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), folded.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("make", "names"),
    {
        "softmax": (lambda: L.Dense(3, activation="softmax", name="head"), ["head", "drop_softmax"]),
        "separable": (lambda: L.SeparableConv1D(3, 2, name="sep"), ["sep", "DepthwiseConv1D and Conv1D"]),
        "activation": (lambda: L.Dense(3, activation="tanh", name="curved"), ["curved", "'tanh'"]),
    }.values(),
)
def test_what_is_not_supported_is_refused_by_name(make: object, names: list[str]) -> None:
    model = keras.Sequential([keras.Input((4, 2)), make()])  # type: ignore[operator]
    with pytest.raises(ConversionError) as refused:
        fold(model)
    assert all(name in str(refused.value) for name in names)


def test_the_built_model_has_exactly_the_chosen_types_and_rounded_values(folded: keras.Model) -> None:
    x = np.random.default_rng(2).normal(size=(50, 4, 4, 2)).astype(np.float32)
    chosen = chosen_of(folded, x, 6)
    up = LayerTypes(
        chosen["head"].input,
        chosen["head"].kernel,
        kernel_values=np.ceil(kernel_value(weighted(folded)[3]) * 8) / 8,
    )
    model = build(folded, chosen | {"head": up})
    for layer in weighted(folded):
        value, types = model.get_layer(layer.name).constants()["kernel" if layer.name != "kept" else "scale"]
        wanted = chosen[layer.name].kernel
        assert types == wanted.fixed(value.shape)
        if layer.name == "head":
            assert (value >= np.asarray(layer.kernel)).all()
        else:
            lsb = np.ldexp(1.0, -types.frac)
            assert (np.abs(value - kernel_value(layer)) <= lsb / 2).all()
    float_logits, logits = np.asarray(folded(x)), np.asarray(model(x))
    assert 0 < np.abs(float_logits - logits).max() < 0.5 * np.abs(float_logits).max()
    rows = {row.layer: row for row in Result(model, "test").rows()}
    assert rows["first"].w == 6 and rows["pooled"].w is None and rows["pooled"].a == 6
    assert Result(model, "test").ebops == sum(row.ebops for row in rows.values())


def test_more_bits_come_closer_to_the_float_model(folded: keras.Model) -> None:
    x = np.random.default_rng(3).normal(size=(50, 4, 4, 2)).astype(np.float32)
    wanted = np.asarray(folded(x))
    errors = [np.abs(np.asarray(build(folded, chosen_of(folded, x, b))(x)) - wanted).max() for b in (4, 14)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-3 * np.abs(wanted).max()


def test_types_for_no_layer_and_layers_without_types_are_refused(folded: keras.Model) -> None:
    some = LayerTypes(covering(-1, 1, 8), symmetric(np.ones((1, 1)), 8))
    with pytest.raises(ValueError, match="'nobody'"):
        build(folded, {"nobody": some})
    with pytest.raises(ConversionError, match=r"'first'.*no types"):
        build(folded, {})


def test_symmetric_scales_are_the_smallest_that_do_not_saturate() -> None:
    t = symmetric(np.array([0.0, 1.0, 3.0, 3.5, 4.0]), 3)  # integers -3..3
    assert t.frac.tolist() == [0, 1, 0, -1, -1]
    assert t.bits.tolist() == [0, 2, 2, 2, 2] and t.overflow == Overflow.SAT_SYM
    with pytest.raises(ValueError, match="bits=1"):
        symmetric(1.0, 1)


def test_covering_scales_move_bounds_by_at_most_one_lsb() -> None:
    t = covering(np.array([0.0, 0.0, -1.0, -1.1, 0.0]), np.array([1.0, 0.6, 1.0, 1.0, 0.0]), 2)
    assert t.frac.tolist() == [2, 2, 1, 0, 0]
    assert t.signed.tolist() == [0, 0, 1, 1, 0] and t.bits.tolist() == [2, 2, 1, 1, 0]
    for hi in np.random.default_rng(0).uniform(0.01, 9, 50):
        lsb = 2.0 ** -int(covering(0, hi, 4).frac)
        assert hi <= 16 * lsb and hi > 16 * lsb / 2


def test_a_policy_comes_back_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    save_policy({"a": Bits(2, 8), "b": Bits(4, 4)}, path)
    assert load_policy(path, ["a", "b"]) == {"a": Bits(2, 8), "b": Bits(4, 4)}
    for layers, named in ((["a"], "'b'"), (["a", "b", "c"], "'c'")):
        with pytest.raises(ValueError, match=named):
            load_policy(path, layers)
    path.write_text('{"a": {"w": 0, "a": 4}}')
    with pytest.raises(ValueError, match="'a' has"):
        load_policy(path)


def test_a_zero_row_has_no_bits_and_rounds_to_zero() -> None:
    given = keras.Input((3,))
    model = stirred(keras.Model(given, L.Dense(2, name="d")(given)))
    kernel = kernel_value(model.get_layer("d"))
    kernel[:, 0] = 0
    model.get_layer("d").kernel.assign(kernel)
    types = symmetric(largest_of_rows(kernel, (-1,)), 4)
    built = build(model, {"d": LayerTypes(covering(-1, 1, 8), types)})
    value, fixed = built.get_layer("d").constants()["kernel"]
    assert (value[:, 0] == 0).all() and (fixed.width[:, 0] == 0).all() and (value[:, 1] != 0).any()
    assert isinstance(types, Types) and types.rounding == Rounding.RND
