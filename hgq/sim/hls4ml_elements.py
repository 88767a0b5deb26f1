"""Reads moved elements and tables back from the C++ of an hls4ml project. Shares no code with the emitter."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hgq.ir import Graph, Node

Found = Iterator[tuple[str, object, object]]
"""What differs: its name, what was expected, what the C++ says."""


def compare_take(graph: Graph, node: Node, body: str) -> Found:
    """Every element is copied from where the index says, or is 0."""
    starts = [0]
    for arg in node.args:
        starts.append(starts[-1] + graph[arg].range.lo.size)
    statements = re.findall(r"out\[(\d+)\] = (?:in(\d*)\[(\d+)\]|0);", body)
    got = [starts[int(which or 0)] + int(place) if place else -1 for _, which, place in statements]
    expected = node.attrs["index"].ravel().tolist()
    if [int(n) for n, *_ in statements] != list(range(len(expected))):
        yield "number of copied elements", len(expected), len(statements)
    for n, (want, have) in enumerate(zip(expected, got, strict=False)):
        if want != have:
            yield f"source of element {n}", want, have


def compare_lookup(node: Node, body: str) -> Found:
    """Every element reads its table at the bits of its type, and the entries are the model's integers."""
    arrays = re.findall(r"static const long long (\w+)\[(\d+)\] = \{([^}]*)\};", body)
    tables = {name: [int(entry) for entry in entries.split(",")] for name, _, entries in arrays}
    pattern = (
        r"(ap_u?fixed<[^>]*>) y = 0;\s*y\.range\((\d+), 0\) = ap_int<64>\((\w+)\[(?:0|"
        r"(ap_u?fixed<[^>]*>)\(in\[(\d+)\]\)\.range\((\d+), 0\)\.to_uint\(\))\]\)\.range\((\d+), 0\);"
        r"\s*out\[(\d+)\] = y;"
    )
    found = {int(match[8]): match for match in re.finditer(pattern, body)}
    zeros = {int(n) for n in re.findall(r"out\[(\d+)\] = 0;", body)}
    starts = node.attrs["start"].ravel().tolist()
    for n, (read, t) in enumerate(zip(node.attrs["reads"], node.attrs["types"], strict=True)):
        if t is None:
            if n not in zeros:
                yield f"element {n}", "0", "something else"
            continue
        match = found.get(n)
        if match is None:
            yield f"element {n}", "a table", "none"
            continue
        stated = match[1], match[2], match[7], match[4], match[5], match[6]
        top = str(t.width - 1)
        reads = (read.to_ap_fixed(), str(n), str(read.width - 1)) if read else (None, None, None)
        if stated != (t.to_ap_fixed(), top, top, *reads):
            yield f"types of element {n}", (t.to_ap_fixed(), top, top, *reads), stated
        size = 1 << (read.width if read else 0)
        # The table counts from the lowest argument, the C++ by the argument's bits.
        want = [
            int(node.attrs["table"][starts[n] + (bits - read.lo) % size if read else starts[n]]) for bits in range(size)
        ]
        if tables.get(match[3]) != want:
            yield f"table of element {n}", want, tables.get(match[3])
