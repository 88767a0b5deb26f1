"""hls4ml projects with io_type='io_stream': tensors as streams of packets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hgq.emit.hls4ml import emit_hls4ml
from hgq.errors import ConversionError, VerificationError
from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.frontend import read_model
from hgq.ir import evaluate
from hgq.ir.graph import Builder
from hgq.sim.csim import run_csim
from hgq.sim.hls4ml_types import check_types
from tests.emit.conv_graphs import channel_input, conv
from tests.emit.random_graphs import random_inputs
from tests.emit.stream_graphs import per_position, stream_graph
from tests.frontend.conv_models import MODELS


@pytest.mark.hls
def test_everything_that_streams_can_carry_is_in_cpp_what_the_golden_model_says(tmp_path: Path) -> None:
    graph = stream_graph(1)
    check_types(tmp_path, graph, emit_hls4ml(graph, tmp_path, io_type="io_stream"))
    text = (tmp_path / "firmware" / "nnet_utils" / "nnet_code_gen.h").read_text()
    forms = {"in_order": "steps[", "any_order": "sources[", "window": "lines[", "total": "total[", "frame": "write[n]"}
    assert [form for form, sign in forms.items() if sign not in text] == []
    inputs = random_inputs(np.random.default_rng(3), graph, 1000)
    got, want = run_csim(tmp_path, graph, inputs), evaluate(graph, inputs)
    assert [name for name in graph.outputs if not (got[name] == want[name]).all()] == []


def small(b: Builder) -> list[str]:
    """A tensor of 3 x 2 x 2 with a row of zeros put before it, and turned around."""
    x = channel_input(b, np.random.default_rng(0), "x", (3, 2, 2))
    index = np.arange(12).reshape(3, 2, 2)
    b.add("padded", "take", x, index=np.pad(index, ((1, 0), (0, 0), (0, 0)), constant_values=-1), origin="my padding")
    b.add("turned", "take", x, index=index[::-1], origin="my flip")
    types = FixedArray.parse("[2]{s4f1 u3f0}").broadcast_to((3, 2, 2))
    b.add("cast", "quantize", x, types=types, rounding=Rounding.RND, overflow=Overflow.SAT, origin="my cast")
    return ["padded", "turned", "cast"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    {
        "a row too late": ("{4, 4, 3,", "{3, 4, 4,", "'my padding'.*source of element 0"),
        "two rows exchanged": ("{4, 5, 2, 3, 0, 1}", "{4, 5, 0, 1, 2, 3}", "'my flip'.*source of element 4"),
        "channels exchanged": ("out[0] = in[0];\n    out[1] = in[1]", "out[0] = in[1];\n    out[1] = in[0]", "source"),
        "a narrower cast": ("ap_fixed<4,3,", "ap_fixed<3,2,", "'my cast'.*cast of element 0"),
        "a dropped cast": ("ap_fixed<4,3,AP_RND,AP_SAT,0>(in[0])", "in[0]", "'my cast'.*cast of element 10"),
    }.values(),
    ids=lambda value: value if value.startswith("a ") else "",
)
def test_a_project_that_was_changed_no_longer_matches(tmp_path: Path, before: str, after: str, said: str) -> None:
    b = Builder()
    graph = b.graph(*small(b))
    names = emit_hls4ml(graph, tmp_path, io_type="io_stream")
    check_types(tmp_path, graph, names)
    file = tmp_path / "firmware" / "nnet_utils" / "nnet_code_gen.h"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(VerificationError) as error:
        check_types(tmp_path, graph, names)
    assert re.search(said, str(error.value)), error.value


@pytest.mark.hls
def test_packets_that_nobody_reads_are_found_in_simulation(tmp_path: Path) -> None:
    b = Builder()
    graph = b.graph(b.add("r", "relu", channel_input(b, np.random.default_rng(0), "x", (3, 2)), origin="r"))
    emit_hls4ml(graph, tmp_path, io_type="io_stream")
    config = tmp_path / "firmware" / "parameters.h"
    assert "n_in = 6" in config.read_text()
    config.write_text(config.read_text().replace("n_in = 6", "n_in = 4"))
    with pytest.raises(VerificationError, match=r"Hls::stream .*(leftover data|while empty)"):
        run_csim(tmp_path, graph, random_inputs(np.random.default_rng(1), graph, 3))


def refusal(b: Builder, tmp_path: Path, *outputs: str) -> str:
    with pytest.raises(ConversionError) as error:
        emit_hls4ml(b.graph(*outputs), tmp_path / "out", io_type="io_stream")
    assert not (tmp_path / "out").exists()
    (said,) = error.value.problems
    return said


def test_types_that_differ_from_position_to_position_are_refused_by_the_name_of_the_layer(tmp_path: Path) -> None:
    b = Builder()
    said = refusal(b, tmp_path, per_position(b, np.random.default_rng(0)))
    assert "'my layer'" in said and "types differ from position to position" in said and "(2, 3)" in said
    assert "granularity='channel'" in said and "io_parallel" in said


def test_an_input_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    x, _ = (channel_input(b, rng, name, (2, 3)) for name in ("x", "unread"))
    assert "'unread'" in refusal(b, tmp_path, b.add("r", "relu", x, origin="r"))


def test_a_window_over_three_axes_is_refused(tmp_path: Path) -> None:
    b = Builder()
    rng = np.random.default_rng(0)
    y = conv(b, rng, "deep", channel_input(b, rng, "x", (3, 3, 3, 2)), (2, 2, 2), 2)
    assert "'Conv deep'" in refusal(b, tmp_path, y) and "axes" in refusal(b, tmp_path, y)


def test_a_layer_that_keeps_the_packets_has_no_hardware(tmp_path: Path) -> None:
    b = Builder()
    x = b.add("rows", "reshape", channel_input(b, np.random.default_rng(0), "x", (2, 3, 2)), shape=(6, 2), origin="r")
    emit_hls4ml(b.graph(b.add("r", "relu", x, origin="r")), tmp_path, io_type="io_stream", project_name="top")
    calls = re.findall(r"nnet::(\w+)<", (tmp_path / "firmware" / "top.cpp").read_text())
    assert [call for call in calls if "weights" not in call] == ["relu"]


def test_an_unknown_io_type_is_refused_with_its_value(tmp_path: Path) -> None:
    b = Builder()
    with pytest.raises(ValueError, match=r"io_type='io_serial'.*io_parallel, io_stream"):
        emit_hls4ml(b.graph(*small(b)), tmp_path, io_type="io_serial")


def test_models_of_convolutions_stream_with_their_default_quantizers(tmp_path: Path) -> None:
    for name in ("conv2d same strides", "separable 2d", "transpose 2d same", "average 3 x 3"):
        graph = read_model(MODELS[name]())
        check_types(tmp_path / name, graph, emit_hls4ml(graph, tmp_path / name, io_type="io_stream"))
    with pytest.raises(ConversionError, match=r"q_conv2d\w*': io_type='io_stream'.*differ from position to position"):
        emit_hls4ml(read_model(MODELS["conv2d per element"]()), tmp_path / "each", io_type="io_stream")
