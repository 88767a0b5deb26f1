"""The trace of one sample as a table."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hgq.verify.trace import first_difference_of

SHOWN = 4
"""Values of a layer that the table shows; trace.json has all."""


def trace_text(found: dict[str, Any]) -> str:
    """Plain text of what `Project.trace` gives: a row for each step, then differences and overflows in words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "step", "values", "types", "used by the data", "allotted", "spare bits", "equal in"):
        table.add_column(name, justify="right" if name == "spare bits" else "left", overflow="fold")
    for row in found["layers"]:
        engines = [engine for engine in found["engines"] if engine in row]
        wrong = row["difference"]["engine"] if row["difference"] else None
        equal = f"DIFFERS in {wrong}" if wrong else ", ".join(engines) or "-"
        values = " ".join(f"{v:g}" for v in row["golden"][:SHOWN]) + (" ..." if len(row["golden"]) > SHOWN else "")
        ranges = [f"{low:g} .. {high:g}" for low, high in (row["used"], row["allotted"])]
        table.add_row(row["layer"], row["op"], values, row["types"], *ranges, str(row["spare_bits"]), equal)
    console = Console(width=160, force_terminal=False, no_color=True)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    lines.append(f"sample {found['sample']} of {found['samples']:,}; ranges over all of them")
    for row in found["layers"]:
        overflow = row.get("overflow")
        if overflow and (overflow["samples"] or overflow["elements"]):
            word = "wrap" if overflow["how"] == "WRAP" else "saturate"
            elements = ", ".join(map(str, overflow["elements"][:SHOWN]))
            here = f"; in this sample element(s) {elements}" if elements else ""
            lines.append(f"{row['layer']} ({row['node']}): {overflow['samples']:,} sample(s) {word}{here}")
    for port in found["ports"]:
        elements = ", ".join(map(str, port["elements"][:SHOWN]))
        what = f"{port['count']:,} sample(s) leave the port's range ({port['overflow']})"
        lines.append(f"{port['layer']}: {what}, element(s) {elements}")
    different = first_difference_of(found["layers"])
    lines.append(different or "no engine differs from the golden model, wherever it can be seen")
    lines += [f"{engine}: {why}" for engine, why in found["not_seen"].items()]
    return "\n".join(lines) + "\n"
