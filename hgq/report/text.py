"""The summary that commands print: what was made, what was compared, what to know."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from hgq.netlist.targets import GENERIC, TARGETS, target_of
from hgq.report.timing import timing_facts

COLUMNS = (
    ("layer", "layer"),
    ("input bits", "inputs"),
    ("weight bits", "weights"),
    ("weights used", "used"),
    ("EBOPs", "ebops"),
    ("adders", "adders"),
    ("adder bits", "adder_bits"),
    ("LUTs (est.)", "lut_estimate"),
    ("registers", "registers"),
    ("latency", "latency"),
)


def summary(report: dict[str, Any]) -> str:
    """Plain text of a report: table by layer, verdict, warnings."""
    return f"{_table(report)}\n" + "\n".join(facts(report)) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """One row of the table as text."""
    shown = dict(row)
    for key in ("inputs", "weights"):
        if key in row:
            least, mean, most = row[key]
            shown[key] = f"{least}..{most}, mean {mean:.1f}"
    if row.get("constants"):
        shown["used"] = f"{row['nonzero']:,} of {row['constants']:,}"
    return [f"{v:,}" if isinstance(v := shown.get(key, ""), int) else str(v) for _, key in COLUMNS]


def facts(report: dict[str, Any]) -> list[str]:
    """What a user must know beside the table, one sentence a line."""
    options = report["options"]
    lines = [
        f"{report['model']}: latency {report['totals']['latency']} clock cycles at {options['clock_ns']:g} ns "
        f"({_planned(options)}by the delay model, not placed and routed), one vector per clock"
    ]
    if "timing" in report:  # projects of older versions have none
        lines += timing_facts(report["timing"])
    lines.append(_target(options))
    calibration = report["calibration"]
    lines.append(
        f"ranges: found on {calibration['samples']:,} calibration samples"
        if calibration["samples"]
        else "ranges: as stored in the model; no calibration data given"
    )
    if calibration.get("note"):
        lines.append(calibration["note"])
    lines += evidence(report["verification"])
    for wrap in report["wraps"]:
        lines.append(
            f"note: {wrap['count']:,} of {wrap['samples']:,} verification samples left the range at {wrap['layer']} "
            f"({wrap['overflow']}, {len(wrap['elements'])} element(s): {_few(wrap['elements'])})"
        )
    return [*lines, _float32(report)]


def _planned(options: dict[str, Any]) -> str:
    return "planned " if options.get("latency") is None else "as wished, at the shortest clock that they allow "


def _target(options: dict[str, Any]) -> str:
    """What the Verilog is for."""
    target = TARGETS[options.get("target", GENERIC.name)]
    if target.carry:
        return (
            f"Verilog for {target.device}: sums of three operands are LUT6_2 and CARRY{target.carry} cells; rtl/sim "
            "has models of them for simulators"
        )
    if target_of(options["part"]).carry:
        return "Verilog for any FPGA, as no part was named; for most Xilinx parts it takes fewer LUTs when named"
    return f"Verilog for any FPGA: nothing special is known about the part {options['part']}"


def evidence(verification: dict[str, Any]) -> list[str]:
    """What was proven and what was compared, a sentence or two; what `Project.simulate` returns is a verification."""
    if verification.get("failed"):
        return [f"FAILED: {verification['failed']}"]
    if not verification.get("engines") and not verification.get("proof"):
        return [verified(verification)]
    compared = [verified(verification)] if verification.get("engines") else []
    missing = [f"{name} NOT COMPARED: {why}" for name, why in verification.get("not_compared", {}).items()]
    simulated = any(name.startswith("Verilog") for name in verification.get("engines", {}))
    return proof_facts(verification.get("proof"), simulated) + compared + second_simulator(verification) + missing


def second_simulator(verification: dict[str, Any]) -> list[str]:
    """Whether a second simulator ran the Verilog, where that was asked for: a spot check."""
    found = verification.get("second_simulator")
    if found is None:
        return []
    if found["simulator"] is None:
        return ["second simulator: none, as Icarus Verilog is not installed (apt install iverilog)"]
    return [f"second simulator: {found['simulator']}, 0 differences over {found['vectors']:,} of these vectors"]


def proof_facts(proof: dict[str, Any] | None, simulated: bool) -> list[str]:
    """What was proven, as a sentence, and one for each layer of which not all was.

    Args:
        simulated: whether the Verilog was simulated too.
    """
    instead = "simulated only" if simulated else "nor simulated here"
    if proof is None:
        return ["NOT PROVEN for all inputs: the proof was left out"]
    layers = [layer for layer in proof["layers"] if layer["outputs"]]
    clocks = "and the latency " if proof["latency"] is not None else ""
    lines = [
        f"proof: {proof['proven']:,} of {proof['outputs']:,} outputs of {len(layers)} layers {clocks}proven from the "
        f"text of the Verilog, for all inputs ({proof['covered']:,} of {proof['cells']:,} cells, "
        f"{proof['seconds']:.1f} s)"
    ]
    if proof["latency"] is None:
        lines.append(f"latency: not proven, {instead}")
    for layer in layers:
        if layer["proven"] < layer["outputs"]:
            reasons = "; ".join(f"{reason} ({count:,})" for reason, count in list(layer["not_proven"].items())[:3])
            lines.append(
                f"{layer['layer']}: {layer['outputs'] - layer['proven']:,} of {layer['outputs']:,} outputs not proven, "
                f"{instead}: {reasons}"
            )
    return lines


def verified(verification: dict[str, Any]) -> str:
    """What was compared, as one sentence; what `Project.simulate` returns is such a verification."""
    if not verification.get("engines"):
        return "NOT VERIFIED: conversion ran with --no-verify"
    engines = verification["engines"]
    most = verification["data"] + verification["corners"]
    names = [name if one.get("vectors", most) == most else f"{name} ({one['vectors']:,} of them)"
             for name, one in engines.items()]  # fmt: skip
    vectors = f"{verification['data']:,} data samples and {verification['corners']:,} corner vectors"
    return f"verified: 0 differences over {vectors} between the integer model and {', '.join(names)}"


def _float32(report: dict[str, Any]) -> str:
    certificate, verification = report["certificate"], report["verification"]
    if certificate["exact32"]:
        return "float32: proven exact for this model, so Keras itself computes these very numbers"
    text = (
        f"float32: not exact for this model (layer {certificate['widest']} may need {certificate['bits']} bits, "
        "float32 has 24)"
    )
    if not any(name.startswith("Keras") for name in verification["engines"]):
        return text
    return f"{text}; Keras was compared in float64{_off(certificate)}"


def _off(certificate: dict[str, Any]) -> str:
    """How far the float32 model was off on the verification data."""
    if "float32_off" not in certificate:
        return ""
    off = certificate["float32_off"]
    return f"; on the vectors tried, float32 {f'is off by up to {off:.3g}' if off else 'agrees'}"


def _few(elements: list[int]) -> str:
    shown = ", ".join(map(str, elements[:6]))
    return f"{shown}, ..." if len(elements) > 6 else shown


def _table(report: dict[str, Any]) -> str:
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    total = report["totals"]
    foot = cells({"layer": "total", **total})
    for (title, key), end in zip(COLUMNS, foot, strict=True):
        table.add_column(title, footer=end, justify="left" if key == "layer" else "right", no_wrap=True)
    for row in report["layers"]:
        table.add_row(*cells(row))
    console = Console(width=200, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
