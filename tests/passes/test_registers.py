"""Pipelines keep the clock, have the fewest cycles, and of these the fewest registers: against a linear program."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from hgq.errors import ConversionError
from hgq.fixed import FixedType
from hgq.ir import Graph
from hgq.lower import lower
from hgq.netlist import Builder, Design, Instance, Module, Wire
from hgq.netlist.delays import DEFAULT, ECP5, delay_model
from hgq.netlist.timing import critical_path
from hgq.passes import insert_registers, shortest_clock
from hgq.passes.flat import END, START, Flat, flatten
from hgq.passes.schedule import earliest, fewest_registers, registers
from tests.emit.conv_graphs import conv_graph
from tests.emit.merge_graphs import merge_graph
from tests.emit.random_graphs import random_graph

GRAPHS = {"0": random_graph(0), "1": random_graph(1), "conv": conv_graph(0), "merge": merge_graph(1)}


def least_by_linear_program(flat: Flat, budget: float, first: int, last: int) -> float:
    """The fewest register bits, from every pair of nodes that one cycle cannot hold, with no cleverness at all."""
    size = len(flat.delay)
    number = {**{v: v for v in range(size)}, START: size, END: size + 1}
    rows = [(p, v, 0) for v in range(size) for p in (*flat.args[v], *flat.after[v])]
    rows += [pair for v, s in enumerate(flat.same) for pair in ((s, v, 0), (v, s, 0))]
    for u in range(size):
        longest = {u: flat.delay[u]}
        for v in range(u + 1, size):
            ways = [longest[p] for p in flat.args[v] if p in longest]
            if ways:
                longest[v] = max(ways) + flat.delay[v]
        rows += [(u, v, 1) for v, ns in longest.items() if ns > budget + 1e-9]
    cost = np.zeros(size + 2 + len(flat.nets))
    for n, (driver, bits, readers) in enumerate(flat.nets, size + 2):
        rows += [(number[v], n, 0) for v in (driver, *readers)]
        cost[n] += bits
        cost[number[driver]] -= bits
    before, behind, _ = np.array(rows).T
    places = np.tile(np.arange(len(rows)), 2), np.concatenate([before, behind])
    matrix = csr_matrix((np.repeat([1, -1], len(rows)), places), shape=(len(rows), len(cost)))
    bounds = [(first, last)] * len(cost)
    bounds[number[START]], bounds[number[END]] = (first, first), (last, last)
    found = linprog(cost, A_ub=matrix, b_ub=[-least for *_, least in rows], bounds=bounds)
    assert found.status == 0, found.message
    return found.fun


def register_bits(design: Design) -> int:
    """Flip-flops between the ports' own, counted in the modules and in the top level."""
    uses = Counter(one.module for one in design.instances)
    inside = sum(
        uses[name] * sum(node.type.width for node in module.nodes if node.op == "register")
        for name, module in design.modules.items()
    )
    waits: dict[str, int] = dict(zip(design.outputs, design.output_delays, strict=True))
    for one in design.instances:
        for name, wait in zip(one.inputs, one.delays, strict=True):
            waits[name] = max(waits.get(name, 0), wait)
    return inside + sum(design.wires[name].width * wait for name, wait in waits.items())


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_pipelines_keep_the_clock_with_fewest_cycles_and_registers(graph: Graph) -> None:
    design = lower(graph, "top")
    saved = 0
    for model in (DEFAULT, ECP5):
        flat = flatten(design, model.delay)
        slowest = max(flat.delay) + model.register
        for clock in (slowest + 0.01, 1.7 * slowest, 4 * slowest):
            budget = clock - model.register
            early, _ = earliest(flat, budget, 1)
            last = max(early)
            made = insert_registers(design, clock, model=model)
            assert made.latency == last + 1
            assert critical_path(made, model).ns <= clock + 1e-6
            assert made.cycles() == {**made.cycles(), **dict.fromkeys(design.inputs, 1)}
            least = registers(flat, fewest_registers(flat, early, budget, 1, last), 1, last)
            assert register_bits(made) == least, "the count that was made small is what stands in the design"
            assert least == round(least_by_linear_program(flat, budget, 1, last))
            saved += registers(flat, early, 1, last) - least
    assert saved > 0


def neuron(*, wide: bool) -> Design:
    """Two 12-bit inputs added; cut to 4 bits, or not; and one more adder."""
    b = Builder("m")
    a, c = b.input("x", [(-2048, 2047, 0)] * 2)
    total = b.add(a, c)
    narrow = total if wide else b.keep(total, 0, FixedType.parse("s4f0"))
    module = b.module({"y": [b.add(narrow, narrow, 0, 1)]})
    return around(module)


