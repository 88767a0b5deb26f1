"""The clock: what the delay models predict at conversion, and what place and route reached."""

from __future__ import annotations

from typing import Any

from hgq.netlist.delays import ECP5, DelayModel
from hgq.netlist.design import Design
from hgq.netlist.timing import critical_path


def predictions(design: Design, model: DelayModel) -> dict[str, dict[str, Any]]:
    """The clock that a pipeline reaches by the delay models: that of its own part, and that of ECP5, which
    `hgq-report --route ecp5` can check.
    """
    found = {}
    for key, one in (("part", model), ("ecp5", ECP5)):
        path = critical_path(design, one)
        found[key] = {
            "model": one.name,
            "ns": round(path.ns, 3),
            "mhz": round(path.mhz, 1),
            "path": str(path),
            "evidence": one.evidence,
        }
    return found


def timing_facts(timing: dict[str, Any]) -> list[str]:
    """What the delay model says, one sentence a line."""
    own = timing["part"]
    return [
        f"predicted Fmax: {own['mhz']:g} MHz on {own['model']} (worst path {own['ns']:g} ns: {own['path']})",
        f"the delay model of {own['model']}: {own['evidence']}",
    ]


def routed_facts(found: dict[str, Any], timing: dict[str, Any] | None) -> list[str]:
    """What place and route reached, one sentence a line."""
    median, count = found["fmax_median"], len(found["fmax"])
    lines = [
        f"{found['device']}, placed and routed by nextpnr {found['nextpnr']}",
        f"routed Fmax: {median:g} MHz, median of {count} seed(s); least {found['fmax_min']:g}, greatest "
        f"{found['fmax_max']:g} MHz",
    ]
    if timing:
        predicted = timing["ecp5"]["mhz"]
        lines.append(f"predicted for it: {predicted:g} MHz; routed / predicted = {median / predicted:.2f}")
    lines.append(
        f"critical path of the median seed: {found['logic_ns']:g} ns of logic, {found['routing_ns']:g} ns of wires"
    )
    used = ", ".join(f"{n:,} {name}" for name, n in found["utilisation"].items())
    lines.append(
        f"used: {used}; {found['wrapper_ff']:,} of the registers are two shift registers around the design, since it "
        "has more port bits than the device has pins"
    )
    return lines


def routed_text(found: dict[str, Any], timing: dict[str, Any] | None) -> str:
    """The same as plain text."""
    return "\n".join(routed_facts(found, timing)) + "\n"
