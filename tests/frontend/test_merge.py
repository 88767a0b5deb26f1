"""Merges, moved elements, keras.ops, several inputs and outputs: what is read, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.ops import math as ops_math
from keras.src.ops import nn as ops_nn
from keras.src.ops import numpy as ops_numpy

from hgq.fixed import FixedType
from hgq.frontend import read_model
from hgq.frontend.operation import INSTEAD, OPERATIONS
from hgq.layers import QDense, QEinsumDense, QGlobalAveragePooling1D
from hgq.layers.function import FUNCTIONS
from hgq.quantizers import FracQuantizer
from tests.frontend.merge_models import MODELS, of, trained
from tests.frontend.test_model import exact, refused

L = keras.layers


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_is_what_its_graph_computes(make: Callable[[], keras.Model]) -> None:
    model = make()
    exact(model, read_model(model))


def test_a_shared_layer_and_a_shared_model_are_read_at_each_call() -> None:
    graph = read_model(MODELS["shared_and_nested"]())
    origins = {node.origin for node in graph}
    assert {"shared", "shared.2", "block/inside", "block.2/inside"} <= origins
    assert len(graph.outputs) == 6 and graph.outputs[1] == graph.outputs[2]


def test_inputs_keep_the_order_of_the_model_whichever_is_read_first() -> None:
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    model = trained(keras.Model([a, b], L.Add()([QDense(2)(QDense(3)(b)), QDense(2)(a)])))
    assert read_model(model).inputs == ("a", "b")


def test_moving_elements_costs_no_logic() -> None:
    from hgq.lower import lower

    design = lower(read_model(MODELS["slices"]()), "net")
    moves = re.compile("get_item|transpose|flip|stack|split|pad")
    found = {node.op for name, module in design.modules.items() if moves.search(name) for node in module.nodes}
    assert found == {"input"}, "outputs that are slices have modules, of wires only"


def test_a_port_whose_elements_are_moved_first_has_bits_only_where_something_reads_it() -> None:
    graph = read_model(MODELS["rearranged input"]())
    assert not graph["m"].types.width[0].any() and not graph["m"].types.width[:, 1::2].any()
    assert graph["m"].types.width[1:, ::2].any()
    stated = read_model(MODELS["rearranged input"](), FixedType.parse("s9f6"))
    assert {str(t) for t in stated["m"].types} == {"s9f6"}
    exact(MODELS["rearranged input"](), stated)


def repeated_raw_input() -> keras.Model:
    a = keras.Input((6,), name="a")
    return trained(keras.Model(a, QDense(2)(L.Flatten()(L.RepeatVector(2)(a)))), 3)


def shared_type() -> FracQuantizer:
    return FracQuantizer(granularity="tensor")


def two_shapes(layer: keras.Layer, a: keras.KerasTensor) -> keras.KerasTensor:
    return layer(L.Reshape((3, 2))(a)) + layer(L.Reshape((2, 2))(a[:, :4]))


REFUSED = {
    "a product of accumulators": (
        of(lambda a: L.Multiply(name="mul")([QDense(3)(a), QDense(3)(a)])),
        ["Multiply 'mul'", "no quantizer has narrowed", "QActivation"],
    ),
    "an average of three": (
        of(lambda a: L.Average(name="avg")([a, a, a])),
        ["Average 'avg'", "averages over 3 tensors", "average over 4"],
    ),
    "a mean of six": (of(lambda a: ops.mean(a, axis=1, keepdims=True)), ["Mean 'mean", "averages over 6 elements"]),
    "a constant of 24 bits": (
        of(lambda a: a * 0.3),
        ["Multiply 'multiply", "is 0.3, which has no exact", "round it"],
    ),
    "a division by a tensor": (of(lambda a: a / (a + 8)), ["'true_divide", "divides by a tensor", "reciprocal"]),
    "a sum over the batch": (of(lambda a: a - ops.sum(a, axis=0)), ["Sum 'sum", "reduces the batch axis", "axis=-1"]),
    "nothing left": (of(lambda a: ops.sum(a, axis=1)), ["Sum 'sum", "no axis but the batch", "keepdims"]),
    "a moved batch axis": (of(lambda a: ops.transpose(a)), ["Transpose 'transpose", "batch axis"]),
    "a layer on two shapes": (
        of(lambda a: two_shapes(QGlobalAveragePooling1D(input_quantizer=shared_type(), name="mean"), a)),
        ["QGlobalAveragePooling1D 'mean.2'", "of shape (2, 2), and was built for (3, 2)", "one layer for each shape"],
    ),
    "an einsum on two shapes": (
        of(lambda a: two_shapes(QEinsumDense("abc,cd->ad", 2, input_quantizer=shared_type(), name="e"), a)),
        ["QEinsumDense 'e.2'", "of shape (2, 2), and was built for (3, 2)"],
    ),
    "samples shifted by two": (of(lambda a: ops.roll(a, 2, axis=0)), ["Roll 'roll", "batch axis"]),
    "two samples": (of(lambda a: ops.take(a, [0, 1], axis=0)), ["Take 'take", "batch axis"]),
    "a batch of two": (of(lambda a: ops.reshape(a, (2, -1))), ["Reshape 'reshape", "batch axis"]),
    "a constant beyond 64 bits": (
        of(lambda a: a * np.array([2.0**70, 1, 1, 1, 1, 1])),
        ["Multiply 'multiply", "a constant is 1.18059e+21", "2^62"],
    ),
    "an inner model called by names": (
        of(lambda a: keras.Model(b := keras.Input((6,), name="b"), QDense(2)(b), name="inner")({"b": a})),
        ["Functional 'inner'", "called on a dict", "in the order of its inputs"],
    ),
    "ranks that differ": (
        of(lambda a, m: L.Add(name="add")([L.Reshape((6, 1, 1))(a), L.Flatten()(m[:, :3, :1])]), "a", "m"),
        ["Add 'add'", "shapes", "reshape it first"],
    ),
    "bilinear": (
        of(lambda m: L.UpSampling2D(interpolation="bilinear", name="up")(m), "m"),
        ["UpSampling2D 'up'", "interpolation='bilinear'", "nearest"],
    ),
    "a padding other than 0": (
        of(lambda a: ops.pad(a, ((0, 0), (1, 1)), constant_values=1)),
        ["Pad 'pad", "constant_values=1", "pad with 0"],
    ),
    "an initial": (of(lambda a: ops.max(a, axis=1, keepdims=True, initial=3.0)), ["Max 'max", "initial=3.0"]),
    "an operation": (of(lambda a: ops.cumsum(a, axis=1)), ["Cumsum 'cumsum", "no form in hardware", "supported are"]),
    "a softmax": (of(lambda a: ops.softmax(a)), ["Softmax 'softmax", "no form in hardware", "hgq.layers.QSoftmax"]),
    "a table": (of(lambda a: ops.sigmoid(a)), ["Sigmoid 'sigmoid", "hgq.layers.QFunction('sigmoid')"]),
    "a table of one's own": (of(lambda a: ops.sqrt(a)), ["Sqrt 'sqrt", "calls keras.ops.sqrt", "register_keras"]),
    "a slope": (
        of(lambda a: L.LeakyReLU(negative_slope=0.3, name="leaky")(a)),
        ["LeakyReLU 'leaky'", "0.3", "round it"],
    ),
    "a threshold": (of(lambda a: L.ReLU(threshold=1.0, name="r")(a)), ["ReLU 'r'", "threshold=1.0"]),
    "two limits": (
        of(lambda a: L.ReLU(max_value=2.0, negative_slope=0.5, name="r")(a)),
        ["ReLU 'r'", "negative_slope=0.5 together with max_value=2.0"],
    ),
    "a repeated raw input with several types": (
        repeated_raw_input,
        ["model input 'a'", "in several ways, after it was repeated", "QActivation"],
    ),
    "a layer inside a model": (
        of(lambda a: keras.Sequential([keras.Input((6,)), L.Dense(2, name="d")], name="inner")(a)),
        ["Dense 'inner/d'", "hgq.layers.QDense"],
    ),
}


def test_what_to_use_in_place_of_an_operation_names_operations_and_tables_that_exist() -> None:
    homes = [ops_nn, ops_numpy, ops_math]
    unknown = [kind for kind in INSTEAD if not any(hasattr(home, kind) for home in homes)]
    assert unknown == [] and not INSTEAD.keys() & OPERATIONS.keys()
    tables = re.findall(r"QFunction\('(\w+)'\)", " ".join(INSTEAD.values()))
    assert tables and set(tables) <= FUNCTIONS.keys()


@pytest.mark.parametrize("make,facts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_named_with_its_fix(make: Callable[[], keras.Model], facts: list[str]) -> None:
    problems = "\n".join(refused(make()))
    assert all(fact in problems for fact in facts), problems
    assert "Fix:" in problems


def test_models_come_back_from_files_with_their_slices_and_operators(tmp_path) -> None:
    for name in ("slices", "arithmetic", "shared_and_nested"):
        model = MODELS[name]()
        model.save(tmp_path / "m.keras")
        assert str(read_model(keras.saving.load_model(tmp_path / "m.keras"))) == str(read_model(model)), name
