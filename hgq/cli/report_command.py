"""hgq-report: what a converted project occupies on an FPGA, counted by Yosys."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hgq.cli.exits import exit_codes
from hgq.cli.progress import Steps


class Family(StrEnum):
    """What the design is mapped to."""

    XCUP = "xcup"
    XC7 = "xc7"
    ECP5 = "ecp5"
    ICE40 = "ice40"
    GOWIN = "gowin"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="what hgq-convert wrote")],
    family: Annotated[Family, typer.Option(help="FPGA family whose cells are counted")] = Family.XCUP,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="only each layer by itself")] = False,
    total: Annotated[bool, typer.Option("--total", help="only the whole design")] = False,
    simulate: Annotated[bool, typer.Option(help="simulate the mapped netlist against the model")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON in place of the table")] = False,
) -> None:
    """Counts LUTs, registers and so on with Yosys, by layer and in total, and adds them to the project's reports.

    The netlist that Yosys makes is compared with the model, bit for bit.

    Exit codes: 0 done; 1 the mapped netlist differs; 2 usage or tool; 3 a bug in hgq.
    """
    with exit_codes():
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder; give one that hgq-convert wrote")
        with Steps() as step:
            step("open the project")
            import hgq

            project = hgq.Project.load(folder)
            found = project.resources(
                family.value,
                total=total or not per_layer,
                per_layer=per_layer or not total,
                simulate=simulate,
                progress=step,
            )
        if as_json:
            import json

            typer.echo(json.dumps({family.value: found}, indent=1))
        else:
            from hgq.report.resources import resource_text

            typer.echo(resource_text(family.value, found), nl=False)


def main() -> None:
    """What the console script runs."""
    app(prog_name="hgq-report")
