"""Forward values against the integer reference of hgq.fixed, gradients against the formulas of the docstrings."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from hgq.fixed import FixedArray, FixedType, Overflow, Rounding, decode, encode
from hgq.quantizers import FracQuantizer, WidthQuantizer

LN2 = math.log(2.0)
MODES = list(itertools.product(Rounding, Overflow))


def ready(quantizer, shape, value=None):
    quantizer.attach(shape, "QDense 'dense'", value)
    return quantizer


def apply(quantizer, x, training=False):
    return ops.convert_to_numpy(quantizer.apply(ops.convert_to_tensor(np.asarray(x, np.float32)), training))


def number(variable):
    return ops.convert_to_numpy(variable.value)


def gradients(quantizer, x, training=True):
    """(dy/dx, {variable name: d sum(y) / d variable}) on any backend."""
    x = np.asarray(x, np.float32)
    variables = quantizer.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        t = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(t)
            y = tf.reduce_sum(quantizer.apply(t, training))
        dx, *rest = tape.gradient(y, [t, *(v.value for v in variables)])
    elif keras.backend.backend() == "torch":
        import torch

        t = torch.tensor(x, requires_grad=True)
        wanted = [t, *(v.value for v in variables)]
        found = torch.autograd.grad(quantizer.apply(t, training).sum(), wanted, allow_unused=True)
        dx, *rest = (torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True))
    else:
        import jax

        def total(t, values):
            pairs = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=pairs):
                return quantizer.apply(t, training).sum()

        dx, rest = jax.grad(total, argnums=(0, 1))(x, [v.value for v in variables])
    return np.asarray(dx), {v.name: np.asarray(g) for v, g in zip(variables, rest, strict=True)}


def samples(seed=0, count=4000, spread=3.0):
    rng = np.random.default_rng(seed)
    halves = rng.integers(-400, 400, count // 2) / 64.0
    return np.concatenate([halves, rng.normal(0, spread, count - count // 2)]).astype(np.float32)


@pytest.mark.parametrize(("rounding", "overflow"), MODES, ids=[f"{r}-{o}" for r, o in MODES])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_width_quantizer_equals_the_integer_reference(rounding, overflow, signed):
    x = samples().reshape(-1, 5)
    q = ready(WidthQuantizer(rounding=rounding, overflow=overflow, signed=signed), (5,))
    q.b.assign([0, 1, 2.4, 4.6, 7])
    q.i.assign([1, -1, 1, 0.7, 9])
    types = q.types((5,))
    assert str(types) == ("[5]{0 s2f2 s3f1 s6f4 s8f-2}" if signed else "[5]{0 u1f2 u2f1 u5f4 u7f-2}")
    expected = decode(encode(x, types, rounding, overflow), types.frac)
    assert (apply(q, x, training=False) == expected).all()
    assert (apply(q, x, training=True) == expected).all()


@pytest.mark.parametrize(("rounding", "overflow"), MODES, ids=[f"{r}-{o}" for r, o in MODES])
def test_frac_quantizer_equals_the_integer_reference(rounding, overflow):
    inside, outside = samples(1).reshape(-1, 5), samples(2, spread=60.0).reshape(-1, 5)
    inside[:, 3] = np.abs(inside[:, 3])
    inside[:, 4] = -0.5 if overflow != "SAT_SYM" else 0.0
    q = ready(FracQuantizer(rounding=rounding, overflow=overflow), (5,))
    q.f.assign([2, -1, 5.4, 3, 1])
    trained = apply(q, inside, training=True)
    types = q.types((5,))
    # What training saw neither wraps nor saturates, and inference gives the same.
    assert (apply(q, inside) == trained).all()
    for x in (inside, outside):
        assert (apply(q, x) == decode(encode(x, types, rounding, overflow), types.frac)).all()
    assert not types.signed[3]


@pytest.mark.parametrize("kind", [WidthQuantizer, FracQuantizer])
@pytest.mark.parametrize("training", [True, False])
def test_a_graph_computes_what_single_operations_do(kind, training):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow rewrites the arithmetic of a graph without XLA")
    import tensorflow as tf

    x = samples(3).reshape(-1, 40)
    q = ready(kind(), (40,))
    spread = np.linspace(-9.0, 9.0, 40, dtype=np.float32)  # fractional bits, odd and even, on both sides of 0
    (q.f if kind is FracQuantizer else q.i).assign(spread)
    apply(q, x, training=True)
    expected = apply(q, x, training)
    assert (tf.function(lambda t: q.quantized(t, training))(tf.constant(x)).numpy() == expected).all()


def test_the_range_is_that_of_the_rounded_value():
    q = ready(FracQuantizer(f0=0), (4,))
    apply(q, [[7.4, 7.5, -0.5, -0.6]], training=True)
    # 7.5 rounds to 8, which needs a bit more; -0.5 rounds to 0, which needs none.
    assert str(q.types((4,))) == "[4]{u3f0 u4f0 0 s1f0}"


def test_the_range_grows_at_once_and_shrinks_by_the_decay():
    q = ready(FracQuantizer(f0=0, decay=0.5), (1,))
    apply(q, [[12.0]], training=True)
    assert str(q.types((1,))) == "[1]{u4f0}"
    apply(q, [[0.0]], training=True)
    assert number(q.hi).tolist() == pytest.approx([12 * 2**-0.5])
    apply(q, [[0.0]], training=False)
    assert number(q.hi).tolist() == pytest.approx([12 * 2**-0.5])
    apply(q, [[0.0]], training=True)
    apply(q, [[0.0]], training=True)
    assert str(q.types((1,))) == "[1]{u3f0}"


def test_the_range_is_unknown_until_data_was_seen():
    q = ready(FracQuantizer(), (2,))
    assert not q.range_known
    apply(q, [[0.0, 0.0]], training=False)
    assert not q.range_known
    apply(q, [[0.0, 0.0]], training=True)
    assert q.range_known
    q.reset_range()
    assert not q.range_known
    assert ready(WidthQuantizer(), (2,)).range_known


def test_gradients_inside_the_range():
    x = [[0.3, -0.7], [0.06, 0.5]]
    for q in (ready(WidthQuantizer(b0=3, i0=0), (2,)), ready(FracQuantizer(f0=3), (2,))):
        error = LN2 * (np.asarray(x, np.float32) - apply(q, x, training=True)).sum(axis=0)
        dx, grads = gradients(q, x)
        assert (dx == 1).all()
        if "f" in grads:
            assert grads["f"] == pytest.approx(error, abs=1e-6)
        else:
            assert grads["b"] == pytest.approx(error, abs=1e-6)
            assert grads["i"] == pytest.approx(-error, abs=1e-6)


OUTSIDE = {  # x, y, dx, db / ln2, di / ln2 for b=2, i=1 (lsb 1/2)
    "SAT_SYM above": ("SAT_SYM", 9.0, 1.5, 0, 0.5, 1.5),
    "SAT_SYM below": ("SAT_SYM", -9.0, -1.5, 0, -0.5, -1.5),
    "SAT above": ("SAT", 9.0, 1.5, 0, 0.5, 1.5),
    "SAT below": ("SAT", -9.0, -2.0, 0, 0.0, -2.0),
    "WRAP above": ("WRAP", 2.6, -1.5, 1, 0.1, -4.1),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_gradients_outside_the_range(case):
    overflow, x, y, dx, db, di = OUTSIDE[case]
    q = ready(WidthQuantizer(b0=2, i0=1, overflow=overflow), (1,))
    assert apply(q, [[x]]).item() == y
    got, grads = gradients(q, [[x]])
    assert got.item() == dx
    assert grads["b"] == pytest.approx([db * LN2], abs=1e-6)
    assert grads["i"] == pytest.approx([di * LN2], abs=1e-6)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("x", [0.2, -0.2, 3.0, -3.0])
def test_a_pruned_weight_is_zero_and_keeps_a_gradient(overflow, x):
    q = ready(WidthQuantizer(b0=0, i0=0, overflow=overflow), (1,))
    assert apply(q, [[x]]).item() == 0
    assert str(q.types((1,))) == "[1]{0}"
    _, grads = gradients(q, [[x]])
    assert grads["b"].item() * x > 0 or overflow == "WRAP"
    assert grads["b"].item() != 0


def test_a_dead_activation_keeps_a_gradient_and_comes_back():
    q = ready(FracQuantizer(f0=0), (1,))
    assert apply(q, [[0.3]], training=True).item() == 0
    assert str(q.types((1,))) == "[1]{0}"
    dx, grads = gradients(q, [[0.3]])
    assert dx.item() == 1
    assert grads["f"] == pytest.approx([LN2 * 0.3])
    q.f.assign([2.0])
    assert apply(q, [[0.3]], training=True).item() == 0.25


def test_saturated_inference_stops_the_gradient_of_frac():
    q = ready(FracQuantizer(f0=1, overflow="SAT"), (1,))
    apply(q, [[1.5]], training=True)
    dx, grads = gradients(q, [[1.5], [7.0]], training=False)
    assert dx.ravel().tolist() == [1, 0]
    assert grads["f"].tolist() == [0]


GROUPS = {"tensor": (1, 1), "channel": (1, 3), "element": (4, 3)}


@pytest.mark.parametrize("granularity", GROUPS)
@pytest.mark.parametrize("kind", [WidthQuantizer, FracQuantizer], ids=["width", "frac"])
def test_granularity_shares_types_and_sums_gradients(granularity, kind):
    q = ready(kind(granularity=granularity), (4, 3))
    group = GROUPS[granularity]
    x = np.random.default_rng(3).uniform(-0.8, 0.8, (7, 4, 3)).astype(np.float32)
    error = LN2 * (x - apply(q, x, training=True)).astype(np.float64)
    axes = tuple(n for n, size in enumerate((1, *group)) if size == 1)
    _, grads = gradients(q, x)
    assert grads["b" if kind is WidthQuantizer else "f"] == pytest.approx(
        error.sum(axis=axes).reshape(group), rel=1e-4, abs=1e-6
    )
    assert q.types((4, 3)).shape == (4, 3)
    assert q.share == pytest.approx({"tensor": 12, "channel": 4, "element": 1}[granularity] ** -0.5)


def test_bits_are_those_of_the_types_and_their_gradient_is_scaled():
    q = ready(FracQuantizer(f0=2, granularity="tensor"), (4,))
    apply(q, [[1.0, -2.0, 0.25, 5.0]], training=True)
    assert q.types((1,)).width.tolist() == ops.convert_to_numpy(q.bits(sign=True)).tolist() == [6]
    assert ops.convert_to_numpy(q.bits(sign=False)).tolist() == [5]
    q.apply, apply_ = (lambda *_: q.bits(sign=True)), q.apply
    _, grads = gradients(q, [[0.0]])
    q.apply = apply_
    assert grads["f"] == pytest.approx([0.5])


def test_a_width_is_computed_once_while_the_quantizer_is_unchanged():
    q = ready(FracQuantizer(f0=2), (1,))
    apply(q, [[3.0]], training=True)
    calls, formats = [], q._formats
    q._formats = lambda: calls.append(1) or formats()
    with q.unchanged():
        assert [ops.convert_to_numpy(q.bits(sign)).tolist() for sign in (True, False, True)] == [[4], [4], [4]]
    assert len(calls) == 1
    q.f.assign([3.0])
    assert ops.convert_to_numpy(q.bits(sign=False)).tolist() == [5]


def test_f_only_weights_start_with_f0_bits_each():
    w = ops.convert_to_tensor(np.array([[0.3, -0.5], [3.0, 0.0]], np.float32))
    q = ready(FracQuantizer(f0=3), (2, 2), lambda: w)
    # 0.3 = 0.0100110b: the highest bit weighs 1/4, so 3 bits end at 1/16. A sign and a rounded bound count too.
    assert number(q.f).tolist() == [[4, 3], [1, 3]]
    assert apply(q, w).tolist() == [[0.3125, -0.5], [3.0, 0.0]]
    assert str(q.types((2, 2))) == "[2,2]{u3f4 s3f3 u3f1 0}"
    assert q.range_known


def test_integer_bits_can_come_from_the_weights():
    w = ops.convert_to_tensor(np.array([0.3, -0.9, 3.0, 0.0], np.float32))
    q = ready(WidthQuantizer(b0=4, i0=None), (4,), lambda: w)
    assert number(q.i).tolist() == [-1, 0, 2, -1]
    q = ready(WidthQuantizer(b0=4, i0=None, granularity="tensor"), (4,), lambda: w)
    assert number(q.i).tolist() == [2]


def test_types_broadcast():
    q = ready(WidthQuantizer(b0=3, i0=1, granularity="channel"), (2, 2))
    assert q.types((2, 2)) == FixedArray.full((2, 2), FixedType(True, 4, 2))


@pytest.mark.parametrize("kind", [WidthQuantizer, FracQuantizer])
def test_configuration_survives_a_round_trip(kind):
    q = kind(rounding="TRN", overflow="SAT", granularity="channel", **({"b0": 5} if kind is WidthQuantizer else {}))
    saved = keras.saving.serialize_keras_object(q)
    assert saved["registered_name"] == f"hgq_fpga>{kind.__name__}"
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == q.get_config()
    assert (again.rounding, again.overflow, again.granularity) == (Rounding.TRN, Overflow.SAT, "channel")


BAD_ARGUMENTS = {
    "rounding": (dict(rounding="NEAREST"), "rounding='NEAREST'.*TRN, RND, RND_CONV"),
    "overflow": (dict(overflow="CLIP"), "overflow='CLIP'.*WRAP, SAT, SAT_SYM"),
    "granularity": (dict(granularity="row"), "granularity='row'.*tensor, channel, element"),
    "unknown": (dict(bitz=3), "bitz"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
@pytest.mark.parametrize("kind", [WidthQuantizer, FracQuantizer])
def test_bad_arguments_are_named(kind, case):
    arguments, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_bad_initial_bits_are_named():
    with pytest.raises(ValueError, match="b0=99"):
        WidthQuantizer(b0=99)
    with pytest.raises(ValueError, match="i0=-30"):
        WidthQuantizer(i0=-30)
    with pytest.raises(ValueError, match="f0=nan"):
        FracQuantizer(f0=float("nan"))
    with pytest.raises(ValueError, match="i0=None reads the range off a constant"):
        ready(WidthQuantizer(i0=None), (3,))


def test_nan_widths_are_named():
    q = ready(WidthQuantizer(), (2,))
    q.b.assign([1.0, float("nan")])
    with pytest.raises(ValueError, match=r"QDense 'dense'.*width is nan.*diverged"):
        q.types((2,))
    q = ready(FracQuantizer(), (2,))
    q.f.assign([1.0, float("nan")])
    with pytest.raises(ValueError, match=r"QDense 'dense'.*is nan.*diverged"):
        q.types((2,))


def test_an_axis_of_unknown_size_needs_shared_types():
    with pytest.raises(ValueError, match=r"QDense 'dense'.*granularity='element'.*\(None, 3\).*channel"):
        ready(FracQuantizer(), (None, 3))
    ready(FracQuantizer(granularity="channel"), (None, 3))


def test_a_quantizer_is_no_layer_of_a_model():
    with pytest.raises(TypeError, match="QActivation"):
        WidthQuantizer()(np.zeros((2, 3), np.float32))
