"""C simulation of emitted hls4ml projects equals the golden model, integer for integer.

A compilation costs some ten seconds, so that each project holds many cases.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from hgq.emit.hls4ml import emit_hls4ml
from hgq.errors import ToolError, VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph, check, evaluate
from hgq.ir.graph import Builder
from hgq.sim import csim
from hgq.sim.csim import build_csim, run_csim
from hgq.sim.hls4ml_types import check_types
from hgq.sim.simulator import cache_folder
from tests.emit.random_graphs import (
    add_input,
    affine,
    dense,
    quantize,
    random_constants,
    random_graph,
    random_inputs,
    random_types,
)

pytestmark = pytest.mark.hls
SAMPLES = 2000


def assert_equal(graph: Graph, folder: Path, seed: int, **options) -> None:
    check(graph)
    check_types(folder, graph, emit_hls4ml(graph, folder, **options))
    inputs = random_inputs(np.random.default_rng(seed), graph, SAMPLES)
    got, expected = run_csim(folder, graph, inputs), evaluate(graph, inputs)
    assert set(got) == set(expected)
    for name, values in expected.items():
        wrong = np.argwhere(got[name] != values)
        assert not len(wrong), f"{name} {wrong[0]}: {got[name][tuple(wrong[0])]} instead of {values[tuple(wrong[0])]}"
        assert got[name].shape == values.shape


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "backend"), [(1, "Vitis"), (2, "Vivado")])
def test_random_networks(tmp_path, seed, backend):
    assert_equal(random_graph(seed), tmp_path, seed, backend=backend, project_name="nets")


@pytest.mark.slow
def test_awkward_ports_shapes_and_names(tmp_path):
    rng, b = np.random.default_rng(5), Builder()
    x = add_input(b, rng, "int", (3, 2, 4))
    rows = b.add("Layer2_out", "reshape", x, shape=(6, 4))
    last = dense(b, rng, "Dense 1", rows, 3, bias=False)
    dead = b.add("dead", "input", types=FixedArray.full((3,), FixedType(False, 1, 0)).broadcast_to((3,)),
                 rounding=Rounding.TRN, overflow=Overflow.SAT)  # fmt: skip
    dead = b.add("zero", "quantize", dead, types=FixedArray(*np.zeros((3, 3), int)), rounding=Rounding.RND,
                 overflow=Overflow.WRAP)  # fmt: skip
    one_bit = FixedArray.full((3,), FixedType(True, 1, -1))
    outputs = [
        x,  # an output that is an input
        rows,
        dense(b, rng, "while", x, 3),  # a row for each of two leading axes
        affine(b, rng, "dense_1", last, (3,)),
        affine(b, rng, "dense 1", last, (6, 1)),
        quantize(b, rng, "fout", add_input(b, rng, "in", (7,), widest=20, frac=(-5, 12)), "RND_CONV", "SAT_SYM"),
        dead,
        dense(b, rng, "dead sum", dead, 2, bias=False),
        b.add("r", "relu", dense(b, rng, "constant", dead, 2)),
        b.add("one bit", "quantize", add_input(b, rng, "y", (3,)), types=one_bit, rounding=Rounding.RND,
              overflow=Overflow.SAT_SYM),
    ]  # fmt: skip
    assert_equal(b.graph(*outputs, outputs[0]), tmp_path, 5)


@pytest.mark.slow
def test_values_beyond_64_bits_and_weights_beyond_32_fractional_bits(tmp_path):
    rng, b = np.random.default_rng(6), Builder()
    x = b.add("x", "input", types=FixedArray.full((4,), FixedType(True, 9, 3)), rounding=Rounding.TRN,
              overflow=Overflow.SAT)  # fmt: skip
    fine = FixedArray.full((4, 3), FixedType(True, 24, 50))
    product = b.add("fine", "dense", x, kernel=random_constants(rng, fine), kernel_types=fine)
    types = FixedArray(np.ones((3, 2)), np.full((3, 2), 54), np.array([[70, 100], [20, 40], [300, -9]]))
    kernel = np.array([[2**53 - 1, 1 - 2**53], [12345678901, -1], [3, 5]])
    wide = b.add("wide", "dense", product, kernel=kernel, kernel_types=types)
    port = FixedArray(np.array([0, 1, 0, 1, 0]), np.array([64, 64, 100, 129, 1]), np.array([0, 3, -20, 60, 5]))
    port_name = b.add("port", "input", types=port, rounding=Rounding.TRN, overflow=Overflow.SAT)
    outputs = [product, wide, port_name]
    for width, signed in ((64, False), (64, True), (65, True)):
        full = FixedArray.full((2,), FixedType(signed, width, 3))
        outputs.append(b.add(f"{width}{signed}", "input", types=full, rounding=Rounding.TRN, overflow=Overflow.SAT))
    for source, rounding, overflow in (
        (wide, "RND", "WRAP"),  # some elements lose all their bits: ap_types would abort
        (port_name, "RND_CONV", "SAT_SYM"),
        (port_name, "RND", "SAT"),
        (port_name, "TRN", "WRAP"),
    ):
        outputs.append(quantize(b, rng, f"{source} {rounding}", source, rounding, overflow, widest=150))
    assert_equal(b.graph(*outputs), tmp_path, 6)


def small(bits: int = 6) -> Graph:
    """Three inputs of one output each, by quantizer only: the quickest project to compile."""
    b = Builder()
    x = b.add("x", "input", types=FixedArray.full((3,), FixedType(True, bits, 2)), rounding=Rounding.RND,
              overflow=Overflow.SAT)  # fmt: skip
    types = random_types(np.random.default_rng(0), (3,), widest=4, zeros=0)
    q = b.add("q", "quantize", x, types=types, rounding=Rounding.TRN, overflow=Overflow.WRAP)
    return b.graph(q)


def test_the_program_is_kept_by_content_and_a_changed_project_is_built_and_found_wrong(tmp_path, monkeypatch):
    monkeypatch.setenv("HGQ_CACHE", str(tmp_path / "cache"))
    graph, project = small(), tmp_path / "project"
    emit_hls4ml(graph, project)
    first = build_csim(project, graph)
    start = time.monotonic()
    emit_hls4ml(graph, tmp_path / "copy")
    assert build_csim(tmp_path / "copy", graph) == first
    assert time.monotonic() - start < 5
    inputs = random_inputs(np.random.default_rng(0), graph, 100)
    expected = evaluate(graph, inputs)["q"]
    assert (run_csim(project, graph, inputs)["q"] == expected).all()

    code = project / "firmware" / "nnet_utils" / "nnet_code_gen.h"
    code.write_text(code.read_text().replace("(in[0])", "(in[1])"))
    assert build_csim(project, graph) != first
    assert (run_csim(project, graph, inputs)["q"] != expected).any()


def test_no_samples_give_no_samples(tmp_path):
    emit_hls4ml(small(), tmp_path)
    assert run_csim(tmp_path, small(), {"x": np.zeros((0, 3), int)})["q"].shape == (0, 3)


def test_ports_of_other_types_than_the_graph_do_not_compile(tmp_path, monkeypatch):
    emit_hls4ml(small(), tmp_path)
    with pytest.raises(ToolError) as error:
        build_csim(tmp_path, small(bits=7))
    message = str(error.value)
    assert "types of the project's ports are not those of its graph" in message and "exit code: 1" in message
    log = Path(message.split("full log: ")[1].splitlines()[0])
    assert "static assertion" in log.read_text()
    log.unlink()


def test_a_crash_of_the_program_is_an_error_and_leaves_python_alive(tmp_path, monkeypatch):
    program = tmp_path / "crash"
    program.write_text("#!/bin/sh\necho bad luck >&2\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(csim, "build_csim", lambda *_: program)
    with pytest.raises(ToolError, match=r"exit code: -11\n.*\n.*bad luck"):
        run_csim(tmp_path, small(), {"x": np.zeros((5, 3), int)})


def test_bits_below_the_lsb_of_an_output_are_an_error_not_cut_off(tmp_path, monkeypatch):
    b = Builder()
    types = FixedArray(np.zeros(2), np.array([4, 4]), np.array([0, 3]))
    graph = b.graph(b.add("x", "input", types=types, rounding=Rounding.TRN, overflow=Overflow.WRAP))
    (port,) = [port for port in csim._ports(graph) if not port.is_input]
    assert csim._unpack(port, np.array([8, 1], np.uint64)).tolist() == [[1, 1]]
    with pytest.raises(VerificationError, match=r"output 'x' element \(0,\) of sample 0"):
        csim._unpack(port, np.array([9, 1], np.uint64))


def test_a_missing_compiler_is_named_with_its_fix(tmp_path, monkeypatch):
    emit_hls4ml(small(), tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError, match=r"no-such-compiler.*not installed"):
        build_csim(tmp_path, small())


@pytest.mark.parametrize(
    ("inputs", "said"),
    {
        "missing": ({}, "no data for input 'x'"),
        "shape": ({"x": np.zeros((5, 4), int)}, r"shape \(samples, \*\(3,\)\), got \(5, 4\)"),
        "floats": ({"x": np.zeros((5, 3))}, "integers in LSBs, got float64"),
        "range": ({"x": np.full((5, 3), 32)}, "outside its port's type"),
    }.values(),
    ids=["missing", "shape", "floats", "range"],
)
def test_wrong_inputs_are_refused(tmp_path, inputs, said):
    with pytest.raises(ValueError, match=said):
        run_csim(tmp_path, small(), inputs)


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("HGQ_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HGQ_CACHE")
    assert cache_folder().name == "hgq-fpga" and os.fspath(cache_folder()) != os.fspath(tmp_path)
