"""QONNX files: what they may not hold, what their nodes may not do, and the staircases that normalisations become."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hgq
from hgq.errors import ConversionError
from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx import OPERATIONS, QUANTIZERS
from hgq.importers.qonnx.file import read_file
from hgq.importers.qonnx.fold import FOLDED
from hgq.importers.qonnx.staircase import NoLine, lines
from tests.importers.golden import GOLDEN

Change = Callable[[onnx.ModelProto], Any]


def model_of(name: str) -> onnx.ModelProto:
    return onnx.load(io.BytesIO(GOLDEN[f"qonnx-{name}"].content))


def node(model: onnx.ModelProto, kind: str, number: int = 0) -> onnx.NodeProto:
    return [one for one in model.graph.node if one.op_type == kind][number]


def test_integer_constants_are_divided_and_raised_as_onnx_does() -> None:
    """Towards 0, and of the type of the base: an exponent of 0.5 is no 0."""
    x, y = np.array([-7, 7, -7, 7, -6, 0]), np.array([2, -2, -2, 2, 3, -5])
    divided = FOLDED["Div"](None, [x, y], 13)
    assert divided.tolist() == [-3, -3, 3, 3, -2, 0] and divided.dtype == x.dtype
    assert FOLDED["Div"](None, [np.uint8([7]), np.uint8([2])], 13).tolist() == [3]
    with pytest.raises(Unconvertible, match="by 0"):
        FOLDED["Div"](None, [x, y * 0], 13)
    raised = FOLDED["Pow"](None, [np.array([4, 9]), np.float32([0.5])], 13)
    assert raised.tolist() == [2, 3] and raised.dtype == np.int64


def attribute(kind: str, name: str, to: Any, number: int = 0) -> Change:
    def change(model: onnx.ModelProto) -> None:
        one = node(model, kind, number)
        kept = [a for a in one.attribute if a.name != name]
        del one.attribute[:]
        one.attribute.extend([*kept, helper.make_attribute(name, to)])

    return change


def constant(kind: str, place: int, to: Any, number: int = 0) -> Change:
    """Another constant in place of an input of a node."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(to, np.float32), "other"))
        node(model, kind, number).input[place] = "other"

    return change


def kind_of(kind: str, to: str, number: int = 0, domain: str = "") -> Change:
    def change(model: onnx.ModelProto) -> None:
        one = node(model, kind, number)
        one.op_type, one.domain = to, domain

    return change


