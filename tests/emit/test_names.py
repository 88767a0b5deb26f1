"""What users call their inputs does not meet what the Verilog calls its own."""

import re

import numpy as np
import pytest

from hgq.emit.verilog import emit_verilog
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir.graph import Builder
from hgq.lower import lower
from hgq.passes import insert_registers
from hgq.ports import Port


def declared(text: str) -> list[str]:
    """Every port, wire, register and instance of a Verilog module."""
    return re.findall(r"^ +(?:input |output )?(?:wire|reg) (?:\[\d+:\d+\] )?(\w+)", text, re.M) + re.findall(
        r"^  (?:net_\w+) (\w+) \(", text, re.M
    )


@pytest.mark.parametrize("name", ["valid", "unused", "u0", "U0", "n1", "in_data_r", "out_data_r", "Out_Data_R", "x_d1"])
def test_each_name_in_a_verilog_module_is_declared_once(name):
    b = Builder()
    types = FixedArray.full((2,), FixedType.parse("s6f4"))
    kernel = {"kernel": np.array([[1, 3], [-3, 5]]), "kernel_types": FixedArray.full((2, 2), FixedType.parse("s4f0"))}
    for one in ("x", name):
        b.add(one, "input", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP)
    b.add("a", "dense", name, origin="a", **kernel)
    b.add("b", "dense", "a", origin="b", **kernel)
    b.add("sum", "add", "x", "b", origin="sum")  # x waits
    graph = b.graph("sum")
    design = insert_registers(lower(graph, "net"), 2.0)
    assert design.latency > 2
    ports = [Port(n, graph[n].types, Rounding.RND, Overflow.WRAP) for n in graph.inputs]
    outputs = [Port.output(n, graph[n].types) for n in graph.outputs]
    for text in emit_verilog(design, ports, outputs, clock_ns=2.0, version="0").values():
        names = [found.lower() for found in declared(text)]
        assert len(names) == len(set(names)) and len(names) > 3
