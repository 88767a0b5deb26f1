"""cocotb tests that verification.py times: the bulk engine, and one vector per clock from Python."""

import json
import os
import time
from pathlib import Path

import cocotb
import numpy as np
from bench import CONFIG, WORK, _bulk, _integers
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

VECTORS = 50_000


def _report(name, rate):
    path = Path(CONFIG["report"])
    rates = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(rates | {name: rate}))


@cocotb.test()
async def in_bulk(_dut):
    inputs, expected = np.load(WORK / "inputs.npy"), np.load(WORK / "expected.npy")
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        start = time.perf_counter()
        outputs = _bulk("bulk", inputs, None, 2, threads)
        seconds = time.perf_counter() - start
        assert (outputs == expected).all()
        _report(f"bulk, {threads} thread{'s' * (threads > 1)}", len(inputs) / seconds)


@cocotb.test()
async def per_clock(dut):
    inputs = _integers(np.load(WORK / "inputs.npy")[:VECTORS])
    expected = _integers(np.load(WORK / "expected.npy")[:VECTORS])
    Clock(dut.clk, 2, unit="step").start(start_high=False)
    edge = RisingEdge(dut.clk)
    dut.rst.value = 1
    dut.in_valid.value = 0
    await edge
    dut.rst.value = 0
    dut.in_valid.value = 1
    got, out_valid, out_data, in_data = [], dut.out_valid, dut.out_data, dut.in_data
    start = time.perf_counter()
    for value in inputs:
        in_data.value = value
        await edge
        if int(out_valid.value):
            got.append(int(out_data.value))
    seconds = time.perf_counter() - start
    assert got == expected[: len(got)] and len(got) == len(inputs) - CONFIG["latency"]
    _report("per clock", len(inputs) / seconds)
