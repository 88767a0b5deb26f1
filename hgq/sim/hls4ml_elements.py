"""Reads moved elements and tables back from the C++ of an hls4ml project. Shares no code with the emitter."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hgq.ir import Graph, Node

Found = Iterator[tuple[str, object, object]]
"""What differs: its name, what was expected, what the C++ says."""


def packet_size(node: Node) -> int:
    """Elements of a packet of the stream that carries `node`."""
    return node.shape[-1]


def compare_take(graph: Graph, node: Node, body: str, around: str | None = None) -> Found:
    """Every element is copied from where the index says, or is 0.

    around: text of the function that calls `body` for packets of streams.
    """
    starts = [0]
    for arg in node.args:
        starts.append(starts[-1] + graph[arg].range.lo.size)
    statements = re.findall(r"out\[(\d+)\] = (?:in(\d*)\[(\d+)\]|0);", body)
    numbers = _packets(around) if around else None
    got = []
    for number in [0] if numbers is None else numbers:
        for _, which, place in statements:
            operand = int(which or 0)
            first = starts[operand]
            if numbers is not None:
                first += number * packet_size(graph[node.args[operand]])
            got.append(first + int(place) if place and number >= 0 else -1)
    expected = node.attrs["index"].ravel().tolist()
    if [int(n) for n, *_ in statements] != list(range(len(statements))) or len(got) != len(expected):
        yield "number of copied elements", len(expected), len(got)
    for n, (want, have) in enumerate(zip(expected, got, strict=False)):
        if want != have:
            yield f"source of element {n}", want, have


def _packets(around: str) -> list[int] | None:
    """For each packet that is written the number of the one that is read for it, -1 for zeros; None if it sees all."""
    kept = re.search(r"static const (?:unsigned char steps|int sources)\[\d+\] = \{([^}]*)\};", around)
    if kept is None:
        if "out_stream.write(write)" in around:
            return None
        loop = re.search(r"packet < (\d+);", around)
        return list(range(int(loop[1]))) if loop else []
    numbers = [int(number) for number in kept[1].split(",")]
    if "sources" in kept[0]:
        return numbers
    found, read = [], -1
    for step in numbers:
        read += step & 1
        if step & 6:
            found.append(-1 if step & 4 else read)
    return found


def compare_lookup(node: Node, body: str, packets: bool = False) -> Found:
    """Every element reads its table at the bits of its type, and the entries are the model's integers.

    packets: `body` is that of each packet, which is the last axis.
    """
    channels = packet_size(node) if packets else node.types.size
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
    for element, (read, t) in enumerate(zip(node.attrs["reads"], node.attrs["types"], strict=True)):
        n = element % channels
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
            int(node.attrs["table"][starts[element] + (bits - read.lo) % size if read else starts[element]])
            for bits in range(size)
        ]
        if tables.get(match[3]) != want:
            yield f"table of element {n}", want, tables.get(match[3])
