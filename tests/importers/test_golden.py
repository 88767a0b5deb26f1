"""Models of other libraries compute here what those libraries predict, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hgq
from hgq.fixed import FixedType, decode, encode
from hgq.frontend.model import read_model
from hgq.frontend.predict import keras_engine
from hgq.ir.evaluate import evaluate
from tests.importers.golden import GOLDEN, OPTIONS


@pytest.mark.parametrize("name", GOLDEN)
def test_the_integer_model_and_keras_give_what_the_library_predicts(name: str, tmp_path: Path) -> None:
    golden = GOLDEN[name]
    how = OPTIONS.get(name, {})
    model = hgq.load(golden.written(tmp_path), **how)
    graph = read_model(model, FixedType.parse(how["input_type"]) if "input_type" in how else None)
    raw = dict(zip(graph.inputs, (x.astype(np.float32) for x in golden.x), strict=True))
    nodes = [graph[port] for port in graph.inputs]
    inputs = {n.name: encode(raw[n.name], n.types, n.attrs["rounding"], n.attrs["overflow"]) for n in nodes}
    integers = evaluate(graph, inputs)
    floats = keras_engine(model, graph, raw=raw)(inputs)
    for port, expected in zip(graph.outputs, golden.y, strict=True):
        made = decode(integers[port], graph[port].range.frac)
        made = made.reshape(expected.shape)
        if "drop_softmax" in how:  # what is left tells which of two outputs is larger
            made, expected = (y[:, :, None] < y[:, None, :] for y in (made, expected))
        assert np.array_equal(made, expected)
        assert np.array_equal(floats[port], integers[port])
        assert len(np.unique(integers[port])) > 5, "the model says nothing"


def test_a_file_of_another_library_is_converted_and_said_to_be_one(tmp_path: Path) -> None:
    golden = GOLDEN["hgq2-dense"]
    file = golden.written(tmp_path)
    with pytest.raises(ValueError, match="a model of HGQ2 has its types already"):
        hgq.convert(file, tmp_path / "out", calibrate=golden.x[0], verify=False)
    project = hgq.convert(file, tmp_path / "out", verify=False)
    assert project.report["library"] == "HGQ2"
    assert np.array_equal(project.predict(golden.x[0]), golden.y[0])
