"""Small pipelines written by hand, right and wrong ones, and what they compute in Python integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hgq.sim.simulator import RtlDesign, words


def pipeline(
    folder: Path,
    *,
    in_width: int,
    out_width: int,
    latency: int,
    valid_latency: int | None = None,
    reset_clears: bool = True,
    ghost: bool = False,
) -> RtlDesign:
    """A module that computes `expected` in `latency` stages.

    valid_latency: stages of valid, where they differ from those of data (a dropped register).
    reset_clears: whether rst clears valid.
    ghost: whether a register that nothing ever sets flips the lowest output bit.
    """
    valids = latency if valid_latency is None else valid_latency
    top = f"pipe_{in_width}_{out_width}_{latency}"
    wide = max(in_width, out_width)
    keep = " & ~rst" if reset_clears else ""
    lines = [
        f"module {top}(",
        "  input clk, input rst, input in_valid,",
        f"  input [{in_width - 1}:0] in_data, output out_valid, output [{out_width - 1}:0] out_data",
        ");",
        f"  wire [{wide - 1}:0] x = {{{{{wide}{{1'b0}}}}, in_data}};",
        f"  wire [{wide - 1}:0] y = (x ^ (x >> 1)) + (x << 3) + 3;",
        f"  wire [{out_width - 1}:0] d0 = y[{out_width - 1}:0];",
        "  wire v0 = in_valid;",
        f"  reg [{out_width - 1}:0] forgotten;" if ghost else "",
    ]
    for n in range(1, latency + 1):
        lines.append(f"  reg [{out_width - 1}:0] d{n}; always @(posedge clk) d{n} <= d{n - 1};")
    for n in range(1, valids + 1):
        lines.append(f"  reg v{n}; always @(posedge clk) v{n} <= v{n - 1}{keep};")
    flip = f" ^ {{{{{out_width}{{1'b0}}}}, forgotten[0]}}" if ghost else ""
    lines += [f"  assign out_valid = v{valids};", f"  assign out_data = d{latency}{flip};", "endmodule", ""]
    path = folder / f"{top}.v"
    path.write_text("\n".join(lines))
    return RtlDesign((path,), top, in_width, out_width, valids)


def stimulus(in_width: int, n: int) -> list[int]:
    """Random integers, the extremes among them."""
    draw = np.random.default_rng(in_width)
    mask = (1 << in_width) - 1
    return [0, mask, *(int.from_bytes(draw.bytes(words(in_width) * 4), "little") & mask for _ in range(n - 2))]


def expected(design: RtlDesign, inputs: list[int]) -> list[int]:
    return [((x ^ (x >> 1)) + (x << 3) + 3) & ((1 << design.out_width) - 1) for x in inputs]


def to_words(integers: list[int], width: int) -> np.ndarray:
    data = b"".join(x.to_bytes(words(width) * 4, "little") for x in integers)
    return np.frombuffer(data, "<u4").reshape(len(integers), words(width)).copy()


def vectors(design: RtlDesign, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and right outputs as words."""
    inputs = stimulus(design.in_width, n)
    return to_words(inputs, design.in_width), to_words(expected(design, inputs), design.out_width)
