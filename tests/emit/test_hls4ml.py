"""The emitted hls4ml project as text; tests/sim/test_csim.py compiles and runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hgq.emit import hls4ml as emitter
from hgq.emit import hls4ml_plan
from hgq.emit.hls4ml import emit_hls4ml
from hgq.emit.hls4ml_names import cpp_names
from hgq.errors import ConversionError, IRError, VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph
from hgq.ir.graph import Builder
from hgq.sim.hls4ml_types import check_types
from tests.emit.random_graphs import affine, random_graph


def port(b: Builder, name: str, types: FixedArray) -> str:
    return b.add(name, "input", types=types, rounding=Rounding.RND, overflow=Overflow.SAT, origin=name)


def tiny(kernel: int = 3, kernel_type: str = "s6f4") -> Graph:
    """x -> dense -> relu -> quantize -> affine, with one known cast: that of a u4f2."""
    b = Builder()
    x = port(b, "x", FixedArray.full((2,), FixedType.parse("s8f4")))
    attrs = {"kernel": np.array([[kernel], [-1]], object), "bias": np.array([5])}
    types = FixedArray.full((2, 1), FixedType.parse(kernel_type))
    d = b.add("d", "dense", x, **attrs, kernel_types=types, bias_types=FixedArray.full((1,), FixedType.parse("u4f2")),
              origin="my dense")  # fmt: skip
    q = b.add("q", "quantize", b.add("r", "relu", d, origin="my dense"), origin="my dense",
              types=FixedArray.full((1,), FixedType.parse("u4f2")), rounding=Rounding.RND_CONV,
              overflow=Overflow.SAT)  # fmt: skip
    return b.graph(affine(b, np.random.default_rng(0), "bn", q, (1,)))


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backend", emitter.BACKENDS)
def test_the_same_graph_gives_the_same_bytes_in_any_folder(tmp_path, backend):
    for folder in ("a", "b/c"):
        emit_hls4ml(random_graph(1), tmp_path / folder, backend=backend, project_name="nets")
    first = read(tmp_path / "a")
    assert first == read(tmp_path / "b/c")
    assert {"build_prj.tcl", "project.tcl", "firmware/nets.cpp", "firmware/defines.h", "nets_test.cpp"} <= set(first)
    assert not [name for name, content in first.items() if str(tmp_path).encode() in content]


def test_the_project_names_our_part_and_clock(tmp_path):
    emit_hls4ml(tiny(), tmp_path, part="xc7a100tcsg324-1", clock_ns=2.5)
    script = (tmp_path / "project.tcl").read_text()
    assert 'set part "xc7a100tcsg324-1"' in script and "set clock_period 2.5" in script


def test_every_learned_type_and_constant_is_in_the_text(tmp_path):
    graph = random_graph(2)
    check_types(tmp_path, graph, emit_hls4ml(graph, tmp_path))


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    {
        "a narrower cast": ("nnet_utils/nnet_code_gen.h", "ap_ufixed<4,2,", "ap_ufixed<3,2,", "cast of element 0"),
        "a moved point": ("nnet_utils/nnet_code_gen.h", "ap_ufixed<4,2,", "ap_ufixed<4,1,", "cast of element 0"),
        "a signed cast": ("nnet_utils/nnet_code_gen.h", "ap_ufixed<4,2,", "ap_fixed<4,2,", "cast of element 0"),
        "another rounding": ("nnet_utils/nnet_code_gen.h", "AP_RND_CONV", "AP_RND", "cast of element 0"),
        "another overflow": ("nnet_utils/nnet_code_gen.h", "AP_SAT,", "AP_SAT_SYM,", "cast of element 0"),
        "a dropped cast": ("nnet_utils/nnet_code_gen.h", "= ap_ufixed<4,2,AP_RND_CONV,AP_SAT,0>(in[0])", "= in[0]",
                           "cast of element 0"),
        "a constant for a value": ("nnet_utils/nnet_code_gen.h", "= ap_ufixed<4,2,AP_RND_CONV,AP_SAT,0>(in[0])", "= 0",
                                   "cast of element 0"),
        "one LSB of a weight": ("weights/w2.*", "0.1875", "0.2500", "kernel 0"),
        "a bit below the LSB": ("weights/w2.*", "0.1875", "0.18751", "kernel 0"),
        "only the simulated weights": ("weights/w2.txt", "0.1875", "0.2500", "w2.txt"),
        "one LSB of a bias": ("weights/b2.*", "1.25", "1.50", "bias 0"),
        "a wider weight": ("defines.h", "ap_fixed<6,2> d_weight_t", "ap_fixed<7,2> d_weight_t", "type of the kernel"),
        "a narrower sum": ("defines.h", "> d_accum_t", ",AP_TRN,AP_SAT,0> d_accum_t", "the type d_accum_t"),
    }.values(),
    ids=lambda value: value if " " in str(value) else "",
)  # fmt: skip
def test_a_project_that_was_changed_no_longer_matches(tmp_path, file, before, after, said):
    names = emit_hls4ml(tiny(), tmp_path)
    check_types(tmp_path, tiny(), names)
    for path in (tmp_path / "firmware").glob(file):
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
    with pytest.raises(VerificationError) as error:
        check_types(tmp_path, tiny(), names)
    assert said in str(error.value)


def test_nothing_is_printed(tmp_path, capfd):
    emit_hls4ml(tiny(), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_keras_is_not_imported(tmp_path):
    code = f"""