def no_quant(number: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        one = node(model, "Quant", number)
        one.op_type, one.domain = "Identity", ""
        del one.input[1:], one.attribute[:]

    return change


REFUSED: dict[str, tuple[str, Change, list[str]]] = {
    "an operator": ("dense", kind_of("Relu", "Sigmoid"), ["Sigmoid 'relu", "not supported", "QFunction"]),
    "a domain": ("dense", kind_of("Relu", "Relu", domain="my.ops"), ["Relu 'relu", "domain 'my.ops'"]),
    "a zero point": ("dense", constant("Quant", 2, 0.5), ["Quant 'quant", "zero point is 0.5", "symmetric"]),
    "a zero point beyond": ("dense", constant("Quant", 2, 200), ["Quant 'quant", "200 lies outside -128..127"]),
    "codes without scale": ("codes", kind_of("Relu", "QuantizeLinear"), ["QuantizeLinear 'relu", "scale is missing"]),
    "codes that something else reads": (
        "codes",
        kind_of("DequantizeLinear", "Relu", 2),
        ["Relu 'dequantize", "reads the whole numbers of a QuantizeLinear"],
    ),
    "another scale": ("codes", constant("DequantizeLinear", 1, 0.3, 2), ["Dequantize", "0.3 is not that of its"]),
    "odd bounds": ("codes", constant("Clip", 1, -5), ["numbers end at -5 and 7", "number of bits"]),
    "a Clip of data": ("dense", kind_of("Relu", "Clip"), ["Clip 'relu", "not supported", "saturate"]),
    "a scale of 0": ("dense", constant("Quant", 1, 0), ["Quant 'quant", "scale is 0"]),
    "half a bit": ("dense", constant("Quant", 3, 7.5), ["Quant 'quant", "bit width is 7.5"]),
    "upwards": ("dense", attribute("Quant", "rounding_mode", "CEIL"), ["Quant 'quant", "'CEIL' of signed data"]),
    "some rounding": ("dense", attribute("Quant", "rounding_mode", "DICE"), ["'DICE' is not known", "FLOOR"]),
    "unsigned and narrow": ("dense", attribute("Quant", "narrow", 1, 2), ["Quant 'quant", "largest integer is 14"]),
    "float kernels": ("dense", no_quant(1), ["MatMul 'matmul", "kernel is not quantised", "weight_quant"]),
    "float sums at the end": ("scales", no_quant(-1), ["output 'quant", "Gemm 'gemm", "no exact meaning", "a Quant"]),
    "a shift at the end": (
        "dense",
        constant("Sub", 1, 0.3),
        ["output 'mul", "Sub 'sub", "such as -0.3", "no Quant rounds", "put a Quant behind it", "--drop-softmax"],
    ),
    "training": ("dense", attribute("BatchNormalization", "training_mode", 1), ["training_mode=1", "evaluation"]),
    "an attribute": ("dense", attribute("MatMul", "twist", 7), ["MatMul", "twist=7 is not known"]),
    "transposed inputs": ("dense", attribute("Gemm", "transA", 1), ["Gemm", "transA"]),
    "a factor": ("dense", attribute("Gemm", "alpha", 0.5), ["Gemm", "alpha=0.5"]),
    "pads of poolings": ("image", attribute("MaxPool", "pads", [1, 0, 0, 0]), ["MaxPool", "pads", "without pads"]),
    "the batch moved": ("bare", attribute("Transpose", "perm", [3, 0, 1, 2]), ["Transpose", "batch axis"]),
    "pads without end": ("sequence", attribute("Conv", "pads", [10**9, 0]), ["Conv", "1000000000", "256"]),
    "groups": ("sequence", attribute("Conv", "group", 3), ["Conv", "does not fit 4 channels"]),
    "a batch of two": ("scales", constant("Reshape", 1, 0), ["Reshape"]),
    "different scales": ("scales", constant("Quant", 1, 0.05, 4), ["Add", "differ", "same quantizer"]),
    "one sum of several scales": (
        "scales",
        constant("Quant", 1, np.linspace(0.1, 0.2, 12).reshape(1, 3, 2, 2), 1),
        ["Conv", "inputs of one sum have different scales", "POWER_OF_TWO"],
    ),
    "an average of three": (
        "image",
        attribute("AveragePool", "kernel_shape", [3, 1]),
        ["AveragePool", "3x1", "2, 4, 8"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_exact_counterpart_is_refused_by_the_name_of_the_node(name: str, tmp_path: Path) -> None:
    golden, change, said = REFUSED[name]
    model = model_of(golden)
    change(model)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ConversionError) as error:
        hgq.load(tmp_path / "m.onnx", input_type="s10f7")
    assert [text for text in [*said, "Fix:"] if text not in str(error.value)] == []


def test_an_input_that_nothing_quantises_and_a_softmax_are_asked_about(tmp_path: Path) -> None:
    path = GOLDEN["qonnx-bare"].written(tmp_path)
    with pytest.raises(ConversionError, match=r"reads the model input 'x'[\s\S]*--input-type"):
        hgq.load(path, drop_softmax=True)
    with pytest.raises(ConversionError, match=r"Softmax 'softmax[\s\S]*--drop-softmax"):
        hgq.load(path, input_type="s10f7")
    with pytest.raises(ConversionError, match="types is for other files"):
        hgq.load(path, types="s8f6")
    with pytest.raises(ConversionError, match="drop_softmax: there is nothing at its end to leave out"):
        hgq.load(GOLDEN["qonnx-image"].written(tmp_path), input_type="s10f7", drop_softmax=True)


def external(location: str, length: int = 1536) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(one for one in model.graph.initializer if len(one.dims) == 2)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", str(length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def cycle(model: onnx.ModelProto) -> None:
    node(model, "MatMul").input[0] = node(model, "Relu").output[0]


def huge(model: onnx.ModelProto) -> None:
    next(one for one in model.graph.initializer if len(one.dims) == 2).dims[:] = [1 << 40, 1 << 20]


def claimed(model: onnx.ModelProto) -> None:
    next(one for one in model.graph.initializer if len(one.dims) == 2).dims[0] += 1


def function(model: onnx.ModelProto) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("my", "Twice", ["x"], ["y"], [relu], model.opset_import))


def branch(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    node(model, "Relu").attribute.append(helper.make_attribute("then_branch", graph))


def free_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"


def version(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def text(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(helper.make_tensor("c0", TensorProto.STRING, [1], [b"a"]))


BROKEN: dict[str, tuple[Change, str]] = {
    "a cycle": (cycle, "is part of a cycle"),
    "a constant that is missing": (lambda m: m.graph.initializer.pop(0), "reads 'c0', which nothing makes"),
    "a tensor made twice": (lambda m: m.graph.node.append(m.graph.node[0]), "is made twice, again by Quant"),
    "an input that is there twice": (
        lambda m: m.graph.input.append(m.graph.input[0]),
        "two inputs are named",
    ),
    "no output": (lambda m: setattr(m.graph.output[0], "name", "nothing"), "output 'nothing' is made by no node"),
    "a huge tensor": (huge, r"has shape \(1099511627776, 1048576\)"),
    "a tensor of more than it holds": (claimed, "holds 192 bytes, not 216"),
    "data elsewhere": (external("../../etc/passwd"), "no file name in the model's own folder"),
    "data in a folder": (external("/etc/passwd"), "no file name in the model's own folder"),
    "data that are missing": (external("w.bin"), "lie in 'w.bin', which is not there"),
    "a function of its own": (function, "functions of its own"),
    "control flow": (branch, "'then_branch' of a kind that is not read"),
    "a free size": (free_size, r"shape \(1, '\?'\); only the first size"),
    "an unknown version": (version, "opset 99"),
    "text": (text, "element type 8"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_or_hostile_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    change, said = BROKEN[name]
    model = model_of("dense")
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match=said) as error:
        hgq.load(tmp_path / "m.onnx")
    assert len(error.value.problems) == 1


def test_a_file_that_is_cut_off_or_changed_anywhere_is_an_error_or_a_model(tmp_path: Path) -> None:
    whole, rng = GOLDEN["qonnx-dense"].content, np.random.default_rng(0)
    file = tmp_path / "m.onnx"
    refused = 0
    for n in range(100):
        place = int(rng.integers(len(whole)))
        file.write_bytes(whole[:place] if n % 2 else whole[:place] + bytes([rng.integers(256)]) + whole[place + 1 :])
        try:
            (hgq.load if n % 50 == 0 else read_file)(file)
        except ConversionError:
            refused += 1
    assert refused >= 55


def test_data_beside_the_model_are_read(tmp_path: Path) -> None:
    golden = GOLDEN["qonnx-dense"]
    onnx.save(model_of("dense"), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").stat().st_size > 1000
    apart, whole = (read_file(path).constants for path in (tmp_path / "m.onnx", golden.written(tmp_path)))
    assert list(apart) == list(whole)
    assert all(np.array_equal(apart[name], whole[name]) for name in whole)
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes()[:-9])
    with pytest.raises(ConversionError, match=r"not whole in 'w\.bin'"):
        read_file(tmp_path / "m.onnx")


def test_without_the_package_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConversionError, match=r"pip install 'hgq-fpga\[onnx\]'"):
        hgq.load(GOLDEN["qonnx-dense"].written(tmp_path))


def test_every_operator_of_the_table_is_in_a_golden_model() -> None:
    names = [name for name in GOLDEN if name.startswith("qonnx-")]
    models = [onnx.load(io.BytesIO(GOLDEN[name].content)) for name in names]
    assert {*OPERATIONS, *QUANTIZERS} - {one.op_type for model in models for one in model.graph.node} == set()


def test_an_imported_model_can_be_trained_on_and_keeps_its_ports(tmp_path: Path) -> None:
    model = hgq.load(GOLDEN["qonnx-sequence"].written(tmp_path))
    assert [tuple(t.shape[1:]) for t in (*model.inputs, *model.outputs)] == [(4, 9), (3,), (8, 9)]
    kernel = next(layer for layer in model.layers if layer.name.startswith("conv")).kernel
    with_latent = keras.ops.convert_to_numpy(kernel) * 8
    assert not np.array_equal(with_latent, np.round(with_latent))  # as trained, not as rounded


STAIRS = {"a sign": (-1, 0), "two bits": (-1, 1), "without sign": (0, 15), "eight bits": (-128, 127)}


@pytest.mark.parametrize("name", STAIRS)
def test_a_line_has_the_levels_of_a_floating_point_normalisation_for_every_sum(name: str) -> None:
    bottom, top = STAIRS[name]
    rng = np.random.default_rng(0)
    channels = 24
    lo, hi = rng.integers(-3000, 0, channels), rng.integers(1, 3000, channels)
    scale = rng.normal(0, (top - bottom + 1) / 4000, channels).astype(np.float32)
    scale[:2] = 0, 1e-9
    offset = rng.normal(0, (top - bottom) / 4 + 0.5, channels).astype(np.float32)

    def level(t: np.ndarray) -> np.ndarray:
        y = t.astype(np.float32) * scale + offset
        return np.where(y >= 0, 0, -1) if top == 0 else np.clip(np.rint(y), bottom, top)

    found = lines(level, level, lo, hi, scale.astype(np.float64), bottom, top)
    for c, line in enumerate(found):
        t = np.arange(lo[c], hi[c] + 1)
        made = np.clip((line.m * t + line.b) * 2.0**-line.f // 1, bottom, top)
        assert np.array_equal(made, level(np.repeat(t[:, None], channels, 1))[:, c])
    steps = 6000 * (top - bottom + 1)  # 24 bits of scale and more of offset tell no more apart
    assert max(abs(line.m) for line in found) < steps


def test_what_is_no_line_is_said_to_be_none() -> None:
    def bent(t: np.ndarray) -> np.ndarray:
        return np.clip(np.floor(np.where(t > 0, t * 0.5, t * 0.1)), -8, 7)

    with pytest.raises(NoLine, match="fractional bits"):
        lines(bent, bent, np.array([-200]), np.array([200]), np.array([0.5]), -8, 7)
