"""Convolutions and poolings in the C++ of hls4ml projects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hgq.emit.hls4ml import emit_hls4ml
from hgq.errors import VerificationError
from hgq.ir import evaluate
from hgq.sim.csim import run_csim
from hgq.sim.hls4ml_types import check_types
from tests.emit.conv_graphs import conv_graph
from tests.emit.random_graphs import random_inputs


@pytest.mark.hls
def test_every_kind_of_convolution_and_pooling_in_cpp_is_what_the_golden_model_says(tmp_path: Path) -> None:
    graph = conv_graph(1)
    check_types(tmp_path, graph, emit_hls4ml(graph, tmp_path))
    inputs = random_inputs(np.random.default_rng(3), graph, 1000)
    got, want = run_csim(tmp_path, graph, inputs), evaluate(graph, inputs)
    assert [name for name in graph.outputs if not (got[name] == want[name]).all()] == []


def test_a_weight_of_a_convolution_that_differs_is_found(tmp_path: Path) -> None:
    graph = conv_graph(1, "strided")
    names = emit_hls4ml(graph, tmp_path)
    for file in (tmp_path / "firmware" / "weights").glob("w*"):
        head, brace, body = file.read_text().rpartition("{")
        numbers = body.split(",")
        place = next(n for n, text in enumerate(numbers) if float(text.strip(" };\n")))
        numbers[place] = f" {-2 * float(numbers[place].strip(' };')) + 64}"
        file.write_text(head + brace + ",".join(numbers))
    with pytest.raises(VerificationError, match=r"Conv strided.*kernel"):
        check_types(tmp_path, graph, names)