import sys
from pathlib import Path
from hgq.emit.hls4ml import emit_hls4ml
from hgq.ir import parse
assert "hls4ml" not in sys.modules
emit_hls4ml(parse({str(tiny())!r}), Path({str(tmp_path)!r}))
print([name for name in ("keras", "tensorflow", "jax") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_names_become_identifiers_that_differ_and_mean_nothing_in_cpp():
    names = cpp_names(["Dense_1", "dense_1", "dense 1", "int", "3x", "µ", "layer2_out", "w2", "top"], reserved={"top"})
    assert list(names.values()) == [
        "dense_1", "dense_1_2", "dense_1_3", "int_2", "n3x", "node", "layer2_out_2", "w2_2", "top_2",
    ]  # fmt: skip


def refusal(graph: Graph, tmp_path: Path) -> list[str]:
    with pytest.raises(ConversionError) as error:
        emit_hls4ml(graph, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return error.value.problems


def test_an_op_without_an_hls4ml_form_is_refused_by_the_name_of_its_layer(tmp_path, monkeypatch):
    monkeypatch.delitem(hls4ml_plan.PLANNERS, "relu")
    (problem,) = refusal(tiny(), tmp_path)
    assert "'my dense'" in problem and "relu" in problem


def test_a_constant_that_double_cannot_hold_is_refused_not_rounded(tmp_path):
    (problem,) = refusal(tiny(2**53 + 1, "s60f58"), tmp_path)
    assert "'my dense'" in problem and "kernel 9007199254740993" in problem


def test_a_sum_too_wide_for_ap_types_is_refused(tmp_path):
    b = Builder()
    x = port(b, "x", FixedArray(np.zeros(2), np.full(2, 8), np.array([500, -500])))
    kernel = FixedArray.full((2, 1), FixedType.parse("u1f0"))
    b.add("d", "dense", x, kernel=np.ones((2, 1), int), kernel_types=kernel, origin="my dense")
    problems = refusal(b.graph("d"), tmp_path)
    assert any("'my dense'" in problem and "1008 bits" in problem for problem in problems)
    assert any("'x'" in problem for problem in problems)  # every reason at once


@pytest.mark.parametrize(
    ("option", "value"),
    [("project_name", "my project"), ("project_name", "int"), ("backend", "oneAPI"), ("clock_ns", 0)],
)
def test_a_bad_option_is_refused_with_its_value(tmp_path, option, value):
    with pytest.raises(ValueError) as error:
        emit_hls4ml(tiny(), tmp_path, **{option: value})
    assert f"{option}={value!r}" in str(error.value)


@pytest.mark.parametrize("change", ["type", "constant", "layer", "code"])
def test_an_hls4ml_that_changes_the_graph_is_found_out(tmp_path, monkeypatch, change):
    build = emitter._model_graph

    def changed(*arguments):
        model = build(*arguments)
        if change == "type":
            model.graph["d"].types["accum_t"].precision.width -= 1
        elif change == "constant":
            model.graph["d"].weights["weight"].data[0, 0] += 1
        elif change == "layer":
            model.remove_node(model.graph["r"])
        else:
            model.graph["q"].attributes["code"].code = ""
        return model

    monkeypatch.setattr(emitter, "_model_graph", changed)
    with pytest.raises(IRError, match="hls4ml changed the"):
        emit_hls4ml(tiny(), tmp_path)


@pytest.mark.parametrize("first", ["hls4ml", "hgq.layers"])
def test_hls4ml_alone_refuses_a_model_of_our_layers(first):
    second = "hgq.layers" if first == "hls4ml" else "hls4ml"
    code = f"""
import {first}, {second}, keras, hls4ml
from hgq.layers import QDense
model = keras.Sequential([keras.Input((4,)), QDense(3, name="first")])
config = {{"Model": {{"Precision": "fixed<16,6>", "ReuseFactor": 1}}}}
hls4ml.converters.convert_from_keras_model(model, hls_config=config)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConversionError" in done.stderr and "QDense 'first'" in done.stderr and "hgq.convert" in done.stderr
