"""The proof by read-back: right designs are proven or said not to be, wrong ones never are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.errors import VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph
from hgq.ir.graph import Builder
from hgq.lower import lower
from hgq.netlist.targets import GENERIC, TARGETS, Target
from hgq.passes import insert_registers, optimise
from hgq.ports import Port
from hgq.verify.proof import Layout, prove
from tests.emit.conv_graphs import conv_graph
from tests.emit.merge_graphs import merge_graph, table_graph
from tests.emit.random_graphs import random_graph
from tests.ir.test_ops import wide_graph

Emitted = tuple[dict[str, str], Layout]


def emitted(graph: Graph, target: Target = GENERIC, clock_ns: float = 3.0) -> Emitted:
    design = insert_registers(optimise(lower(graph, "top"), target, clock_ns), clock_ns)
    inputs = [Port(n, graph[n].types, graph[n].attrs["rounding"], graph[n].attrs["overflow"]) for n in graph.inputs]
    outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
    return emit_verilog(design, inputs, outputs, clock_ns=clock_ns, version="test"), Layout.of(design, inputs, outputs)


GRAPHS = {
    "random": lambda: random_graph(1),
    "wide": wide_graph,
    "conv": lambda: conv_graph(1),
    "merge": lambda: merge_graph(1),
    "table": table_graph,
}


@pytest.mark.parametrize("target", [GENERIC, TARGETS["ultrascale"]], ids=lambda t: t.name)
@pytest.mark.parametrize("name", GRAPHS)
def test_random_graphs_are_proven_for_the_most_part_and_nothing_is_said_to_differ(name: str, target: Target) -> None:
    graph = GRAPHS[name]()
    texts, layout = emitted(graph, target)
    result = prove(graph, texts, layout)
    tensors = [graph[bus.tensor] for bus in layout.wires.values() if graph[bus.tensor].op != "input"]
    ports = sum(port.types.size for port in layout.outputs)
    unread = sum(len(bus.unread) for bus in layout.wires.values())
    assert result.outputs == sum(node.range.lo.size for node in tensors) - unread + ports, "each output has a verdict"
    assert result.proven >= 0.9 * result.outputs or name == "wide"
    assert all(sum(layer.reasons.values()) == layer.outputs - layer.proven for layer in result.layers)


LATE = "reg [99:0] late; always @(posedge clk) late <= out_data_r; assign out_data = late"


def network(rounding: str = "RND", overflow: str = "WRAP", units: int = 6) -> Graph:
    """x (8) -> dense -> relu -> quantizer -> dense, with a table at the end."""
    rng = np.random.default_rng(7)
    b = Builder()
    types = FixedArray.full((8,), FixedType.parse("s5f2"))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="x")
    kernel = FixedArray.full((8, units), FixedType.parse("s4f2"))
    bias = FixedArray.full((units,), FixedType.parse("s6f3"))
    weights = {"kernel": rng.integers(-8, 8, (8, units)), "kernel_types": kernel}
    weights["kernel"][:, 2] = 0  # a neuron that is a constant
    offsets = {"bias": rng.integers(-20, 20, units), "bias_types": bias}
    b.add("d0", "dense", "x", origin="first", **weights, **offsets)
    b.add("r0", "relu", "d0", origin="first")
    narrow = FixedArray.full((units,), FixedType.parse("u4f1"))
    how = {"rounding": Rounding(rounding), "overflow": Overflow(overflow)}
    b.add("q0", "quantize", "r0", types=narrow, origin="second", **how)
    kernel = FixedArray.full((units, 3), FixedType.parse("s4f1"))
    b.add("d1", "dense", "q0", origin="second", kernel=rng.integers(-8, 8, (units, 3)), kernel_types=kernel)
    reads = FixedArray.full((3,), FixedType.parse("s5f-1"))
    b.add("q1", "quantize", "d1", types=reads, rounding=Rounding.TRN, overflow=Overflow.SAT, origin="second")
    table = {"table": rng.integers(-30, 30, 32), "start": np.zeros(3, int), "reads": reads}
    b.add("t", "lookup", "q1", **table, types=FixedArray.full((3,), FixedType.parse("s6f2")), origin="curve")
    return b.graph("t", "d1")


@pytest.mark.parametrize("rounding", list(Rounding))
def test_a_dense_network_is_proven_completely(rounding: str) -> None:
    for overflow, target in zip(Overflow, (GENERIC, TARGETS["7series"], TARGETS["ultrascale"]), strict=True):
        graph = network(rounding, overflow)
        texts, layout = emitted(graph, target)
        result = prove(graph, texts, layout)
        assert result.complete, [(layer.layer, dict(layer.reasons)) for layer in result.layers]
        assert result.latency == layout.latency and result.covered == result.cells


def few_bits() -> Graph:
    """Neurons of five of eight narrow inputs: bias, ReLU and quantizer are in one table with the sum."""
    rng = np.random.default_rng(3)
    b = Builder()
    types = FixedArray(np.zeros(8, bool), np.array([1, 1, 1, 1, 1, 1, 2, 2]), np.zeros(8, int))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="x")
    weights = rng.integers(-8, 8, (8, 6))
    weights[:3] = 0
    kernel = {"kernel": weights, "kernel_types": FixedArray.full((8, 6), FixedType.parse("s4f2"))}
    bias = {"bias": rng.integers(-4, 9, 6), "bias_types": FixedArray.full((6,), FixedType.parse("s5f2"))}
    b.add("d", "dense", "x", origin="neurons", **kernel, **bias)
    b.add("r", "relu", "d", origin="neurons")
    narrow = FixedArray.full((6,), FixedType.parse("u2f0"))
    b.add("q", "quantize", "r", types=narrow, rounding=Rounding.RND, overflow=Overflow.SAT, origin="neurons")
    return b.graph("q")


def test_whole_neurons_that_are_tables_are_proven_for_every_input() -> None:
    graph = few_bits()
    texts, layout = emitted(graph)
    assert " + " not in texts["top_neurons.v"], "all of it is tables"
    result = prove(graph, texts, layout)
    assert result.complete, [(layer.layer, dict(layer.reasons)) for layer in result.layers]
    wrong = entry_up(texts["top_neurons.v"])
    with pytest.raises(VerificationError, match="neurons"):
        prove(graph, texts | {"top_neurons.v": wrong}, layout)


def test_a_table_may_read_bits_that_are_turned_over() -> None:
    b = Builder()
    types, whole = (FixedArray.full((2,), FixedType.parse(text)) for text in ("u3f0", "s3f0"))
    b.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP, origin="x")
    kernel = {"kernel": np.eye(2, dtype=int), "kernel_types": FixedArray.full((2, 2), FixedType.parse("s2f0"))}
    bias = {"bias": np.full(2, -4), "bias_types": FixedArray.full((2,), FixedType.parse("s4f0"))}
    b.add("d", "dense", "x", origin="curve", **kernel, **bias)  # the sign of x - 4 is not x[2]
    b.add("q", "quantize", "d", types=whole, rounding=Rounding.TRN, overflow=Overflow.WRAP, origin="curve")
    table = {"table": np.array([3, 1, 4, -1, 5, 9, 2, 6]), "start": np.zeros(2, int), "reads": whole}
    b.add("t", "lookup", "q", **table, types=FixedArray.full((2,), FixedType.parse("s6f2")), origin="curve")
    result = prove(b.graph("t"), *emitted(b.graph("t"), GENERIC))
    assert result.complete, [(layer.layer, dict(layer.reasons)) for layer in result.layers]


def swapped(text: str) -> str:
    return re.sub(r"(wire \[\d+:0\] n\d+ = [^?;*]+) \+ (?=[{n])", r"\1 - ", text, count=1)


def one_bit_up(text: str) -> str:
    """The first operand that is shifted is shifted by one bit less, and repeats its lowest bit."""

    def less(match: re.Match[str]) -> str:
        by = int(match[2])
        return f"{{{match[1]}, {match[1]}[0]{f', {by - 1}' + chr(39) + 'd0' if by > 1 else ''}}}"

    return re.sub(r"\{(n\d+), (\d+)'d0\}", less, text, count=1)


def other_register(text: str) -> str:
    """A register that is fed by the operand of the next one, of the same width."""
    widths = {name: width for width, name in re.findall(r"(?:wire|reg) \[(\d+):0\] (n\d+)", text)}
    fed = re.findall(r"    (n\d+) <= (n\d+);", text)
    for (a, x), (b, y) in itertools.pairwise(fed):
        if widths.get(a) == widths.get(b) and x != y:
            return text.replace(f"    {a} <= {x};", f"    {a} <= {y};")
    raise AssertionError("no two registers of one width")


def replaced(pattern: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, new, text, count=1)


def constant_up(text: str) -> str:
    """The first constant of a sum, one more."""
    return re.sub(r"(= (?:\d+'d)?[^;?]*[+-] \d+'d)(\d+)(?=;)|(= \d+'d)(\d+)(?= [+-])",
                  lambda m: f"{m[1]}{int(m[2]) + 1}" if m[1] else f"{m[3]}{int(m[4]) + 1}", text, count=1)  # fmt: skip


def entry_up(text: str) -> str:
    return re.sub(r"(: table__0 = (\d+)'d)(\d+)", lambda m: f"{m[1]}{int(m[3]) ^ 1}", text, count=1)


def dropped(text: str) -> str:
    """The output that a module gives last is 0 in place of what it was."""
    return re.sub(r"(assign \w+ = \{)(n\d+)", lambda m: f"{m[1]}({m[2]} & 0)", text, count=1)


def shorter(text: str) -> str:
    """The first register loses its highest bit."""
    return re.sub(r"reg \[(\d+):0\] (n\d+);", lambda m: f"reg [{int(m[1]) - 1}:0] {m[2]};", text, count=1)


MUTANTS = {
    "+ becomes -": ("top_first", swapped),
    "a shift off by one": ("top_first", one_bit_up),
    "a register of another signal": ("top_first", other_register),
    "a register less": ("top_first", replaced(r"reg (\[\d+:0\] )(n\d+);(.*)", r"wire \1\2;\3")),
    "a wire narrower": ("top_first", shorter),
    "a constant one more": ("top_first", constant_up),
    "a bit turned over": ("top_first", replaced(r"(assign q0 = \{\n?\s*)(n\d+)", r"\1\2 ^ 1")),
    "an entry of a table": ("top_curve", entry_up),
    "the bound of a saturation": ("top_second", replaced(r"\? 5'd15", "? 5'd14")),
    "the other comparison": ("top_second", replaced(r"\(\$signed\((n\d+)\) < ", r"($signed(\1) > ")),
    "a neuron dropped": ("top_second", dropped),
    "ports in another order": ("top", replaced("in_data_r <= in_data", "in_data_r <= {in_data[4:0], in_data[39:5]}")),
    "an output register more": (
        "top",
        replaced("assign out_data = out_data_r", LATE),
    ),
}


def test_every_kind_of_wrong_text_is_refused() -> None:
    graph = network()
    texts, layout = emitted(graph)
    survived = []
    for name, (module, change) in MUTANTS.items():
        mutant = dict(texts) | {f"{module}.v": change(texts[f"{module}.v"])}
        if name == "a register less":
            wire = re.search(r"wire \[\d+:0\] (n\d+);", mutant["top_first.v"])
            assert wire is not None
            mutant["top_first.v"] = re.sub(rf"    {wire[1]} <= (.*);", "", mutant["top_first.v"]).replace(
                wire[0], f"{wire[0][:-1]} = {re.search(rf'    {wire[1]} <= (.*);', texts['top_first.v'])[1]};"
            )
        assert mutant != texts, f"{name}: nothing was changed"
        try:
            prove(graph, mutant, layout)
            survived.append(name)
        except VerificationError as difference:
            assert "proof: " in str(difference)
    assert not survived


def test_a_difference_names_layer_output_and_both_forms() -> None:
    graph = network()
    texts, layout = emitted(graph)
    wrong = dict(texts) | {"top_first.v": constant_up(texts["top_first.v"])}
    with pytest.raises(
        VerificationError, match=r"'first', output \d+ \(q0\): expected .*; found .*; they differ for x\["
    ):
        prove(graph, wrong, layout)