def around(module: Module) -> Design:
    """A design of one module."""
    wires = {
        p.name: Wire(p.name, tuple((module.nodes[r].lo, module.nodes[r].hi, 0) for r in p.refs), p.name)
        for p in (*module.inputs, *module.outputs)
    }
    one = Instance("m", ("x",), ("y",), (0,))
    return Design("top", {"m": module}, (one,), wires, ("x",), ("y",), (0,))


def test_a_register_stands_where_the_bus_is_narrow() -> None:
    def widths(design: Design, latency: int) -> list[int]:
        made = insert_registers(design, 5.0, latency=latency)
        return [n.type.width for n in made.modules["m"].nodes if n.op == "register"]

    assert widths(neuron(wide=False), 2) == []
    assert widths(neuron(wide=False), 3) == [4]
    assert widths(neuron(wide=True), 3) == [13]
    assert widths(neuron(wide=False), 5) == [4, 4, 4], "one chain"


def test_latency_wished_for_is_reached_at_the_shortest_clock() -> None:
    design = lower(GRAPHS["0"], "top")
    flat = flatten(design, DEFAULT.delay)
    seen = []
    for latency in range(2, 9):
        clock = shortest_clock(design, latency)
        made = insert_registers(design, clock, latency=latency)
        assert made.latency == latency
        assert critical_path(made, DEFAULT).ns <= clock + 1e-6
        shorter = clock - 0.001 - DEFAULT.register
        assert shorter < max(flat.delay) or max(earliest(flat, shorter, 1)[0]) + 1 > latency
        seen.append(clock)
    assert seen == sorted(seen, reverse=True) and len(set(seen)) > 4
    assert shortest_clock(design, 0, register_inputs=False, register_outputs=False) > 0


@pytest.mark.parametrize("latency", [0, 1, 100])
def test_an_impossible_latency_is_refused_with_what_is_possible(latency: int) -> None:
    design = lower(GRAPHS["0"], "top")
    with pytest.raises(ConversionError, match=rf"latency={latency}: this model can have 2 to (\d+) cycles") as refused:
        shortest_clock(design, latency)
    most = int(str(refused.value).split(" to ")[1].split()[0])
    assert shortest_clock(design, most) < shortest_clock(design, most - 1)
    with pytest.raises(ConversionError, match=r"needs .* cycles, not 2"):
        insert_registers(design, 3.0, latency=2)


def test_the_worst_path_is_found_across_modules_and_named() -> None:
    design = lower(GRAPHS["0"], "top")
    whole = critical_path(insert_registers(design, 1000.0), DEFAULT)
    assert whole.ns == pytest.approx(max(_arrivals(design)) + DEFAULT.register)
    assert len({node.origin.split("[")[0] for node in whole.ops}) > 1 and "add of" in str(whole)
    cut = critical_path(insert_registers(design, 2.5), DEFAULT)
    assert cut.ns <= 2.5 and cut.mhz == 1000 / cut.ns and len(cut.ops) < len(whole.ops)


def _arrivals(design: Design) -> list[float]:
    flat = flatten(design, DEFAULT.delay)
    time: list[float] = []
    for v, takes in enumerate(flat.delay):
        time.append(takes + max((time[p] for p in flat.args[v]), default=0.0))
    return time


def test_parts_choose_the_model_and_its_speed_grade() -> None:
    vu13p = delay_model("xcvu13p-flga2577-2-e")
    assert vu13p.name == "Xilinx UltraScale+ -2" and "not measured" in vu13p.evidence
    names = {
        "xcvu13p-fhgb2104-3-e": "UltraScale+ -3",
        "xczu9eg-ffvb1156-2-e": "UltraScale+ -2",
        "xck26-sfvc784-2LV-c": "UltraScale+ -2",
        "xcku040-ffva1156-2-e": "UltraScale -2",
        "xcku5p": "UltraScale+ -1",
        "xc7k325tffg900-2": "Kintex-7 and Virtex-7 -2",
        "xc7z020clg400-1": "Artix-7 and Spartan-7 -1",
        "xc7z045ffg900-2": "Kintex-7 and Virtex-7 -2",
        "LFE5UM-85F-6BG756C": "ECP5 -6",
    }
    for part, name in names.items():
        assert delay_model(part).name.endswith(name), part
    add, _, slower = (delay_model(p).add for p in ("xcvu9p-flga2104-2-e", "xcvu9p-x-1-e", "xc7a35tcpg236-1"))
    assert 1.6 < slower / add < 1.7
    assert "no model for 10CX220" in delay_model("10CX220").evidence
