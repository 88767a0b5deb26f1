"""report.html: the same facts as a page that stands alone."""

from __future__ import annotations

from typing import Any

from hgq.emit.templates import template
from hgq.report.text import COLUMNS, cells, facts
from hgq.verify.certificate import FLOAT32_BITS

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
        proofs=_proofs(report),
        histograms=[(name, _bars(counts)) for name, counts in report["histograms"].items()],
    )


def _bars(counts: dict[str, int]) -> list[tuple[str, int, float]]:
    """(width, how many, percent of the most frequent) for each width."""
    most = max(counts.values(), default=1)
    return [(width, n, 100.0 * n / most) for width, n in counts.items()]


def _proofs(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """For each layer: outputs proven, bits of significand that floating point needs, whether float32 has them."""
    proof = report["verification"].get("proof") or {"layers": []}
    proven = {one["layer"]: f"{one['proven']:,} of {one['outputs']:,}" for one in proof["layers"] if one["outputs"]}
    bits = report["certificate"].get("layers", {})
    return [
        (layer, proven.get(layer, ""), str(bits.get(layer, "")), _float32(bits.get(layer)))
        for layer in dict.fromkeys([*bits, *proven])
    ]


def _float32(bits: int | None) -> str:
    return "" if bits is None else "exact" if bits <= FLOAT32_BITS else "may round"
