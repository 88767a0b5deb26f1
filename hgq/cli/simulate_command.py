"""hgq-simulate: compares the engines of a converted project again, on any data."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hgq.cli.arrays import load_arrays
from hgq.cli.exits import NOT_PROVEN, exit_codes
from hgq.cli.progress import Steps
from hgq.cli.quiet import start_keras


class Engine(StrEnum):
    """What is compared with the golden model."""

    PROOF = "proof"
    CSIM = "csim"
    VERILATOR = "verilator"
    COCOTB = "cocotb"
    KERAS = "keras"
    ICARUS = "icarus"
    ALL = "all"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="what hgq-convert wrote")],
    data: Annotated[
        str | None, typer.Option(metavar="FILE.npy", help="samples to run; without it, the project's own vectors")
    ] = None,
    trace: Annotated[
        int | None,
        typer.Option(metavar="SAMPLE", help="one sample, layer by layer, in every engine; writes FOLDER/trace/"),
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="which engine to compare with the golden model  [default: all]")
    ] = None,
    no_proof: Annotated[
        bool, typer.Option("--no-proof", help="with all engines: leave out the proof for all inputs")
    ] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="put faults into the Verilog and show what notices each")
    ] = False,
    mutants: Annotated[
        int | None, typer.Option(min=1, max=65535, help="how many faults of the self-test (default: 100)")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="which faults of the self-test (default: 0)")] = None,
) -> None:
    """Proves and simulates a converted project: whether it equals its golden model, bit for bit.

    Exit codes: 0 equal; 1 a difference, or a fault of the self-test that nothing noticed; 2 usage, data or tool; 3 a
    bug in hgq; 4 nothing differs, but --engine proof cannot prove every output.
    """
    with exit_codes(folder):
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder; give one that hgq-convert wrote")
        if self_test and trace is not None:
            raise ValueError(f"--self-test and --trace {trace} are two commands; give one of them")
        for option, value in (("--mutants", mutants), ("--seed", seed)):
            if value is not None and not self_test:
                raise ValueError(f"{option} {value} is for the self-test; give --self-test too, or leave it out")
        if engine is not None and (self_test or trace is not None):
            other = "--self-test" if self_test else f"--trace {trace}"
            raise ValueError(f"{other} takes every engine; leave --engine {engine.value} out")
        engine = engine or Engine.ALL
        if no_proof and (engine != Engine.ALL or self_test or trace is not None):
            raise ValueError("--no-proof is for the comparison of all engines; leave it out")
        if engine == Engine.PROOF and data is not None:
            raise ValueError(f"--engine proof holds for all inputs and runs no data; leave --data {data} out")
        array = load_arrays(data, "--data") if data is not None else None
        if self_test:
            _self_test(folder, array, 100 if mutants is None else mutants, seed or 0)
            return
        with Steps() as step:
            if trace is not None or engine in (Engine.KERAS, Engine.ALL):
                step("start Keras")
                start_keras()
            step("open the project")
            import hgq
            from hgq.report.text import evidence

            project = hgq.Project.load(folder)
            if trace is not None:
                show_trace(project, trace, array, step)
                return
            report = project.simulate(array, engine=engine.value, proof=not no_proof, progress=step)
        typer.echo("\n".join(evidence(report)))
        if engine == Engine.PROOF and not report["proof"]["complete"]:
            print("not proven: see above; simulate the rest, as with --engine verilator", file=sys.stderr)
            raise typer.Exit(NOT_PROVEN)


def show_trace(project: Any, sample: int, array: Any, step: Steps) -> None:
    """Prints the trace of a sample.

    Raises:
        VerificationError: an engine differs on the way; after the table is printed.
    """
    from hgq.errors import VerificationError
    from hgq.report.trace_text import trace_text
    from hgq.verify.trace import first_difference_of

    found = project.trace(sample, array, progress=step)
    typer.echo(trace_text(found) + f"written: {project.path / 'trace'}/trace.json, {found['waveform']}")
    different = first_difference_of(found["layers"])
    if different:
        raise VerificationError(different)


def _self_test(folder: Path, array: Any, mutants: int, seed: int) -> None:
    with Steps() as step:
        step("open the project")
        import hgq
        from hgq.errors import VerificationError

        found = hgq.Project.load(folder).self_test(array, mutants=mutants, seed=seed, progress=step)
    typer.echo(found.table())
    if found.survivors:
        raise VerificationError(f"{len(found.survivors)} of {len(found.mutants)} faults were noticed by nothing")


def main() -> None:
    """What the console script runs."""
    app(prog_name="hgq-simulate")
