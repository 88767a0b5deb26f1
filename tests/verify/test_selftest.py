"""The self-test: every kind of fault, in one text and by itself; what notices it; what is equivalent; what survives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.errors import ToolError, VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir.graph import Builder, Graph
from hgq.lower import lower
from hgq.netlist import Design
from hgq.passes import insert_registers, optimise
from hgq.ports import Port
from hgq.verify import corner_vectors
from hgq.verify.proof import Layout, ProofResult, Prover, prove
from hgq.verify.selftest import KINDS, Mutable, mutants_of, run, sample, self_test
from hgq.verify.selftest.text import mutated, selectable, unread_modules


def graph() -> Graph:
    """A dense layer, relu, a quantizer, a table; and a layer of which nothing is left."""
    rng = np.random.default_rng(3)
    builder, signed = Builder(), FixedArray.full((4,), FixedType(True, 5, 2))
    how = {"rounding": Rounding.RND, "overflow": Overflow.WRAP}
    builder.add("x", "input", types=signed, **how)
    kernel_types = FixedArray.full((4, 3), FixedType(True, 5, 3))
    kernel = rng.integers(-15, 16, (4, 3))
    bias_types = FixedArray.full((3,), FixedType(True, 6, 4))
    bias = rng.integers(-31, 32, 3)
    dense = {"kernel": kernel, "kernel_types": kernel_types, "bias": bias, "bias_types": bias_types}
    builder.add("h.sum", "dense", "x", origin="h", **dense)
    builder.add("h.relu", "relu", "h.sum", origin="h")
    narrow = FixedArray.full((3,), FixedType(False, 4, 1))
    builder.add("h.out", "quantize", "h.relu", origin="h", types=narrow, rounding=Rounding.RND, overflow=Overflow.SAT)
    table = (np.arange(16) * 7 + 3) % 31
    types = FixedArray.full((3,), FixedType(False, 5, 3))
    builder.add("t", "lookup", "h.out", origin="t", table=table, start=np.zeros(3, np.int64), reads=narrow, types=types)
    return builder.graph("t", "h.sum")


@pytest.fixture(scope="module")
def made() -> Design:
    return insert_registers(optimise(lower(graph(), "net")), 2.0)


@pytest.fixture(scope="module")
def design(made: Design, tmp_path_factory: pytest.TempPathFactory) -> Mutable:
    model = graph()
    inputs = [Port("x", model["x"].types, Rounding.RND, Overflow.WRAP)]
    outputs = [Port.output(name, model[name].types) for name in model.outputs]
    folder = tmp_path_factory.mktemp("rtl")
    for name, text in emit_verilog(made, inputs, outputs, clock_ns=2.0, version="test").items():
        (folder / name).write_text(text)
    return Mutable(model, folder, "net", made.latency, inputs, outputs)


@pytest.fixture(scope="module")
def files(design: Mutable) -> dict[str, str]:
    return {path.name: path.read_text() for path in design.folder.glob("*.v")}


def test_there_are_mutants_of_every_kind_and_each_changes_the_text(files: dict[str, str]) -> None:
    every = mutants_of(files, "net")
    assert {m.kind for m in every} == set(KINDS)
    assert all(mutated(files[m.file], m) != files[m.file] for m in every)
    chosen = sample(every, 30, seed=1)
    assert chosen == sample(every, 30, seed=1) != sample(every, 30, seed=2)
    assert min(sum(m.kind == kind for m in chosen) for kind in KINDS) >= 2
    both = selectable(files, every)
    assert all(f"16'd{k})" in both[m.file] or f"16'd{k} " in both[m.file] for k, m in enumerate(every, 1))


@pytest.mark.rtl
def test_every_fault_is_noticed_or_changes_nothing(design: Mutable) -> None:
    steps: list[str] = []
    vectors = corner_vectors({"x": design.graph["x"].types}, 1000)
    found = self_test(design, vectors, count=60, progress=steps.append)
    assert not found.survivors, found.table()
    assert sum(len(by) > 0 for by in found.killed.values()) >= 50
    assert {layer for by in found.killed.values() for layer in by} == {"lint", "vectors", "protocol"}
    by_kind = {row["kind"]: row for row in found.rows()}
    assert set(by_kind) == set(KINDS) and by_kind["valid"]["protocol"] == by_kind["valid"]["mutants"]
    for kind in ("register", "table", "neuron", "inputs"):
        assert by_kind[kind]["vectors"] == by_kind[kind]["any"] > 0, kind
    assert "60 of" in found.table() and found.to_json()["survivors"] == [] and len(steps) > 60


@pytest.mark.rtl
def test_without_vectors_that_tell_faults_survive(design: Mutable) -> None:
    zero = {"x": np.zeros((16, 4), np.int64)}
    found = self_test(design, zero, count=60)
    assert found.survivors and "SURVIVED" in found.table()


@pytest.mark.rtl
def test_a_design_that_is_wrong_already_is_an_error(design: Mutable, tmp_path: Path) -> None:
    for path in design.folder.glob("*.v"):
        text = path.read_text()
        (tmp_path / path.name).write_text(text.replace(" + ", " - ", 1) if path.stem != "net" else text)
    wrong = Mutable(design.graph, tmp_path, "net", design.latency, design.inputs, design.outputs)
    with pytest.raises(VerificationError, match="without any mutant"):
        self_test(wrong, corner_vectors({"x": design.graph["x"].types}, 100), count=4)


@pytest.mark.rtl
def test_a_tool_that_always_fails_notices_nothing(design: Mutable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sources: list[Path], top: str) -> None:
        raise ToolError("no memory")

    monkeypatch.setattr(run, "lint", broken)
    with pytest.raises(ToolError, match="no memory"):
        self_test(design, corner_vectors({"x": design.graph["x"].types}, 100), count=4)


def test_a_proof_with_one_file_changed_says_what_a_whole_one_says(
    made: Design, design: Mutable, files: dict[str, str]
) -> None:
    layout = Layout.of(made, design.inputs, design.outputs)
    prover = Prover(design.graph, files, layout)
    assert prover.prove().complete

    def said(proof: Callable[[], ProofResult]) -> str | list[tuple]:
        try:
            return [(one.layer, one.proven, one.outputs) for one in proof().layers]
        except VerificationError as error:
            return str(error)

    every = sample(mutants_of(files, "net"), 2 * len(KINDS), seed=4)
    chosen = [m for m in every if m.kind in ("table", "register", "valid")]
    texts = [(m.file, mutated(files[m.file], m)) for m in chosen]
    texts.append(("net.v", files["net.v"]))  # nothing of the last faults is left behind
    found = [said(lambda file=file, text=text: prover.changed(file, text)) for file, text in texts]
    assert found == [
        said(lambda file=file, text=text: prove(design.graph, {**files, file: text}, layout)) for file, text in texts
    ]
    assert any(isinstance(one, str) for one in found) and found[-1] == said(prover.prove)


def test_modules_of_which_nothing_is_read_are_known(files: dict[str, str]) -> None:
    assert unread_modules(files, "net") == set()
    top = files["net.v"]
    instance = next(line for line in top.split("\n") if " u0 (" in line)
    module = instance.split()[0]
    more = top.replace(instance, f"{instance}\n  wire [1:0] spare;\n  net_spare u9 (.x(x), .spare(spare));")
    spare = "module net_spare (\n  input wire [19:0] x,\n  output wire [1:0] spare\n);\nendmodule\n"
    assert unread_modules({**files, "net.v": more, "net_spare.v": spare}, "net") == {"net_spare"}
    assert module not in unread_modules(files, "net")
