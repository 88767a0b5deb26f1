"""report.html: the same facts as a page that stands alone."""

from __future__ import annotations

from typing import Any

from hgq.emit.templates import template
from hgq.report.text import COLUMNS, cells, facts

Resources = list[tuple[list[str], list[str], list[list[str]]]]
"""For each family: facts, titles of the table and its rows."""


def to_html(report: dict[str, Any], resources: Resources | None = None, routed: list[list[str]] | None = None) -> str:
    """The page for a report, and for what `hgq-report` counted and routed if it was run."""
    rows = [cells(row) for row in report["layers"]]
    return template("report/report.html.j2").render(
        report=report,
        columns=[title for title, _ in COLUMNS],
        rows=rows,
        total=cells({"layer": "total", **report["totals"]}),
        facts=facts(report),
        resources=resources or [],
        routed=routed or [],
        histograms=[(name, _bars(counts)) for name, counts in report["histograms"].items()],
    )


def _bars(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    """(width, how many, percent of the most frequent) for each width."""
    most = max(counts.values(), default=1)
    return [(width, n, 100.0 * n / most) for width, n in counts.items()]
