"""Small ONNX graphs whose meaning is easily mistaken: computed as ONNX does, or refused by the name of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hgq
from hgq.errors import ConversionError


def written(tmp_path: Path, shape: list[int], nodes: list[tuple], opset: int = 21) -> Path:
    """A graph from "x" to "y"; a node is (kind, inputs, output, attributes), an array among its inputs a constant."""
    constants: list[onnx.TensorProto] = []
    made = []
    for kind, inputs, output, attributes in nodes:
        names = []
        for one in inputs:
            if not isinstance(one, str):
                constants.append(numpy_helper.from_array(np.asarray(one), f"c{len(constants)}"))
                one = constants[-1].name
            names.append(one)
        domain = "qonnx.custom_op.general" if kind == "Quant" else ""
        made.append(helper.make_node(kind, names, [output], name=f"{kind}_{output}", domain=domain, **attributes))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(made, "g", [x], [y], constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("qonnx.custom_op.general", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def quant(x: Any, output: str, scale: Any, bits: int = 6) -> tuple:
    return "Quant", [x, np.float32(scale), np.float32(0), np.float32(bits)], output, {"signed": 1, "narrow": 0}


WEIGHTS = np.array([[5, -3, 2], [-1, 4, 7], [3, 3, -6], [0, 1, 2]], np.float32) / 4
PLACES = np.array([[[0.5, -3, 0.75, 2.25, -1, 0.5]]], np.float32)
POOL: dict[str, Any] = {"kernel_shape": [3], "strides": [1], "pads": [1, 1]}


def test_quantizelinear_rounds_before_it_adds_its_zero_point(tmp_path: Path) -> None:
    floats, scale, zero = (np.arange(12, dtype=np.float32) - 5).reshape(4, 3) / 8, np.float32(0.25), np.int8(3)
    path = written(
        tmp_path,
        [1, 4],
        [
            quant("x", "q", 1),
            ("QuantizeLinear", [floats, scale, zero], "n", {}),
            ("DequantizeLinear", ["n", scale, zero], "w", {}),
            ("MatMul", ["q", "w"], "y", {}),
        ],
    )
    y = np.asarray(hgq.load(path)(np.eye(4, dtype=np.float32)))
    assert np.array_equal(y, np.rint(floats / scale) * scale)  # every other one is a tie


def test_max_pooling_comes_after_sums_that_differ_from_place_to_place(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [1, 2, 6],
        [quant("x", "q", 0.25), ("Add", ["q", PLACES], "s", {}), ("MaxPool", ["s"], "m", POOL), quant("m", "y", 0.25)],
    )
    x = np.random.default_rng(0).integers(-16, 17, (9, 2, 6)).astype(np.float32) / 4
    padded = np.pad(x + PLACES, ((0, 0), (0, 0), (1, 1)), constant_values=-np.inf)
    want = np.max([padded[..., n : n + 6] for n in range(3)], axis=0)
    assert np.array_equal(np.asarray(hgq.load(path)(x)), want)


REFUSED: dict[str, tuple[list[int], list[tuple], dict[str, Any], str]] = {
    "a scale in front of a bias": (
        [1, 4],
        [
            quant("x", "q", 0.25),
            quant(WEIGHTS, "w", 0.3),
            ("MatMul", ["q", "w"], "s", {}),
            ("Add", ["s", np.array([5, -4, 0.5], np.float32)], "y", {}),
        ],
        {"drop_softmax": True},
        r"output 'y'[\s\S]*the scale 0\.3 in front of it is no power of two",
    ),
    "codes of a type beside": (
        [1, 4],
        [
            ("QuantizeLinear", ["x", np.float32(0.25)], "n", {"output_dtype": TensorProto.INT8}),
            ("DequantizeLinear", ["n", np.float32(0.25)], "y", {}),
        ],
        {"input_type": "s10f2"},
        "QuantizeLinear_n.*output_dtype",
    ),
    "a bound of long ago": (
        [1, 4],
        [
            ("QuantizeLinear", ["x", np.float32(0.25), np.int8(0)], "n", {}),
            ("Clip", ["n"], "c", {"min": 0.0}),
            ("DequantizeLinear", ["c", np.float32(0.25), np.int8(0)], "y", {}),
        ],
        {"input_type": "s10f2"},
        "Clip_c.*bounds are attributes",
    ),
    "places of several scales": (
        [1, 2, 6],
        [quant("x", "q", np.abs(PLACES) + 0.1), ("MaxPool", ["q"], "m", POOL), quant("m", "y", 0.25)],
        {"input_type": "s12f6"},
        "MaxPool_m.*positions whose scales differ",
    ),
    "an average of places of several scales": (
        [1, 2, 6],
        [
            quant("x", "q", np.abs(PLACES) + 0.1),
            ("AveragePool", ["q"], "m", POOL | {"kernel_shape": [4], "pads": [1, 2], "count_include_pad": 1}),
            quant("m", "y", 0.25),
        ],
        {"input_type": "s12f6"},
        "AveragePool_m.*positions whose scales differ",
    ),
    "a bias for each sample": (
        [3, 4],
        [
            quant("x", "q", 0.25),
            quant(WEIGHTS, "w", 0.25),
            ("Gemm", ["q", "w", np.array([[1], [2], [4]], np.float32)], "y", {}),
        ],
        {},
        r"Gemm_y.*\(3, 1\) differs from sample to sample",
    ),
    "no batch": (
        [1, 1, 4, 6],
        [quant("x", "q", 0.25), ("Squeeze", ["q"], "s", {}), ("Flatten", ["s"], "y", {})],
        {},
        "Squeeze_s.*with them the batch",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mean_something_else_here_is_refused(name: str, tmp_path: Path) -> None:
    shape, nodes, options, said = REFUSED[name]
    with pytest.raises(ConversionError, match=said):
        hgq.load(written(tmp_path, shape, nodes), **options)
