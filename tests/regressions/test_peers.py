"""What other toolchains convert wrongly or not at all, each as a test of its own; one project, built once.

Numbers are issues of hls4ml unless another name stands before them. Attention, which others convert silently wrong, is
built in tests/test_einsum_hardware.py and compared with Keras' own in tests/frontend/test_einsum.py; a test bench that
passes whatever it should expect (459) in rtl_tests/test_project.py.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import hgq
from hgq import layers as q
from hgq.emit.hls4ml import emit_hls4ml
from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.ir import Node, evaluate
from hgq.ir.graph import Builder
from hgq.project import Project
from hgq.quantizers import FracQuantizer, WidthQuantizer
from hgq.training import calibrate

pytestmark = [pytest.mark.rtl, pytest.mark.hls]
L = keras.layers


def sample(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    x = rng.normal(size=(count, 5, 3)) * 2
    x[..., 2] = rng.uniform(-1.2, 0.3, (count, 5))  # rounds to -1 or 0
    return {"x": x.astype("float32"), "pixels": rng.integers(0, 256, (count, 2)).astype("float32")}


def per_channel(**options) -> FracQuantizer:
    return FracQuantizer(granularity="channel", **options)


def model() -> keras.Model:
    keras.utils.set_random_seed(4)
    x, pixels = keras.Input((5, 3), name="x"), keras.Input((2,), name="pixels")
    front = q.QActivation("linear", input_quantizer=per_channel(f0=3, overflow="SAT"), name="front")(x)
    h = q.QConv1D(2, 1, name="pointwise")(front)
    coarse = q.QActivation("linear", input_quantizer=per_channel(f0=1, overflow="SAT"), name="coarse")(front)
    fine = WidthQuantizer(b0=4, i0=1, overflow="SAT", granularity="channel")
    tiny = WidthQuantizer(b0=20, i0=-24, overflow="SAT_SYM")
    outputs = [
        q.QConv1D(2, 3, padding="same", dilation_rate=2, name="dilated")(front),
        h + h,
        q.QFunction("tanh", name="tanh")(h),
        q.QConv1D(2, 1, name="pruned")(front),
        q.QActivation("linear", input_quantizer=fine, name="fine")(coarse),
        q.QConv1D(1, 1, use_bias=False, kernel_quantizer=tiny, name="tiny")(front),
        q.QActivation("linear", input_quantizer=per_channel(f0=0, overflow="SAT_SYM"), name="one_bit")(front[..., 2:]),
        front[:, 1:3],
        q.QDense(1, input_quantizer=per_channel(f0=0), name="unsigned")(pixels),
        L.MaxPooling1D(1, strides=2, name="strided")(front),
        L.ZeroPadding1D((1, 2), name="padded")(front),
    ]
    made = keras.Model([x, pixels], outputs, name="peers")
    made.get_layer("tiny").kernel.assign(np.array([[[5.0], [-3], [1]]]) * 2.0**-44)
    f = made.get_layer("pruned").input_quantizer.f
    f.assign(np.where(np.arange(3) == 1, -20.0, np.array(f)))
    calibrate(made, sample(np.random.default_rng(0), 300))
    return made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    out = tmp_path_factory.mktemp("peers") / "peers"
    data = sample(np.random.default_rng(1), 1000)
    data["x"] *= 1.5  # beyond what calibration saw
    return hgq.convert(model(), out, verify=data, corners=500, io_type="io_stream")


def of(project: Project, layer: str, op: str) -> Node:
    """The last node of an op that a layer has."""
    return [node for node in project.graph if node.origin.startswith(layer) and node.op == op][-1]


def front(project: Project, x: dict[str, np.ndarray]) -> np.ndarray:
    """The values of port x."""
    return project.encode(x)[0] * 2.0 ** -project.graph["x"].types.frac


def test_every_engine_computes_what_keras_does(project: Project) -> None:
    engines = project.report["verification"]["engines"]
    assert len(engines) == 4 and {e["differences"] for e in engines.values()} == {0}
    assert [e["vectors"] for name, e in engines.items() if "protocol" not in name] == [1500] * 3


def test_streams_with_types_per_channel_are_not_refused(project: Project) -> None:
    assert project.report["options"]["io_type"] == "io_stream"
    assert len({str(t) for t in list(of(project, "pruned", "quantize").types)[:3]}) == 3
    assert "hls::stream<" in (project.path / "hls4ml" / "firmware" / "peers.h").read_text()


def test_a_slice_is_what_it_says(project: Project) -> None:
    """841: SlicingOpLambda is unknown."""
    x = sample(np.random.default_rng(2), 50)
    assert (project.predict(x)[7] == front(project, x)[:, 1:3]).all()


def test_dilation_is_not_ignored(project: Project) -> None:
    """1508: the C++ was the same for dilations of 1, 2 and 4."""
    node = of(project, "dilated", "conv")
    assert node.attrs["dilation"] == (2,) and node.attrs["padding"] == (2, 2)


def test_a_tensor_added_to_itself_is_no_circle(project: Project) -> None:
    """Circular dependency detected."""
    (twice,) = [node for node in project.graph if node.op == "add" and len(set(node.args)) == 1]
    assert len(twice.args) == 2


def test_tanh_has_a_table_with_default_quantizers(project: Project) -> None:
    """1523 and others: tables are rebuilt from std::tanh, and differ from those of training."""
    table = of(project, "tanh", "lookup").attrs["table"]
    assert table.min() < 0 < table.max()


def test_a_pruned_channel_has_no_bits_and_no_negative_width(project: Project) -> None:
    """1523: a channel of negative width."""
    width = of(project, "pruned", "quantize").types.width
    assert (width[:, 1] == 0).all() and (width[:, [0, 2]] > 0).all()


def test_a_bound_of_saturation_is_finer_than_the_values_before_it(project: Project) -> None:
    """hls4ml takes the fractional bits of the producer, and 1.5 for 1.875."""
    assert project.graph.learned_types("coarse.in").frac.max() == 1
    x = sample(np.random.default_rng(2), 50)
    values = project.predict(x)[4]
    assert values.max() == 1.875 and values.min() == -2 and set(np.unique(values * 2)) - {3.75} <= set(range(-4, 4))


def test_weights_have_44_fractional_bits(project: Project) -> None:
    """hls4ml looks for fractional bits up to 32 only."""
    node = of(project, "tiny", "conv")
    assert node.attrs["kernel"].ravel().tolist() == [5, -3, 1] and (node.attrs["kernel_types"].frac == 44).all()


def test_one_signed_bit_that_saturates_symmetrically_is_0(tmp_path: Path) -> None:
    """ap_fixed<1, 1, AP_RND, AP_SAT_SYM> can be -1."""
    b, types = Builder(), FixedArray.parse("[1]{s1f0}")
    b.add("x", "input", types=FixedArray.parse("[1]{s3f0}"), rounding=Rounding.RND, overflow=Overflow.WRAP, origin="x")
    b.add("y", "quantize", "x", types=types, rounding=Rounding.RND, overflow=Overflow.SAT_SYM, origin="y")
    graph = b.graph("y")
    assert (evaluate(graph, {"x": np.arange(-4, 4)[:, None]})["y"] == 0).all()
    emit_hls4ml(graph, tmp_path)
    assert "out[0] = 0;" in (tmp_path / "firmware" / "nnet_utils" / "nnet_code_gen.h").read_text()


def test_a_value_of_minus_1_that_saturates_symmetrically_has_two_bits(project: Project) -> None:
    node = of(project, "one_bit", "quantize")
    assert {str(t) for t in node.types} == {"s2f0"} and node.attrs["overflow"] == "SAT_SYM"
    assert set(np.unique(project.predict(sample(np.random.default_rng(2), 50))[6])) == {-1, 0}


def test_pixels_are_unsigned(project: Project) -> None:
    """456: an ap_uint<8> had to be declared as ap_int<9> by hand."""
    assert {str(t) for t in project.graph["pixels"].types} == {"u8f0"}


def test_a_window_of_one_can_have_strides(project: Project) -> None:
    """995: wrong where the window is smaller than its stride."""
    x = sample(np.random.default_rng(2), 50)
    assert of(project, "strided", "max_pool").attrs["strides"] == (2,)
    assert (project.predict(x)[9] == front(project, x)[:, ::2]).all()


def test_padding_may_differ_from_end_to_end(project: Project) -> None:
    """1534: a tuple was misread."""
    x = sample(np.random.default_rng(2), 50)
    assert (project.predict(x)[10] == np.pad(front(project, x), ((0, 0), (1, 2), (0, 0)))).all()
