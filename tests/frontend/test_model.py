"""Keras models to IR: what is read, and how each thing that cannot be read is refused."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from hgq.errors import ConversionError
from hgq.fixed import FixedType, Overflow, Rounding
from hgq.frontend import HANDLERS, read_model
from hgq.frontend.load import load_model
from hgq.frontend.predict import keras_engine, layer_values
from hgq.ir import Graph
from hgq.layers import QActivation, QDense, QDenseBatchNorm
from hgq.lower import lower
from hgq.passes import optimise
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.report import layer_rows
from hgq.training import calibrate
from hgq.verify import corner_vectors, float32_certificate, verify_engines
from tests.frontend.conv_models import MODELS as CONV_MODELS
from tests.frontend.einsum_models import MODELS as EINSUM_MODELS
from tests.frontend.merge_models import MODELS as MERGE_MODELS
from tests.frontend.norm_models import LAYERS as NORM_LAYERS
from tests.frontend.norm_models import model_of
from tests.frontend.recurrent_models import MODELS as RECURRENT_MODELS

X = np.random.default_rng(0).normal(size=(64, 4, 2)).astype("float32")


def chain(*layers: keras.layers.Layer, shape: tuple[int, ...] = (4, 2), seen: bool = True) -> keras.Model:
    """A Sequential model that has seen data."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape, name="x"), *layers], name="net")
    if seen:
        calibrate(model, X.reshape(64, *shape))
    return model


def refused(model: keras.Model, **options) -> list[str]:
    with pytest.raises(ConversionError) as error:
        read_model(model, **options)
    return error.value.problems


def ops(graph: Graph) -> str:
    return " ".join(node.op for node in graph)


def exact(model: keras.Model, graph: Graph) -> None:
    """Keras and the golden model agree on corner vectors."""
    inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 500)
    float64 = not float32_certificate(graph).exact32
    verify_engines(graph, inputs, {"Keras": keras_engine(model, graph, float64=float64)})


def used_batch_norm() -> keras.Model:
    """A fused layer whose statistics, scale and offset are far from where they started."""
    model = chain(keras.layers.Flatten(), QDenseBatchNorm(3, name="fused"), seen=False)
    rng = np.random.default_rng(2)
    layer = model.get_layer("fused")
    for variable in (layer.norm_gamma, layer.norm_beta, layer.moving_mean, layer.moving_variance):
        variable.assign(rng.uniform(0.3, 3, variable.shape))
    calibrate(model, X)
    return model


def dyadic_batch_norm(variance: float = 4.0) -> keras.layers.Layer:
    layer = keras.layers.BatchNormalization(name="norm", epsilon=2.0**-10)
    layer.build((None, 4, 2))
    layer.set_weights(np.array([[0.5, -2], [0.25, 3], [1.5, -0.75], [variance - 2.0**-10] * 2], "float32"))
    return layer


