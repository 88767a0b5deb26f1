"""Layers: forward against NumPy integers, what the converter reads, price, saving, errors."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import hgq.layers
from hgq.fixed import decode, encode
from hgq.layers import QActivation, QDense, QDenseBatchNorm, QLayer
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.resource import model_ebops, priced_layers
from hgq.training import calibrate, copy_model  # noqa: F401 (the float64 test runs in another process)


def data(seed=0, samples=64, shape=(6,)):
    return np.random.default_rng(seed).uniform(-2, 2, (samples, *shape)).astype(np.float32)


def small_model(dense=QDense):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            dense(5, activation="relu", bias_initializer="random_normal"),
            QActivation("relu", output_quantizer=FracQuantizer(f0=2, granularity="tensor", overflow="SAT")),
            dense(3, output_quantizer=FracQuantizer(f0=4), bias_initializer="random_normal"),
        ]
    )
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        if variable.name in ("b", "i", "f"):
            variable.assign(ops.convert_to_numpy(variable.value) + rng.uniform(-1.5, 1.5, variable.shape))
        if variable.name in ("gamma", "beta"):
            variable.assign(ops.convert_to_numpy(variable.value) + rng.uniform(0.1, 0.9, variable.shape))
    for layer in model.layers:
        if isinstance(layer, QDenseBatchNorm):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.2, 3, layer.moving_variance.shape))
    calibrate(model, data())
    return model


def integer_forward(model, x):
    """The model in float64 NumPy from what the converter reads, and nothing else."""
    value = x.astype(np.float64)
    for layer in model.layers:
        for when in ("input_quantizer", "output_quantizer"):
            quantizer = getattr(layer, when)
            if when == "output_quantizer":
                constants = layer.constants()
                if constants:
                    value = value @ constants["kernel"][0] + constants["bias"][0]
                if layer.activation_name == "relu":
                    value = np.maximum(value, 0)
            if quantizer is not None:
                types = quantizer.types(value.shape[1:])
                value = decode(encode(value, types, quantizer.rounding, quantizer.overflow), types.frac)
    return value


@pytest.mark.parametrize("dense", [QDense, QDenseBatchNorm])
def test_inference_is_the_integer_arithmetic_that_the_converter_reads(dense):
    model = small_model(dense)
    x = np.concatenate([data(3), 50 * data(4)])
    expected = integer_forward(model, x)
    assert np.abs(expected).max() > 0
    assert (model.predict(x, verbose=0) == expected).all()
    assert (ops.convert_to_numpy(model(x)) == expected).all()


@pytest.mark.parametrize("dense", [QDense, QDenseBatchNorm])
def test_constants_fit_their_types(dense):
    for layer in small_model(dense).layers:
        for values, types in layer.constants().values():
            m = np.ldexp(values, types.frac)
            assert (m == np.floor(m)).all()
            assert ((types.lo <= m) & (m <= types.hi)).all()
            assert len(set(types.width.ravel().tolist())) > 1


@pytest.mark.parametrize("dense", [QDense, QDenseBatchNorm])
def test_saving_and_loading_keep_outputs_and_widths(dense, tmp_path):
    model = small_model(dense)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = 3 * data(5)
    assert (again.predict(x, verbose=0) == model.predict(x, verbose=0)).all()
    for before, after in zip(model.layers, again.layers, strict=True):
        for name, quantizer in before.quantizers().items():
            shape = before.quantized_shapes()[name]
            assert after.quantizers()[name].types(shape) == quantizer.types(shape)
        for name, (values, types) in before.constants().items():
            assert (after.constants()[name][0] == values).all()
            assert after.constants()[name][1] == types
    assert model_ebops(again) == model_ebops(model)


def test_a_model_saved_here_gives_the_same_on_the_other_backend(tmp_path):
    here = keras.backend.backend()
    other = {"tensorflow": "jax", "jax": "tensorflow"}.get(here, "tensorflow")
    pytest.importorskip(other)
    model = small_model(QDenseBatchNorm)
    model.save(tmp_path / "m.keras")
    x = 3 * data(5)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import keras, numpy as np, hgq.layers\n"
        f"assert keras.backend.backend() == {other!r}\n"
        "m = keras.models.load_model('m.keras')\n"
        "np.save('y.npy', m.predict(np.load('x.npy'), verbose=0))\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    env = os.environ | {"KERAS_BACKEND": other, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert (np.load(tmp_path / "y.npy") == model.predict(x, verbose=0)).all()


@pytest.mark.parametrize("dense", [QDense, QDenseBatchNorm])
def test_a_float64_copy_computes_the_same(dense):
    code = (
        "import sys; sys.path.insert(0, 'tests/layers')\n"
        "import numpy as np\n"
        "from test_layers import *\n"
        f"model = small_model({dense.__name__})\n"
        "twin = copy_model(model, 'float64')\n"
        "x = 3 * data(5)\n"
        "y = twin.predict(x.astype(np.float64), verbose=0)\n"
        "assert y.dtype == np.float64\n"
        "assert (y == model.predict(x, verbose=0)).all()\n"
        "for a, b in zip(model.layers, twin.layers):\n"
        "    for name, (values, types) in a.constants().items():\n"
        "        assert (b.constants()[name][0] == values).all() and b.constants()[name][1] == types\n"
        "trained = twin(x.astype(np.float64), training=True)\n"
        "assert keras.backend.standardize_dtype(trained.dtype) == 'float64'\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    env = os.environ | {"JAX_ENABLE_X64": "1", "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_batch_norm_trains_like_keras_dense_and_batch_norm():
    x = data(7, samples=256)
    quantizers = dict(
        input_quantizer=FracQuantizer(f0=20),
        kernel_quantizer=WidthQuantizer(b0=22, i0=3),
        bias_quantizer=WidthQuantizer(b0=22, i0=3),
    )
    ours = keras.Sequential([keras.Input((6,)), QDenseBatchNorm(4, momentum=0.5, **quantizers)])
    norm = keras.layers.BatchNormalization(momentum=0.5)
    theirs = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, use_bias=False), norm])
    theirs.layers[0].kernel.assign(ops.convert_to_numpy(ours.layers[0].kernel.value).copy())  # JAX shares the buffer
    for _ in range(3):
        a, b = (ops.convert_to_numpy(m(x, training=True)) for m in (ours, theirs))
        assert a == pytest.approx(b, abs=1e-3)  # the quantizers are fine, but not infinitely so
    for name in ("moving_mean", "moving_variance"):
        a, b = (ops.convert_to_numpy(getattr(layer, name).value) for layer in (ours.layers[0], norm))
        assert a == pytest.approx(b, abs=1e-4)
    assert ours.predict(x, verbose=0) == pytest.approx(theirs.predict(x, verbose=0), abs=1e-3)


def test_the_price_is_in_the_training_loss_only():
    model = small_model()
    x = data()
    model(x, training=False)
    assert model.losses == []
    for layer, _ in priced_layers(model):
        layer.beta.assign(0.5)
    model(x, training=True)
    price = sum(float(ops.convert_to_numpy(loss)) for loss in model.losses)
    estimate = sum(float(ops.convert_to_numpy(layer.ebops_bar())) for layer in model.layers)
    assert price == pytest.approx(0.5 * estimate, rel=1e-5)


def test_ebops_bar_bounds_exact_ebops():
    model = small_model()
    for layer in model.layers:
        assert layer.exact_ebops() <= float(ops.convert_to_numpy(layer.ebops_bar()))
    assert 0 < model_ebops(model)


def test_exact_ebops_by_hand():
    layer = QDense(2, input_quantizer=FracQuantizer(f0=0), kernel_quantizer=WidthQuantizer(b0=3, i0=3))
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.kernel.assign([[3, 4], [0, -5]])
    layer.bias.assign([1, 0])
    layer.bias_quantizer.b.assign([2, 2])
    layer.bias_quantizer.i.assign([2, 2])
    calibrate(model, np.array([[7.0, -4.0]], np.float32))
    # Inputs are u3 and s3, spans 2 1 and 0 3, and one bias of 3 bits is not 0.
    assert model_ebops(model) == 3 * (2 + 1) + 3 * (0 + 3) + 3


def test_each_call_of_a_shared_layer_counts():
    layer = QDense(6, name="shared")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, QDense(2)(layer(layer(inputs))))
    calibrate(model, data())
    once = {each.name: each.exact_ebops() for each in model.layers if isinstance(each, QLayer)}
    assert ("shared", 2) in [(each.name, calls) for each, calls in priced_layers(model)]
    assert model_ebops(model) == sum(once.values()) + once["shared"]


def test_each_position_of_a_sequence_counts():
    quantizer = FracQuantizer(f0=2, granularity="channel")
    model = keras.Sequential([keras.Input((4, 6)), QDense(3, input_quantizer=quantizer)])
    calibrate(model, data(shape=(4, 6)))
    flat = keras.Sequential([keras.Input((6,)), QDense(3, input_quantizer=FracQuantizer(f0=2))])
    flat.layers[0].set_weights([w.reshape(v.shape) for w, v in zip(model.get_weights(), flat.weights, strict=True)])
    assert model_ebops(model) == 4 * model_ebops(flat)


def test_nested_models_are_walked():
    inner = keras.Sequential([keras.Input((6,)), QDense(4)])
    model = keras.Sequential([keras.Input((6,)), inner, keras.layers.Dropout(0.5), QDense(2)])
    calibrate(model, data())
    assert [layer.units for layer, _ in priced_layers(model)] == [4, 2]


def test_higher_beta_gives_fewer_ebops():
    x = data(samples=256)
    y = x[:, :3] - x[:, 3:]
    found = []
    for beta in (1e-6, 1e-2):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((6,)), QDense(8, "relu", beta=beta), QDense(3, beta=beta)])
        model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=keras.backend.backend() == "jax")
        model.fit(x, y, epochs=25, batch_size=64, verbose=0)
        found.append(model_ebops(model))
    assert found[1] < found[0] / 2


def test_every_exported_class_is_a_qlayer_registered_as_hgq_fpga():
    for name in hgq.layers.__all__:
        cls = getattr(hgq.layers, name)
        assert issubclass(cls, QLayer)
        if cls is not QLayer:
            assert keras.saving.get_registered_name(cls) == f"hgq_fpga>{name}"


def test_one_quantizer_object_may_be_given_to_many_layers():
    q = WidthQuantizer(b0=5)
    model = keras.Sequential([keras.Input((6,)), QDense(4, kernel_quantizer=q), QDense(2, kernel_quantizer=q)])
    first, second = (layer.kernel_quantizer for layer in model.layers)
    assert first is not second and first.b0 == second.b0 == 5
    assert first.name == "kernel_quantizer" and first.path != second.path


ERRORS = {
    "activation": (lambda: QDense(3, activation="tanh", name="d1"), "QDense 'd1'.*'tanh'.*linear, relu"),
    "callable activation": (lambda: QActivation(keras.activations.relu, name="d1"), "QActivation 'd1'.*linear, relu"),
    "unknown argument": (lambda: QDense(3, bits=4, name="d1"), "bits"),
    "units": (lambda: QDense(0, name="d1"), "QDense 'd1'.*units=0"),
    "no input quantizer": (lambda: QDense(3, input_quantizer=None, name="d1"), "QDense 'd1'.*input_quantizer=None"),
    "no kernel quantizer": (lambda: QDense(3, kernel_quantizer=None, name="d1"), "'d1'.*kernel_quantizer=None"),
    "no bias quantizer": (lambda: QDense(3, bias_quantizer=None, name="d1"), "'d1'.*bias_quantizer=None"),
    "nothing quantised": (lambda: QActivation("relu", input_quantizer=None, name="a"), "QActivation 'a'.*neither"),
    "mixed precision": (lambda: QDense(3, dtype="mixed_float16", name="d1"), "QDense 'd1'.*mixed_float16.*float32"),
    "half precision": (lambda: QDense(3, dtype="bfloat16", name="d1"), "QDense 'd1'.*bfloat16.*float32"),
    "beta": (lambda: QDense(3, beta=-1, name="d1"), "QDense 'd1'.*beta=-1"),
    "no bias to normalise": (lambda: QDenseBatchNorm(3, use_bias=False, name="b"), "QDenseBatchNorm 'b'.*use_bias"),
    "momentum": (lambda: QDenseBatchNorm(3, momentum=2, name="b"), "QDenseBatchNorm 'b'.*momentum=2"),
    "epsilon": (lambda: QDenseBatchNorm(3, epsilon=0, name="b"), "QDenseBatchNorm 'b'.*epsilon=0"),
    "unknown size": (lambda: keras.Sequential([keras.Input((None, 4)), QDense(2, name="d1")]), "QDense 'd1'.*channel"),
    "unknown last axis": (lambda: QDense(2, name="d1").build((None, None)), "QDense 'd1'.*no known size"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_layer_and_the_fix(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_global_policy_of_mixed_precision_is_refused_by_name(policy):
    before = keras.config.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        for make in (lambda: QDense(3, name="d1"), lambda: QActivation("relu", name="d1")):
            with pytest.raises(ValueError, match=f"'d1'.*{policy}.*set_dtype_policy"):
                make()
        assert QDense(3, dtype="float32").compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_a_quantizer_of_the_wrong_kind_is_named():
    with pytest.raises(TypeError, match=r"QDense 'd1'.*kernel_quantizer=8.*FracQuantizer"):
        QDense(3, kernel_quantizer=8, name="d1")


def test_nan_weights_are_named():
    model = small_model()
    layer = model.layers[0]
    kernel = ops.convert_to_numpy(layer.kernel.value).copy()
    kernel[0, 0] = np.nan
    layer.kernel.assign(kernel)
    with pytest.raises(ValueError, match=f"QDense '{layer.name}'.*1 of 30.*kernel.*NaN"):
        layer.constants()


def test_float64_without_64_bit_types_is_refused_on_jax():
    if keras.backend.backend() != "jax":
        pytest.skip("only JAX narrows float64 silently")
    with pytest.raises(ValueError, match="JAX_ENABLE_X64"):
        QDense(3, dtype="float64")
