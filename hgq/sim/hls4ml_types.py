"""Reads types and constants back from the text of an emitted hls4ml project and compares them with the graph's.

This shares no code with the emitter: it parses the C++ that a vendor's compiler would see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from hgq.errors import VerificationError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.ir import Graph, Node
from hgq.sim.hls4ml_elements import compare_lookup, compare_take, packet_size

_FIXED = r"ap_(u?)fixed<(\d+),(-?\d+)(?:,AP_(\w+),AP_(\w+),0)?>"
Cast = tuple[FixedType, Rounding, Overflow]


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the top function: ``nnet::function<types>(arguments); // layer``."""

    function: str
    types: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constants:
    """An array of weights/*.h: the name of its type and its values, exact."""

    type: str
    values: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """What the C++ of a project states.

    types: typedef name -> type.
    calls: hls4ml layer -> its call.
    casts: generated function -> for each output element its source element and cast; None where it is 0.
    bodies: generated function that moves or looks up elements -> its text.
    streams: generated function around another one, which is called alike, that reads and writes streams -> its text.
    constants: array name -> constants.
    accumulators: config struct -> name of its accumulator's type.
    """

    types: dict[str, FixedType]
    calls: dict[str, Call]
    casts: dict[str, list[tuple[int, Cast | None] | None]]
    bodies: dict[str, str]
    streams: dict[str, str]
    constants: dict[str, Constants]
    accumulators: dict[str, str]


