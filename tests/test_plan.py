"""The design that a plan chooses: right, no worse than the ways it chose from, and shared work changes nothing."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph, evaluate
from hgq.ir.graph import Builder
from hgq.lower import cmvm, lower
from hgq.netlist import Design, evaluate_design
from hgq.netlist.cost import lut_estimate
from hgq.netlist.targets import TARGETS
from hgq.passes import fewest_cycles, fused_estimate, optimise
from hgq.passes import insert_registers as pipelined

plan_file: Any = importlib.import_module("hgq.plan")


def graph() -> Graph:
    """12-10-6 with ReLU; inputs of one to three bits, so that tables are near the price of adders."""
    rng = np.random.default_rng(3)
    builder = Builder()
    types = FixedArray(np.zeros(12, bool), rng.integers(1, 4, 12), np.zeros(12, int))
    value = builder.add("x", "input", origin="x", types=types, rounding=Rounding.RND, overflow=Overflow.WRAP)
    for n, (inputs, outputs) in enumerate(((12, 10), (10, 6))):
        kernel = rng.integers(-7, 8, (inputs, outputs)) * (rng.random((inputs, outputs)) < 0.7)
        held = {
            "kernel_types": FixedArray.full(kernel.shape, FixedType.parse("s4f0")),
            "bias_types": FixedArray.full((outputs,), FixedType.parse("s6f0")),
        }
        value = builder.add(
            f"dense{n}", "dense", value, origin=f"dense{n}", kernel=kernel, bias=rng.integers(-20, 20, outputs), **held
        )
        if not n:
            value = builder.add("relu", "relu", value, origin="dense0")
            types = FixedArray.full((10,), FixedType.parse("u3f-4"))
            how = {"types": types, "rounding": Rounding.RND, "overflow": Overflow.SAT}
            value = builder.add("quantized", "quantize", value, origin="dense1", **how)
    return builder.graph(value)


def price(design: Design) -> tuple[int, int]:
    return fewest_cycles(design, 4.0), sum(lut_estimate(module) for module in design.modules.values())


@pytest.mark.parametrize("target", TARGETS)
def test_the_plan_is_right_and_no_worse_than_any_of_its_ways(target: str) -> None:
    net = graph()
    options = {"part": "xcvu13p-flga2577-2-e", "clock_ns": 4.0, "target": target}
    chosen, pipeline = plan_file.plan(net, "net", options)
    x = np.random.default_rng(0).integers(net["x"].types.lo, net["x"].types.hi + 1, (500, 12))
    assert evaluate_design(chosen, {chosen.inputs[0]: x})[chosen.outputs[0]].tolist() == (
        evaluate(net, {"x": x})[net.outputs[0]].tolist()
    )
    assert pipeline(chosen).latency == fewest_cycles(chosen, 4.0)
    carry = TARGETS[target].carry > 0
    objective = cmvm.Objective.LUT3 if carry else cmvm.Objective.LUT
    for way in plan_file.CARRY_WAYS if carry else plan_file.WAYS:
        # Without anything shared.
        trials = cmvm.Trials(fused_estimate) if carry else cmvm.Trials()
        with cmvm.using(cmvm.Options(objective=objective), trials, way):
            design = optimise(lower(net, "net"), TARGETS[target], 4.0)
        assert price(chosen) <= price(design), way


def test_cycles_are_counted_as_the_pipeline_has_them() -> None:
    design = optimise(lower(graph(), "net"))
    for clock in (1.5, 2.0, 3.0, 5.0, 50.0):
        assert fewest_cycles(design, clock) == pipelined(design, clock).latency
