"""What a file of another library holds and has no exact counterpart is refused by the layer's name, with a fix."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest

import hgq
from hgq.errors import ConversionError
from hgq.importers.archive import group_name
from hgq.importers.hgq2 import HANDLERS as HGQ2
from hgq.importers.qkeras import HANDLERS as QKERAS
from hgq.layers import QDense
from tests.importers.golden import GOLDEN, layer

Change = Callable[[dict[str, Any]], Any]


def set_in(name: str, *path: str, to: Any) -> Change:
    """Sets an attribute of a layer, or of what it holds."""

    def change(config: dict[str, Any]) -> None:
        held = layer(config, name)
        for key in path[:-1]:
            held = held[key]
        held[path[-1]] = to

    return change


def class_of(name: str, to: str) -> Change:
    """Makes a layer one of another class."""

    def change(config: dict[str, Any]) -> None:
        one = next(one for one in config["config"]["layers"] if one["config"]["name"] == name)
        one["class_name"] = to

    return change


def quantizer(name: str, key: str, to: Any) -> Change:
    return set_in(name, "iq_conf", "config", key, to=to)


REFUSED: dict[str, tuple[str, Change, list[str]]] = {
    "wrapping by mirroring": ("hgq2-dense", quantizer("q_dense", "overflow_mode", "WRAP_SM"), ["iq", "'WRAP_SM'"]),
    "rounding to zero": ("hgq2-dense", quantizer("q_dense", "round_mode", "RND_ZERO"), ["iq", "'RND_ZERO'"]),
    "floating point": ("hgq2-dense", quantizer("q_dense_1", "q_type", "float"), ["'q_dense_1'", "q_type='float'"]),
    "a scaler": ("hgq2-dense", quantizer("q_dense", "scaler", 3.0), ["scaler=3.0"]),
    "another quantizer": ("hgq2-dense", set_in("q_dense", "iq_conf", "class_name", to="HardTanhConfig"), ["HardTanh"]),
    "a function": ("hgq2-dense", set_in("q_dense", "activation", to="tanh"), ["'q_dense'", "activation='tanh'"]),
    "half precision": ("hgq2-dense", set_in("q_dense", "dtype", to="float16"), ["dtype='float16'"]),
    "an unknown attribute": ("hgq2-dense", set_in("q_dense", "twist", to=2), ["twist=2 is not known", "without twist"]),
    "channels first": ("hgq2-conv", set_in("first", "data_format", to="channels_first"), ["'first'", "channels_first"]),
    "a lambda": ("hgq2-conv", class_of("reshape", "Lambda"), ["Lambda 'reshape'", "never run"]),
    "a softmax of HGQ2": ("hgq2-conv", class_of("mean", "QSoftmax"), ["QSoftmax 'mean'", "logits"]),
    "stochastic weights": (
        "qkeras-scales",
        set_in("b", "kernel_quantizer", to="stochastic_binary(alpha=1)"),
        ["'b'", "stochastic_binary", "train with binary"],
    ),
    "stochastic rounding": (
        "qkeras-dense",
        set_in("relu", "activation", to="quantized_relu(4,1,use_stochastic_rounding=True)"),
        ["'relu'", "use_stochastic_rounding=True", "not the same from one call to the next"],
    ),
    "a scale of any size": (
        "qkeras-scales",
        set_in("a", "kernel_quantizer", to="quantized_bits(4,0,1,alpha='auto')"),
        ["'a'", "alpha='auto' scales by", "no power of two", "auto_po2"],
    ),
    "a leaky relu": (
        "qkeras-dense",
        set_in("relu", "activation", to="quantized_relu(4,1,negative_slope=0.25)"),
        ["negative_slope=0.25", "no exact meaning"],
    ),
    "powers of two": (
        "qkeras-dense",
        set_in("a", "kernel_quantizer", to="quantized_relu_po2(4)"),
        ["quantized_relu_po2"],
    ),
    "a real tanh": (
        "qkeras-dense",
        set_in("tanh", "activation", to="quantized_tanh(6,use_real_tanh=True)"),
        ["'tanh'", "use_real_tanh=True"],
    ),
    "code in a quantizer": (
        "qkeras-dense",
        set_in("tanh", "activation", to="quantized_tanh(__import__('os').getpid())"),
        ["'tanh'", "cannot be read"],
    ),
    "float weights": ("qkeras-dense", set_in("a", "kernel_quantizer", to=None), ["'a'", "kernel_quantizer=None"]),
    "float inputs": (
        "qkeras-dense",
        set_in("grid", "activation", to="linear"),
        ["model input 'x'", "input_type='s16f8'"],
    ),
    "a softmax": ("qkeras-dense", set_in("sigmoid", "activation", to="softmax"), ["softmax", "drop_softmax=True"]),
    "a normalisation": (
        "qkeras-dense",
        class_of("relu", "QBatchNormalization"),
        ["QBatchNormalization 'relu'", "fold"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_exact_counterpart_is_refused_by_name(name: str, tmp_path: Path) -> None:
    golden, change, said = REFUSED[name]
    with pytest.raises(ConversionError) as error:
        hgq.load(GOLDEN[golden].changed(tmp_path, change))
    assert [text for text in [*said, "Fix:"] if text not in str(error.value)] == []


def test_every_problem_of_a_model_is_named_once(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        set_in("q_dense", "twist", to=2)(config)
        set_in("q_dense_1", "turn", to=3)(config)

    with pytest.raises(ConversionError) as error:
        hgq.load(GOLDEN["hgq2-dense"].changed(tmp_path, change))
    assert len(error.value.problems) == 1 and "twist" in error.value.problems[0]  # what reads it is not judged


def dataset_names(group: h5py.Group) -> list[str]:
    found: list[str] = []
    group.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


DAMAGED: dict[str, tuple[str, Change, str]] = {
    "sizes": ("hgq2-dense", set_in("q_dense", "units", to=10**12), "q_dense' has units=1,000,000,000,000"),
    "other sizes": ("hgq2-dense", set_in("q_dense", "units", to=3), r"'q_dense': .*shape"),
    "no layer": ("hgq2-dense", lambda config: config["config"]["layers"].append(7), "7 is no layer"),
    "no flow": ("hgq2-conv", lambda c: c["config"]["layers"][-1].update(inbound_nodes=[7]), "cannot be followed"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_configuration_is_refused(name: str, tmp_path: Path) -> None:
    golden, change, said = DAMAGED[name]
    with pytest.raises(ConversionError, match=said):
        hgq.load(GOLDEN[golden].changed(tmp_path, change))


def test_a_softmax_that_other_layers_read_is_not_dropped(tmp_path: Path) -> None:
    path = GOLDEN["qkeras-dense"].changed(tmp_path, set_in("relu", "activation", to="softmax"))
    with pytest.raises(ConversionError, match="'relu': softmax that other layers read is not at the end"):
        hgq.load(path, drop_softmax=True)


def test_options_that_a_file_has_no_use_for_are_refused(tmp_path: Path) -> None:
    path = GOLDEN["hgq2-dense"].written(tmp_path)
    ours = keras.Sequential([keras.Input((2,)), QDense(1)])
    ours.save(tmp_path / "ours.keras")
    with pytest.raises(ConversionError, match=r"weights='w\.h5' is for a \.json file"):
        hgq.load(path, weights="w.h5")
    with pytest.raises(ConversionError, match="types is for models of other libraries"):
        hgq.load(tmp_path / "ours.keras", types="s8f6")
    with pytest.raises(ConversionError, match="input_type is for models of other libraries"):
        hgq.load(tmp_path / "ours.keras", input_type="s16f8")
    with pytest.raises(ValueError, match="types= are for model files"):
        hgq.convert(ours, tmp_path / "out", types="s8f6")
    with pytest.raises(ValueError, match="input_type: 'z'"):
        hgq.load(path, input_type="z")
    with pytest.raises(ConversionError, match="drop_softmax: the model ends with no softmax"):
        hgq.load(path, drop_softmax=True)


def test_files_that_are_no_models_are_refused_whole(tmp_path: Path) -> None:
    weights, empty, cut = tmp_path / "w.h5", tmp_path / "e.json", tmp_path / "cut.keras"
    with h5py.File(weights, "w") as file:
        file["a"] = 1
    empty.write_text("{}")
    cut.write_bytes(GOLDEN["hgq2-dense"].content[:2000])
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as odd:
        odd.writestr("config.json", "[" * 100_000)
        odd.writestr("model.weights.h5", b"")
    whole = GOLDEN["hgq2-dense"].content
    middle = len(whole) // 2
    (tmp_path / "flip.keras").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    huge = GOLDEN["qkeras-dense"].written(tmp_path)
    with h5py.File(huge, "r+") as file:
        place = next(name for name in dataset_names(file["model_weights"]) if "kernel" in name)
        del file["model_weights"][place]
        file["model_weights"].create_dataset(place, shape=(10**7, 10**6), chunks=(99, 99), dtype="f4")
    for path, said in (
        (weights, "weights, but not the model"),
        (empty, "no Sequential or functional model"),
        (cut, "cut off after 2,000 bytes"),
        (tmp_path / "flip.keras", "another checksum"),
        (tmp_path / "odd.keras", "damaged.*recursion"),
        (huge, r"kernel.*\(10000000, 1000000\) is larger than the file"),
        (tmp_path / "none.h5", "no such file"),
        (tmp_path / "m.onnx", "damaged or no ONNX file"),
    ):
        with pytest.raises(ConversionError, match=said):
            hgq.load(path)


def test_every_class_of_the_tables_is_in_a_golden_model_or_said_not_to_be() -> None:
    seen = set()
    for golden in GOLDEN.values():
        text = golden.content
        if golden.file.endswith(".keras"):
            with zipfile.ZipFile(io.BytesIO(text)) as file:
                text = file.read("config.json")
        seen |= {name for name in {*HGQ2, *QKERAS} if f'"{name}"'.encode() in text}
    alike = {
        *("QMaxPooling1D", "QGlobalMaxPooling1D", "QGlobalMaxPooling2D", "QAveragePooling1D"),
        *("QGlobalAveragePooling2D", "QConv2DTranspose", "QSeparableConv1D", "QDepthwiseConv2DBatchnorm"),
    }
    assert {name for name in {*HGQ2, *QKERAS} if name.startswith("Q")} - seen == alike


def test_groups_of_keras_3_are_named_as_keras_names_them() -> None:
    names = [group_name("QConv2D", 0), group_name("QBatchNormDense", 1), group_name("QEinsumDenseBatchnorm", 0)]
    assert names == ["q_conv2d", "q_batch_norm_dense_1", "q_einsum_dense_batchnorm"]
