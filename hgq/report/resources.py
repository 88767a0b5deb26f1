"""What a project occupies on an FPGA: Yosys' count by layer and in total, beside the estimate made without it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hgq.disk import whole
from hgq.netlist.cost import BAND
from hgq.report.page import to_html
from hgq.report.timing import routed_facts
from hgq.sim.families import FAMILIES
from hgq.sim.yosys import Mapped, family_named, synthesise, yosys_version

ESTIMATED = ("xcup", "xc7")
"""Families that the estimate is made for: a LUT with six inputs beside each carry bit."""
_TITLES = {
    "layer": "layer",
    "luts": "LUTs",
    "estimate": "LUTs (est.)",
    "error": "est. - LUTs",
    "route_through": "route-through",
    **{f"lut{n}": f"LUT{n}" for n in range(1, 7)},
    "lut6_2": "LUT6_2",
    "inv": "INV",
    "carry": "carry cells",
    "muxf": "wide mux",
    "ff": "FF",
    "srl": "SRL",
    "bram": "BRAM",
    "dsp": "DSP",
}
_ALWAYS = ("layer", "luts", "ff", "bram", "dsp")


def measure(
    sources: Sequence[Path],
    top: str,
    layers: Sequence[dict[str, Any]],
    family: str,
    *,
    total: bool = True,
    per_layer: bool = True,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[dict[str, Any], Mapped | None]:
    """Maps the whole design, flattened, and each layer by itself.

    Args:
        layers: rows of the report: names, modules and estimates.

    Returns:
        What the report holds under ``resources``; and the mapped design, if `total`.

    Raises:
        ToolError: Yosys is missing or failed.
        ValueError: no such family; rows without modules.
    """
    kind = family_named(family)
    texts = "\0".join(f"{path.name}\0{path.read_text(encoding='utf-8')}" for path in sources)
    counted = {"device": kind.device, "yosys": yosys_version(), "verilog": sha256(texts.encode()).hexdigest()}
    result: dict[str, Any] = counted | {"layers": [], "total": None}
    if any("modules" not in row or "lut_estimate" not in row for row in layers):
        raise ValueError(f"report.json of {top} comes from an older hgq and does not name the modules; convert again")
    present = {path.stem for path in sources}
    wanted = [top] * total
    if per_layer:
        wanted += [name for row in layers for name in row["modules"] if name in present]
    wanted = list(dict.fromkeys(wanted))
    mapped: dict[str, Mapped] = {}
    progress(f"map {len(wanted)} module(s) to {kind.device} with Yosys")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = [pool.submit(synthesise, sources, name, family) for name in wanted]
        try:
            for done in as_completed(running):
                one = done.result()
                mapped[one.top] = one
                left = len(wanted) - len(mapped)
                progress(f"Yosys: {one.top} is mapped, {left} to go" if left else "read what Yosys made")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if per_layer:
        for row in layers:
            parts = [(mapped[name].counts, n) for name, n in row["modules"].items() if name in mapped]
            result["layers"].append(_row(row["layer"], parts, row["lut_estimate"] if family in ESTIMATED else None))
    if total:
        estimate = sum(row["lut_estimate"] for row in layers) if family in ESTIMATED else None
        result["total"] = _row("total, flattened", [(mapped[top].counts, 1)], estimate)
    result["seconds"] = round(sum(one.seconds for one in mapped.values()), 1)
    return result, mapped.get(top)


def joined(before: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """What `measure` found, and of an earlier count of the same Verilog what this one left out."""
    if before is None or any(before.get(key) != found[key] for key in ("device", "yosys", "verilog")):
        return found
    kept = {key: before[key] for key in ("layers", "total") if before.get(key) and not found[key]}
    if "total" in kept and "simulation" in before:  # it was the total that was simulated
        kept["simulation"] = before["simulation"]
    return found | kept


def _row(name: str, parts: Iterable[tuple[dict[str, Any], int]], estimate: int | None) -> dict[str, Any]:
    """The sum of some counts, each taken so many times."""
    numbers: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    for counts, times in parts:
        numbers.update({key: n * times for key, n in counts.items() if key != "cells"})
        cells.update({key: n * times for key, n in counts["cells"].items()})
    row: dict[str, Any] = {"layer": name, "luts": 0, **numbers, "cells": dict(cells)}
    return row if estimate is None else row | {"estimate": estimate}


def resource_cells(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of one family as text: titles, and a row for each layer and the total."""
    rows = [*found["layers"], *([found["total"]] if found["total"] else [])]
    shown = [_with_error(row) for row in rows]
    keys = [key for key in _TITLES if key in _ALWAYS or any(row.get(key) for row in shown)]
    return [_TITLES[key] for key in keys], [[_text(row.get(key, 0)) for key in keys] for row in shown]


def _with_error(row: dict[str, Any]) -> dict[str, Any]:
    if not row.get("luts") or "estimate" not in row:
        return row
    return row | {"error": f"{100 * (row['estimate'] / row['luts'] - 1):+.1f} %"}


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def resource_facts(family: str, found: dict[str, Any]) -> list[str]:
    """What a user must know beside the table, one sentence a line."""
    lines = [f"{found['device']} ({family}), mapped by Yosys {found['yosys']}; not placed, not a vendor's count"]
    if family in ESTIMATED:
        lines.append(
            "LUTs hold the route-throughs: carry bits that occupy a LUT site which Yosys does not count; "
            f"the estimate lies within {100 * BAND:.0f} % of a total where it was measured"
        )
    simulated = found.get("simulation")
    if simulated:
        lines.append(
            f"the mapped netlist was simulated: {simulated['differences']} differences to the integer model over "
            f"{simulated['vectors']:,} vectors, every output bit {simulated['latency']} clock(s) after its input"
        )
    else:
        lines.append("NOT SIMULATED: the mapped netlist was not compared with the model")
    return lines


def resource_text(family: str, found: dict[str, Any]) -> str:
    """Table and facts as plain text."""
    titles, rows = resource_cells(found)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="left" if title == "layer" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=250, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([*lines, *resource_facts(family, found)]) + "\n"


def save_report(folder: Path, report: dict[str, Any]) -> None:
    """Writes report.json and report.html anew, resources included."""
    found = {name: report["resources"][name] for name in FAMILIES if name in report.get("resources", {})}
    tables = [(facts, *resource_cells(one)) for name, one in found.items() for facts in [resource_facts(name, one)]]
    routed = [routed_facts(one, report.get("timing")) for one in report.get("routed", {}).values()]
    texts = {
        "report.json": json.dumps(report, indent=1) + "\n",
        "report.html": to_html(report, resources=tables, routed=routed),
    }
    with ExitStack() as both:  # none takes its place before all are written
        for name, written in texts.items():
            both.enter_context(whole(folder / name)).write_text(written, encoding="utf-8")
