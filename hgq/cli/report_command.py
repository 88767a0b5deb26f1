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


class Router(StrEnum):
    """What can be placed and routed without a vendor's tool."""

    ECP5 = "ecp5"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="what hgq-convert wrote")],
    family: Annotated[
        Family | None,
        typer.Option(help="FPGA family whose cells are counted  [default: that of the part, or what --route names]"),
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="only each layer by itself")] = False,
    total: Annotated[bool, typer.Option("--total", help="only the whole design")] = False,
    simulate: Annotated[bool, typer.Option(help="simulate the mapped netlist against the model")] = True,
    route: Annotated[
        Router | None, typer.Option(help="place and route with nextpnr too, and state the clock that it reaches")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="how often to place and route, each time from another seed  [default: 5]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON in place of the table")] = False,
) -> None:
    """Counts LUTs, registers and so on with Yosys, by layer and in total, and adds them to the project's reports.

    The netlist that Yosys makes is compared with the model, bit for bit. With --route ecp5, nextpnr places and routes
    it; that takes minutes for thousands of LUTs and needs pip install 'hgq-fpga[route]'.

    Exit codes: 0 done; 1 the mapped netlist differs; 2 usage or tool; 3 a bug in hgq.
    """
    with exit_codes(folder):
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder; give one that hgq-convert wrote")
        if seeds is not None and not route:
            raise ValueError(f"--seeds {seeds} is for place and route; give --route ecp5 too, or leave it out")
        with Steps() as step:
            step("open the project")
            import hgq
            from hgq.sim.route import nextpnr_version

            project = hgq.Project.load(folder)
            if route:
                nextpnr_version()  # before Yosys has worked for minutes
            chosen = family.value if family else route.value if route else project.family
            found = project.resources(
                chosen,
                total=total or not per_layer,
                per_layer=per_layer or not total,
                simulate=simulate,
                progress=step,
            )
            routed = project.route(route.value, seeds=5 if seeds is None else seeds, progress=step) if route else None
        if as_json:
            import json

            typer.echo(json.dumps({chosen: found} | ({"routed": {route: routed}} if route else {}), indent=1))
        else:
            from hgq.report.resources import resource_text
            from hgq.report.timing import routed_text

            typer.echo(resource_text(chosen, found), nl=False)
            if routed:
                typer.echo("\n" + routed_text(routed, project.report.get("timing")), nl=False)


def main() -> None:
    """What the console script runs."""
    app(prog_name="hgq-report")
