"""The cocotb tests of a design: `bulk` for speed, the others drive and check the ports clock by clock.

Runs inside the simulator. The package simulator puts config.json and the vectors into the folder BENCH_WORK and reads
failure.json (the first thing that went wrong) and outputs.npy from there.
"""

import ctypes
import json
import os
import random
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

WORK = Path(os.environ["BENCH_WORK"])
CONFIG = json.loads((WORK / "config.json").read_text())
LATENCY = CONFIG["latency"]
ANYTHING = -1  # at the clock of a reset, out_valid may be either
VECTORS_PER_THREAD = 20_000  # a further copy of the design pays from about here


def _load(name):
    path = WORK / f"{name}.npy"
    return np.load(path) if path.exists() else None


def _integers(words):
    return [int.from_bytes(row.tobytes(), "little") for row in words.astype("<u4")]


def _fail(check, kind, cycle, index=None, **numbers):
    """Leaves the finding for the package simulator, unless an earlier one is there, and fails the test."""
    found = {"top": CONFIG["top"], "check": check, "kind": kind, "cycle": cycle, "index": index} | numbers
    path = WORK / "failure.json"
    if not path.exists():
        path.write_text(json.dumps(found))
    raise AssertionError(f"{check}: {kind}, vector {index}, clock {cycle}, {numbers}")


# Bulk. These two come before the others: Verilator refuses further copies of a model once simulated time has passed.


def _bulk(check, inputs, gaps, init, threads):
    """All vectors through `bulk_run` of bulk.cpp, which sits in this very process."""
    outputs = np.zeros((len(inputs), -(-CONFIG["out_width"] // 32)), np.uint32)
    failure = np.zeros(3, np.uint64)
    call = ctypes.CDLL(None).bulk_run
    call.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_uint64] * 4 + [ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p]
    buffers = [a.ctypes.data if a is not None else None for a in (inputs, outputs, gaps)]
    sizes = [len(inputs), inputs.shape[1], outputs.shape[1], LATENCY]
    if call(*buffers, *sizes, init, threads, failure.ctypes.data):
        index, clock, valid = map(int, failure)
        if index >= len(inputs):
            _fail(check, "out_valid is high after the last output", clock)
        kind = "out_valid is high too early or unasked for" if valid else "out_valid is not high when promised"
        _fail(check, f"{kind} (latency {LATENCY})", clock, index, stimulus=_integers(inputs[index : index + 1])[0])
    return outputs


@cocotb.test()
async def bulk(_dut):
    inputs = _load("inputs")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = CONFIG["threads"] or max(1, min(cores, len(inputs) // VECTORS_PER_THREAD))
    np.save(WORK / "outputs.npy", _bulk("bulk", inputs, _load("gaps"), 2, min(threads, len(inputs))))


@cocotb.test()
async def power_up(_dut):
    """Registers that wake up as zeros or as ones must make no difference once a reset was given."""
    inputs, expected = _load("inputs")[:256], _integers(_load("expected")[:256])
    for init, name in ((0, "zeros"), (1, "ones")):
        got = _integers(_bulk("power_up", inputs, None, init, 1))
        for index, (want, value) in enumerate(zip(expected, got, strict=True)):
            if value != want:
                kind = f"wrong out_data when registers wake up as {name}"
                stimulus = _integers(inputs[index : index + 1])[0]
                _fail("power_up", kind, 1 + index + LATENCY, index, stimulus=stimulus, expected=want, got=value)


# Clock by clock. A step is (rst, vector or None), what one rising edge samples.


def predict(steps):
    """The vector whose output each clock must show; None: out_valid low. A reset drops whatever is inside."""
    shown = [None] * len(steps)
    for clock, (_, vector) in enumerate(steps):
        inside = steps[clock : clock + LATENCY]
        if vector is not None and clock + LATENCY < len(steps) and not any(rst for rst, _ in inside):
            shown[clock + LATENCY] = vector
    return [ANYTHING if rst else vector for (rst, _), vector in zip(steps, shown, strict=True)]


async def _play(dut, check, steps):
    """Applies the steps after a reset and checks out_valid and out_data at every clock."""
    steps = [(1, None), *steps, *[(0, None)] * (LATENCY + 3)]
    inputs, expected = _integers(_load("inputs")), _integers(_load("expected"))
    count, shown = len(inputs), predict(steps)
    junk = random.Random(CONFIG["seed"])
    edge = RisingEdge(dut.clk)
    Clock(dut.clk, 2, unit="step").start(start_high=False)
    for clock, (rst, vector) in enumerate(steps):
        dut.rst.value = rst
        dut.in_valid.value = vector is not None
        dut.in_data.value = inputs[vector % count] if vector is not None else junk.getrandbits(CONFIG["in_width"])
        await edge  # what is read now is what this edge samples
        due, valid = shown[clock], int(dut.out_valid.value)
        if due == ANYTHING:
            continue
        if due is None:
            if valid:
                _fail(check, f"out_valid is high where nothing is due (latency {LATENCY})", clock)
            continue
        due %= count
        numbers = {"stimulus": inputs[due], "expected": expected[due]}
        if not valid:
            _fail(check, f"out_valid is low where an output is due (latency {LATENCY})", clock, due, **numbers)
        got = int(dut.out_data.value)
        if got != expected[due]:
            _fail(check, "wrong out_data", clock, due, **numbers, got=got)


@cocotb.test()
async def idle(dut):
    """Nothing fed: nothing comes out, whatever in_data does."""
    await _play(dut, "idle", [(0, None)] * (2 * LATENCY + 16))


@cocotb.test()
async def back_to_back(dut):
    """One vector per clock: each after exactly the latency."""
    await _play(dut, "back_to_back", [(0, vector) for vector in range(len(_load("inputs")))])


@cocotb.test()
async def gaps(dut):
    """Random idle clocks between vectors, in runs of every length around the latency."""
    choose, steps = random.Random(CONFIG["seed"]), []
    for vector in range(len(_load("inputs"))):
        steps += [(0, None)] * (choose.randint(1, LATENCY + 2) if choose.random() < 0.3 else 0) + [(0, vector)]
    await _play(dut, "gaps", steps)


@cocotb.test()
async def reset(dut):
    """One clock of rst, at every filling of the pipeline, drops what is inside; the next vector works again."""
    steps, vector = [], 0
    fillings = sorted({*range(min(LATENCY, 8) + 2), LATENCY // 2, LATENCY, LATENCY + 3})
    for filling in fillings:
        for quiet in (0, LATENCY + 2):  # vectors right after the reset, and none for a while
            steps += [(0, vector + n) for n in range(filling)]
            vector += filling
            steps += [(1, vector if LATENCY else None), *[(0, None)] * quiet]
            steps += [(0, vector + 1 + n) for n in range(LATENCY + 2)]
            steps += [(0, None)] * (LATENCY + 1)
            vector += LATENCY + 3
    await _play(dut, "reset", steps)
