"""The emitted project's own test bench, which passes with plain pytest wherever the project is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import hgq
from hgq.emit import templates

_VERBATIM = ("bench.py", "bulk.cpp")


def testbench(top: str, sources: list[str], in_width: int, out_width: int, latency: int) -> dict[str, str]:
    """The files of the test bench, all below tb/; `save_vectors` writes the data that goes with them.

    Args:
        top: name of the top module.
        sources: Verilog files, relative to the project folder.
        in_width: bits of in_data.
        out_width: bits of out_data.
        latency: clocks from in_valid to out_valid.
    """
    runner = templates.template("tb/test_rtl.py.j2").render(
        top=top, sources=sources, in_width=in_width, out_width=out_width, latency=latency
    )
    # The simulator is hgq's own, read as text: emitters do not import engines.
    simulator = sorted((Path(hgq.__file__).with_name("sim") / "simulator").glob("*.py"))
    return {
        "tb/test_rtl.py": runner,
        **{f"tb/simulator/{file.name}": file.read_text(encoding="utf-8") for file in simulator},
        **{f"tb/{name}": templates.text(f"tb/{name}") for name in _VERBATIM},
    }


def save_vectors(project: Path, inputs: np.ndarray, outputs: np.ndarray) -> None:
    """Writes tb/vectors.npz.

    Args:
        inputs, outputs: uint32 words of shape (n, ceil(width / 32)), lowest word first, unused high bits zero.
    """
    for name, array in (("inputs", inputs), ("outputs", outputs)):
        if array.dtype != np.uint32 or array.ndim != 2 or len(array) != len(inputs):
            raise ValueError(f"{name} must be uint32 words, one row per vector; got {array.dtype} {array.shape}")
    np.savez_compressed(project / "tb" / "vectors.npz", inputs=inputs, outputs=outputs)