MODELS = {
    "dense, relu, flatten": lambda: chain(keras.layers.Flatten(), QDense(5, activation="relu"), QDense(3)),
    "dense along the last axis": lambda: chain(QDense(3), QDense(2)),
    "reshape, dropout": lambda: chain(keras.layers.Reshape((2, -1)), keras.layers.Dropout(0.5), QDense(2)),
    "no bias": lambda: chain(QDense(3, use_bias=False), keras.layers.ReLU()),
    "keras activations": lambda: chain(QDense(3), keras.layers.Activation("relu"), keras.layers.Activation("linear")),
    "q activation both ways": lambda: chain(
        QActivation("relu", output_quantizer=WidthQuantizer(overflow="SAT", rounding="RND_CONV"))
    ),
    "per tensor and per channel": lambda: chain(
        QDense(
            3,
            kernel_quantizer=WidthQuantizer(granularity="tensor"),
            input_quantizer=FracQuantizer(granularity="channel", rounding="TRN"),
        )
    ),
    "fused batch norm": used_batch_norm,
    "dyadic batch norm": lambda: chain(QDense(2), dyadic_batch_norm(), seen=True),
    "too wide for float32": lambda: chain(
        QDense(3, input_quantizer=FracQuantizer(f0=16), kernel_quantizer=FracQuantizer(f0=14))
    ),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_is_what_its_graph_computes(make) -> None:
    model = make()
    exact(model, read_model(model))


def test_every_supported_layer_is_in_one_of_these_models() -> None:
    noise = {keras.layers.GaussianNoise, keras.layers.GaussianDropout, keras.layers.AlphaDropout}
    noise |= {keras.layers.SpatialDropout1D, keras.layers.ActivityRegularization}
    makers = [
        *(MODELS | MERGE_MODELS | CONV_MODELS | RECURRENT_MODELS | EINSUM_MODELS).values(),
        lambda: model_of(*NORM_LAYERS),
    ]
    seen = {type(layer) for make in makers for layer in make().layers} & set(HANDLERS)
    assert set(HANDLERS) - noise == seen
    for cls in noise:
        argument = {} if cls is keras.layers.ActivityRegularization else {"rate": 0.1}
        argument = {"stddev": 0.1} if cls is keras.layers.GaussianNoise else argument
        assert ops(read_model(chain(cls(**argument), QDense(2)))) == "input dense"


def test_the_port_has_the_type_of_the_quantizer_that_reads_it() -> None:
    model = chain(keras.layers.Flatten(), QDense(3, name="d"))
    graph = read_model(model)
    assert ops(graph) == "input reshape dense"
    assert graph["x"].types == model.get_layer("d").input_quantizer.types((8,)).reshape((4, 2))
    assert graph["x"].attrs["rounding"] == Rounding.RND and graph["x"].attrs["overflow"] == Overflow.WRAP


def test_a_stated_port_type_puts_the_quantizer_into_hardware() -> None:
    model = chain(keras.layers.Flatten(), QDense(3, name="d"))
    graph = read_model(model, FixedType.parse("s9f6"))
    assert ops(graph) == "input reshape quantize dense"
    assert {str(t) for t in graph["x"].types} == {"s9f6"}
    exact(model, graph)


def test_two_layers_that_quantise_the_input_differently_need_a_stated_type() -> None:
    x = keras.Input((8,), name="x")
    model = keras.Model(x, [QDense(2, name="a")(x), QDense(2, name="b", input_quantizer=FracQuantizer(f0=6))(x)])
    calibrate(model, X.reshape(64, 8))
    (problem,) = refused(model)
    assert "it quantises the model input 'x' otherwise than" in problem and "input_type='s16f8'" in problem
    graph = read_model(model, FixedType.parse("s9f6"))
    assert ops(graph).count("quantize") == 2
    exact(model, graph)


def test_a_layer_that_is_called_twice_is_read_twice() -> None:
    x = keras.Input((8,), name="x")
    shared = QDense(8, name="shared", input_quantizer=FracQuantizer(f0=3))
    model = keras.Model(x, shared(shared(x)))
    calibrate(model, X.reshape(64, 8))
    graph = read_model(model)
    assert [node.origin for node in graph if node.op == "dense"] == ["shared", "shared.2"]
    exact(model, graph)


def test_every_call_has_a_name_of_its_own_and_none_looks_like_a_time_step() -> None:
    def inner(name: str) -> keras.Model:
        return keras.Sequential([keras.Input((2,)), QDense(2, name="step1"), QDense(2, name="step2")], name=name)

    x = keras.Input((2,), name="x")
    twice, other = QDense(2, name="f"), QDense(2, name="f.2")
    model = keras.Model(x, other(twice(twice(inner("b")(inner("a")(x))))), name="net")
    calibrate(model, np.random.default_rng(0).normal(size=(50, 2)))
    graph = read_model(model)
    names = ["a/step1", "a/step2", "b/step1", "b/step2", "f", "f.2_", "f.2"]
    assert [origin for origin in dict.fromkeys(node.origin for node in graph) if origin != "x"] == names
    assert [row["layer"] for row in layer_rows(graph, optimise(lower(graph, "net")))] == names


def test_layer_values_are_those_of_the_golden_model() -> None:
    from hgq.ir import evaluate_nodes

    model = chain(keras.layers.Flatten(), QDense(5, activation="relu", name="a"), QDense(3, name="b"))
    graph = read_model(model)
    inputs = corner_vectors({"x": graph["x"].types}, 50)
    golden = evaluate_nodes(graph, inputs)
    values = layer_values(model, graph, inputs)
    assert list(values) == ["a.relu", "b.sum"]
    assert all((golden[name] == value).all() for name, value in values.items())


class OtherDense(QDense):
    """A user's subclass."""


REFUSED = {
    "a float layer": (
        lambda: chain(keras.layers.Flatten(), keras.layers.Dense(3, name="head"), seen=False),
        ["Dense 'head'", "not supported", "hgq.layers.QDense"],
    ),
    "a subclass": (lambda: chain(OtherDense(3, name="own")), ["OtherDense 'own'", "subclass of QDense"]),
    "an attribute": (
        lambda: chain(QDense(3), keras.layers.ReLU(threshold=6, name="six")),
        ["ReLU 'six'", "threshold=6", "only threshold=0"],
    ),
    "an activation": (
        lambda: chain(QDense(3), keras.layers.Activation("tanh", name="t")),
        ["Activation 't'", "activation='tanh'", "'relu' or 'linear'"],
    ),
    "half precision": (
        lambda: chain(QDense(3), keras.layers.ReLU(dtype="mixed_bfloat16", name="half")),
        ["ReLU 'half'", "'mixed_bfloat16'", 'dtype="float32"'],
    ),
    "a data format": (
        lambda: chain(keras.layers.Flatten(data_format="channels_first", name="f"), QDense(3)),
        ["Flatten 'f'", "data_format='channels_first'", "channels_last"],
    ),
    "ranges never seen": (
        lambda: chain(QDense(3, name="d"), seen=False),
        ["QDense 'd'", "never seen data", "--calibrate"],
    ),
    "an input that nothing quantises": (
        lambda: chain(keras.layers.ReLU(name="first"), QDense(2)),
        ["ReLU 'first'", "model input 'x' without quantising it", "input_type"],
    ),
    "an inexact batch norm": (
        lambda: chain(QDense(2), dyadic_batch_norm(3.0)),
        ["BatchNormalization 'norm'", "no exact fixed-point number", "QDenseBatchNorm"],
    ),
    "a batch norm along another axis": (
        lambda: chain(QDense(2), keras.layers.BatchNormalization(axis=1, name="norm")),
        ["BatchNormalization 'norm'", "axis=1", "axis=-1"],
    ),
    "an output that is an input": (
        lambda: keras.Model(x := keras.Input((3,), name="x"), [x, QDense(2)(x)], name="m"),
        ["Model 'm'", "output is its input 'x'"],
    ),
}


@pytest.mark.parametrize("make,facts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_named_with_its_fix(make, facts: list[str]) -> None:
    problems = "\n".join(refused(make()))
    assert all(fact in problems for fact in facts), problems
    assert "Fix:" in problems


def test_every_problem_of_a_model_is_listed_at_once() -> None:
    model = chain(QDense(3, name="a"), keras.layers.ReLU(max_value=6, name="b"), seen=False)
    model.add(keras.layers.Activation("tanh", name="never reached"))
    problems = refused(model)
    assert [p.split(":")[0].strip("- ") for p in problems] == ["QDense 'a'"], (
        "what follows a refused layer is not judged"
    )
    x = keras.Input((3,), name="x")
    heads = [keras.layers.Dense(2, name="a")(x), keras.layers.Softmax(name="b")(x)]
    assert len(refused(keras.Model(x, heads))) == 2


def test_weights_that_are_nan_are_named() -> None:
    model = chain(QDense(3, name="d"))
    model.get_layer("d").kernel.assign(np.full((2, 3), np.nan))
    (problem,) = refused(model)
    assert "QDense 'd'" in problem and "NaN" in problem and "learning rate" in problem


def test_models_without_a_graph_are_refused() -> None:
    class Own(keras.Model):
        def call(self, x):
            return x

    assert "neither a Sequential nor a functional" in refused(Own(name="own"))[0]
    assert "Sequential 'later'" in refused(keras.Sequential([QDense(3)], name="later"))[0]
    assert (
        "hardware needs every size"
        in refused(
            keras.Sequential([keras.Input((None, 3)), QDense(2, input_quantizer=FracQuantizer(granularity="tensor"))])
        )[0]
    )


def test_a_model_whose_class_computes_something_else_than_its_graph_is_refused() -> None:
    class Twice(keras.Model):
        def call(self, x, training=None, mask=None):
            return 2 * super().call(x)

    class Negative(keras.Sequential):
        def call(self, x, training=None, mask=None):
            return -super().call(x)

    class Named(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    def made(kind: type[keras.Model], name: str) -> keras.Model:
        x = keras.Input((4,), name="x")
        return kind(x, QDense(3)(x), name=name)

    x = keras.Input((4,), name="x")
    own = [
        made(Twice, "own"),
        Negative([keras.Input((4,)), QDense(3)], name="own"),
        keras.Model(x, QDense(2)(made(Twice, "own")(x))),
    ]
    for model in own:
        (problem,) = refused(model)
        assert "'own': it has a call() of its own" in problem and "without call()" in problem
    model = made(Named, "net")
    calibrate(model, X[:, :, 0])
    exact(model, read_model(model))


def test_an_input_that_is_listed_twice_is_named() -> None:
    x = keras.Input((4,), name="x")
    assert "Input 'x': the model lists it more than once" in refused(keras.Model([x, x], QDense(3)(x)))[0]


def test_calls_with_further_arguments_are_refused() -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, QDense(2)(keras.layers.Dropout(0.5, name="drop")(x, training=True)))
    assert "Dropout 'drop'" in refused(model)[0] and "training=True" in refused(model)[0]


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.keras"
    file.write_bytes(content)
    with pytest.raises(ConversionError, match=r"m\.keras: this is no \.keras file"):
        load_model(file)
    with pytest.raises(ConversionError, match=r"nothing\.keras: there is no such file"):
        load_model(tmp_path / "nothing.keras")


def test_a_lambda_in_a_file_is_not_run(tmp_path: Path) -> None:
    x = keras.Input((3,))
    keras.Model(x, keras.layers.Lambda(lambda t: t * 2)(x)).save(tmp_path / "m.keras")
    with pytest.raises(ConversionError, match="layer 'lambda' is Python code"):
        load_model(tmp_path / "m.keras")
