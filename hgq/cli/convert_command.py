"""hgq-convert: a model file becomes a verified project folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hgq.cli.arrays import load_arrays
from hgq.cli.exits import exit_codes
from hgq.cli.progress import Steps
from hgq.cli.quiet import start_keras


class Backend(StrEnum):
    """The hls4ml back ends that a project can be made for."""

    VITIS = "Vitis"
    VIVADO = "Vivado"


class IoType(StrEnum):
    """How tensors travel between the layers of the hls4ml project."""

    PARALLEL = "io_parallel"
    STREAM = "io_stream"


class Objective(StrEnum):
    """What is made small."""

    LUT = "lut"
    ADDERS = "adders"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
FILE = "FILE.npy"


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def convert(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="the trained model: .keras; .h5 or .json of QKeras or Keras 2; .onnx"),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder to write; replaced if it holds a project")],
    calibrate: Annotated[
        str | None, typer.Option(metavar=FILE, help="training data, to find the ranges that are not yet known")
    ] = None,
    verify: Annotated[
        str | None, typer.Option(metavar=FILE, help="data the model has not seen, to compare all engines on")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar=FILE, help="one set, split in two, instead of --calibrate and --verify")
    ] = None,
    clock_ns: Annotated[
        float | None, typer.Option(help="clock period in nanoseconds that registers are placed for  [default: 5]")
    ] = None,
    latency: Annotated[
        int | None, typer.Option(help="clock cycles in all, at the shortest clock they allow, in place of --clock-ns")
    ] = None,
    backend: Annotated[Backend, typer.Option(help="whose HLS compiler the C++ is for")] = Backend.VITIS,
    io_type: Annotated[
        IoType,
        typer.Option(
            help="how tensors travel in the C++: all at once, or as streams of packets (a packet holds the channels); "
            "the Verilog takes all at once in either case, a vector a clock"
        ),
    ] = IoType.PARALLEL,
    part: Annotated[
        str | None,
        typer.Option(
            help="FPGA part; for Xilinx 7 series, UltraScale and UltraScale+ the Verilog then uses their LUTs and "
            "carry chains to add three operands at once; otherwise it is generic"
        ),
    ] = None,
    input_type: Annotated[
        str | None, typer.Option(metavar="s16f8", help="type of the input port; quantisation then is in hardware")
    ] = None,
    effort: Annotated[
        int,
        typer.Option(
            min=0, max=6, help="how hard to look for few LUTs: 1 milliseconds, 2 seconds for a layer, then 4 times each"
        ),
    ] = 1,
    objective: Annotated[Objective, typer.Option(help="what is made small")] = Objective.LUT,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="the weights that belong to a .json file")
    ] = None,
    drop_softmax: Annotated[
        bool, typer.Option("--drop-softmax", help="leave a softmax at the end of an imported model out")
    ] = False,
    types: Annotated[
        str | None, typer.Option(metavar="s8f6|FILE.json", help="types for a plain Keras model, which has none")
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="skip all comparisons; the report says so")] = False,
    no_proof: Annotated[
        bool,
        typer.Option("--no-proof", help="skip the proof for all inputs; the report says so"),
    ] = False,
) -> None:
    """Converts a Keras model to an hls4ml project and Verilog, and verifies that both equal it bit for bit.

    Exit codes: 0 converted and equal; 1 a difference; 2 usage, model, data or tool; 3 a bug in hgq.
    """
    with exit_codes(out):
        if no_verify and verify:
            raise ValueError(f"--no-verify and --verify {verify} contradict each other; give one of them")
        if not model.is_file():
            raise ValueError(f"{model}: there is no such file; give the file that model.save wrote")
        arrays = {
            name: load_arrays(text, f"--{name}")
            for name, text in (("calibrate", calibrate), ("verify", verify), ("data", data))
            if text is not None
        }
        with Steps() as step:
            step("start Keras")
            start_keras()
            import hgq

            project = hgq.convert(
                model,
                out,
                calibrate=arrays.get("calibrate"),
                verify=False if no_verify else arrays.get("verify"),
                data=arrays.get("data"),
                clock_ns=clock_ns,
                latency=latency,
                backend=backend.value,
                io_type=io_type.value,
                part=part,
                input_type=input_type,
                effort=effort,
                objective=objective.value,
                weights=weights,
                drop_softmax=drop_softmax,
                types=types,
                proof=not no_proof,
                progress=step,
            )
        typer.echo(project.summary())
        typer.echo(f"project: {project.path}\nreport:  {project.path / 'report.json'}")


def main() -> None:
    """What the console script runs."""
    app(prog_name="hgq-convert")