def read_project(folder: Path) -> Project:
    """Parses the emitted C++ in `folder`.

    Raises:
        VerificationError: text that no project of ours holds, as weights for simulation that synthesis would not see.
    """
    firmware = folder / "firmware"
    defines = (firmware / "defines.h").read_text(encoding="utf-8")
    typedefs = re.findall(r"typedef (?:nnet::array<)?(ap_u?fixed<[^>]*>)(?:, *\d+\*\d+>)? (\w+);", defines)
    types = {name: _plain(name, text) for text, name in typedefs}
    (top,) = firmware.glob("*.cpp")
    calls = {
        layer: Call(function.removeprefix("stream_"), _split(arguments), _split(values))
        for function, arguments, values, layer in re.findall(
            r"^ *nnet::(\w+)<([^>]*)>\(([^)]*)\); // (\S+)$", top.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    generated = (firmware / "nnet_utils" / "nnet_code_gen.h").read_text(encoding="utf-8")
    casts = {}
    for name, body in re.findall(r"void (hgq_\w+)\([^{]*\{(.*?)^\}", generated, re.MULTILINE | re.DOTALL):
        casts[name] = [_element(n, *line) for n, line in enumerate(re.findall(r"out\[(\d+)\] = (.*);", body))]
    bodies = dict(re.findall(r"void ((?:take|table)_\w+)\([^{]*\{(.*?)^\}", generated, re.MULTILINE | re.DOTALL))
    streams = dict(re.findall(r"void stream_(\w+)\([^{]*\{(.*?)^\}", generated, re.MULTILINE | re.DOTALL))
    parameters = (firmware / "parameters.h").read_text(encoding="utf-8")
    accumulators = dict(re.findall(r"struct (config\w+) [^}]*?typedef (\w+) accum_t;", parameters))
    constants = {path.stem: _constants(path) for path in sorted((firmware / "weights").glob("*.h"))}
    return Project(types, calls, casts, bodies, streams, constants, accumulators)


def check_types(folder: Path, graph: Graph, names: Mapping[str, str]) -> None:
    """Raises VerificationError unless the project in `folder` states the learned types and constants of `graph`.

    For activations: every cast is that of the element's learned type, with its rounding and overflow. For constants:
    the values are the exact mantissas, each in its learned type, in the smallest type that covers those. Sums have the
    smallest type that holds them.

    Args:
        names: node name -> hls4ml layer, as `hgq.emit.hls4ml.emit_hls4ml` returns it.
    """
    project = read_project(folder)
    differences: list[str] = []
    for node in graph:
        if node.op in ("input", "reshape"):
            continue  # no statement of their own
        call = project.calls.get(names[node.name])
        if call is None:
            differences.append(_difference(node, "call", "one", "none"))
            continue
        differences += _compare(project, node, call)
        if node.op in ("take", "lookup"):
            body, around = project.bodies.get(call.function, ""), project.streams.get(call.function)
            if node.op == "take":
                found = compare_take(graph, node, body, around)
            else:
                found = compare_lookup(node, body, packets=around is not None)
            differences += [_difference(node, *difference) for difference in found]
    if differences:
        raise VerificationError("\n".join([f"the hls4ml project {folder} does not match its model:", *differences]))


def _compare(project: Project, node: Node, call: Call) -> list[str]:
    found: list[str] = []
    smallest = node.range.types.cover() or FixedType(False, 1, 0)
    elements = call.function.partition("_")[0] in ("element", "take", "table", "matmul")  # may read several tensors
    result = project.types.get(call.types[-1 if elements else 1])
    if result != smallest:
        found.append(_difference(node, "type of the result", smallest, result))
    if node.op == "quantize":
        found += _compare_casts(node, project.casts.get(call.function, []), call.function in project.streams)
    elif node.op == "dense" and len(call.types) > 2:  # hls4ml's own
        accumulators = [project.accumulators.get(f"{call.types[2]}{end}", "") for end in ("", "_mult")]
        accumulator = next((project.types[name] for name in accumulators if name), None)
        if accumulator != smallest:
            found.append(_difference(node, "type of the accumulator", smallest, accumulator))
        found += _compare_constants(project, node, "kernel", call.arguments[2])
        found += _compare_bias(project, node, call)
    elif node.op in ("conv", "dense"):  # sums are kept in the type of the result
        found += _compare_constants(project, node, "kernel", call.arguments[2])
        found += _compare_bias(project, node, call)
    elif node.op == "affine":
        found += _compare_constants(project, node, "scale", call.arguments[2])
        found += _compare_constants(project, node, "offset", call.arguments[3])
    return found


def _compare_bias(project: Project, node: Node, call: Call) -> list[str]:
    if "bias" in node.attrs:
        return _compare_constants(project, node, "bias", call.arguments[3])
    return [_difference(node, "bias", "none", "not zero")] if any(project.constants[call.arguments[3]].values) else []


def _compare_casts(node: Node, casts: list[tuple[int, Cast | None] | None], packets: bool) -> list[str]:
    """An element may be written as 0 only where range analysis proves that it can be nothing else.

    packets: the casts are those of each packet, which is the last axis.
    """
    rounding, overflow = node.attrs["rounding"], node.attrs["overflow"]
    types: FixedArray = node.attrs["types"]
    channels = packet_size(node) if packets else types.size
    if len(casts) != channels:
        return [_difference(node, "number of casts", channels, len(casts))]
    zeros = np.all(node.range.zero.reshape(-1, channels), axis=0).tolist()
    found = []
    for n, t in enumerate(types):
        got, place = casts[n % channels], n % channels
        expected = None if t is None or zeros[place] else (place, (t, rounding, overflow))
        if got != expected:
            found.append(_difference(node, f"cast of element {n}", _cast_text(expected), _cast_text(got)))
    return found


def _compare_constants(project: Project, node: Node, name: str, array: str) -> list[str]:
    mantissas, types = node.attrs[name], node.attrs[f"{name}_types"]
    constants = project.constants[array]
    found = []
    smallest, declared = types.cover() or FixedType(False, 1, 0), project.types.get(constants.type)
    if declared != smallest:
        found.append(_difference(node, f"type of the {name}", smallest, declared))
    size = len(constants.values)
    if size != mantissas.size:  # an affine with constants of several shapes is written out in full
        shape = node.shape if size == int(np.prod(node.shape)) else node.shape[-1:]
        mantissas, types = np.broadcast_to(mantissas, shape), types.broadcast_to(shape)
    learned = zip(mantissas.ravel().tolist(), types, constants.values, strict=True)
    for n, (mantissa, t, value) in enumerate(learned):
        got = value * Fraction(2) ** (t.frac if t else 0)
        if got != mantissa:
            found.append(_difference(node, f"{name} {n}", f"{mantissa} LSB of {t}", f"{got} LSB"))
        elif not (t.lo <= got <= t.hi if t else got == 0):
            found.append(_difference(node, f"{name} {n}", f"a value of {t}", f"{got} LSB"))
    return found


def _difference(node: Node, what: str, expected: object, got: object) -> str:
    return f"  layer '{node.origin or node.name}' ({node.op}): {what}: expected {expected}, got {got}"


def _cast_text(element: tuple[int, Cast | None] | None) -> str:
    if element is None:
        return "0"
    source, cast = element
    return f"in[{source}]" if cast is None else f"{cast[0]},{cast[1]},{cast[2]} of in[{source}]"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _cast(text: str) -> Cast:
    match = re.fullmatch(_FIXED, text)
    if not match:
        raise VerificationError(f"{text!r} in the C++ is no fixed-point type")
    unsigned, width, integer, rounding, overflow = match.groups()
    kind = FixedType(not unsigned, int(width), int(width) - int(integer))
    return kind, Rounding(rounding or "TRN"), Overflow(overflow or "WRAP")


def _plain(name: str, text: str) -> FixedType:
    """The type of an array or accumulator, none of which may round or saturate: only casts do."""
    kind, rounding, overflow = _cast(text)
    if (rounding, overflow) != (Rounding.TRN, Overflow.WRAP):
        raise VerificationError(
            f"the type {name} in the C++ is {text}; outside a quantizer nothing may round or saturate"
        )
    return kind


def _element(position: int, index: str, value: str) -> tuple[int, Cast | None] | None:
    """One statement ``out[index] = value;``."""
    if int(index) != position:
        raise VerificationError(f"the C++ writes out[{index}] where out[{position}] was expected")
    if value == "0":
        return None
    match = re.fullmatch(r"(?:(ap_u?fixed<[^>]*>)\()?in\[(\d+)\]\)?", value)
    if not match:
        raise VerificationError(f"the C++ holds the statement out[{index}] = {value}, which is no cast")
    return int(match[2]), _cast(match[1]) if match[1] else None


def _constants(header: Path) -> Constants:
    text = header.read_text(encoding="utf-8")
    match = re.search(r"^(\w+) (\w+)\[\d+\] = \{([^}]*)\};", text, re.MULTILINE)
    if not match:
        raise VerificationError(f"{header} declares no array of constants")
    simulated = header.with_suffix(".txt")
    if simulated.exists() and simulated.read_text(encoding="utf-8").strip() != match[3].strip():
        raise VerificationError(f"{header.name} and {simulated.name} of {header.parent} hold different constants")
    return Constants(match[1], tuple(Fraction(value) for value in _split(match[3])))
