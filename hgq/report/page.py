"""report.html: the same facts as a page that stands alone."""

from __future__ import annotations

from typing import Any

from hgq.emit.templates import template
from hgq.report.text import COLUMNS, cells, facts


def to_html(report: dict[str, Any]) -> str:
    """The page for a report."""
    rows = [cells(row) for row in report["layers"]]
    return template("report/report.html.j2").render(
        report=report,
        columns=[title for title, _ in COLUMNS],
        rows=rows,
        total=cells({"layer": "total", **report["totals"]}),
        facts=facts(report),
        histograms=[(name, _bars(counts)) for name, counts in report["histograms"].items()],
    )


def _bars(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    """(width, how many, percent of the most frequent) for each width."""
    most = max(counts.values(), default=1)
    return [(width, n, 100.0 * n / most) for width, n in counts.items()]
