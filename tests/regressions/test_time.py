"""What messages about time advise works, and a design without logic has any latency. Found by fuzzing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hgq.errors import ConversionError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir.graph import Builder, Graph
from hgq.lower import lower
from hgq.netlist.delays import delay_model
from hgq.passes import insert_registers, shortest_clock


def clamped() -> Graph:
    builder = Builder()
    types = FixedArray.full((1,), FixedType(True, 8, 0))
    builder.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.SAT)
    return builder.graph(builder.add("y", "clip", "x", low=(-100, 0), high=(77, 0), origin="clamp"))


@pytest.mark.parametrize("part", ["LFE5U-85F", "xcvu13p-flga2577-2-e", "xc7a100tcsg324-1"])
def test_the_clock_that_a_message_advises_is_long_enough(part: str) -> None:
    design, model = lower(clamped(), "net"), delay_model(part)
    with pytest.raises(ConversionError, match="does not fit a clock") as error:
        insert_registers(design, 0.9, model=model)
    advised = float(re.search(r"at least ([\d.]+) ns", str(error.value))[1])  # type: ignore[index]
    assert insert_registers(design, advised, model=model).latency >= 2
    with pytest.raises(ConversionError):
        insert_registers(design, advised - 0.011, model=model)


def test_outputs_that_are_all_constant_have_the_latency_that_is_asked_for() -> None:
    builder = Builder()
    types = FixedArray(np.zeros(1), np.zeros(1), np.zeros(1))
    builder.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.SAT)
    design = lower(builder.graph(builder.add("y", "relu", "x")), "net")
    assert insert_registers(design, 5.0, latency=4).latency == 4
    assert shortest_clock(design, 2) > 0


def test_a_clock_shorter_than_a_register_is_refused_where_there_is_no_logic_either() -> None:
    builder = Builder()
    types = FixedArray.full((2,), FixedType(False, 4, 0))
    builder.add("x", "input", types=types, rounding=Rounding.RND, overflow=Overflow.SAT)
    design, model = lower(builder.graph(builder.add("y", "relu", "x")), "net"), delay_model("LFE5U-85F")
    with pytest.raises(ConversionError, match=f"shorter than the {model.register:g} ns that a register takes") as error:
        insert_registers(design, model.register / 2, model=model)
    advised = float(re.search(r"at least ([\d.]+) ns", str(error.value))[1])  # type: ignore[index]
    assert insert_registers(design, advised, model=model).latency == 2
