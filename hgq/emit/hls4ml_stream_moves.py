"""Layers of io_stream that only move elements: in order, in any order, or within each packet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hgq.emit.hls4ml_packets import Inner, framed, merged, only, packets, viewing, wrapped
from hgq.emit.hls4ml_planned import Context, PlannedLayer
from hgq.ir import Node


def take(context: Context, node: Node, inner: Inner) -> list[PlannedLayer]:
    """Packets that keep their order need no memory; other moves need one, and mixtures of packets need registers."""
    count, channels = packets(node.shape)
    index = node.attrs["index"].reshape(count, channels)
    shapes = [context.graph[name].shape for name in node.args]
    found = _of_each_packet(index, [packets(shape) for shape in shapes])
    if found is not None:
        return [moved(context, node, inner, found, "packets", packets=count)]
    one = _of_one_packet(index, packets(shapes[0])[1]) if len(shapes) == 1 else None
    if one is None:
        return [framed(context, node, only(inner["take"](context, node)))]
    sources, pattern = one
    known = sources[sources >= 0]
    many, width = packets(shapes[0])
    if (np.diff(known) >= 0).all():
        steps = _steps(sources.tolist(), many)
        return [moved(context, node, inner, pattern, "in_order", steps=steps, channels=width)]
    return [moved(context, node, inner, pattern, "any_order", sources=sources.tolist(), packets=many, channels=width)]


def _of_each_packet(index: np.ndarray, shapes: list[tuple[int, int]]) -> np.ndarray | None:
    """The index within a packet, where each packet is made of the packets of the same number."""
    count = len(index)
    if any(many != count for many, _ in shapes):
        return None
    places = []  # of each element of the arguments: its place in the packets laid end to end
    numbers = []
    start = 0
    for many, width in shapes:
        places.append(np.tile(np.arange(start, start + width), many))
        numbers.append(np.repeat(np.arange(many), width))
        start += width
    place, number = np.concatenate(places), np.concatenate(numbers)
    moved = np.where(index < 0, -1, place[index])
    fits = ((index < 0) | (number[index] == np.arange(count)[:, None])).all() and (moved == moved[:1]).all()
    return moved[0] if fits else None


def _of_one_packet(index: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray] | None:
    """For each packet the one that it is made of, or -1 for zeros; and the index within it."""
    live = (index >= 0).any(axis=1)
    if not live.any():
        return None
    number = np.where(index < 0, -1, index // width)
    pattern = np.where(index < 0, -1, index % width)
    first = pattern[np.argmax(live)]
    sources = number.max(axis=1)
    same = ((number == -1) | (number == sources[:, None])).all() and (pattern[live] == first).all()
    return (sources, first) if same else None


def _steps(sources: list[int], many: int) -> list[int]:
    """Reads and writes, one of each at most in a step: see stream_in_order.h.j2."""
    steps, read = [], 0
    for source in sources:
        if source < 0:
            steps.append(4)
            continue
        while read < source:
            steps.append(1)
            read += 1
        steps.append(3 if read == source else 2)
        read = source + 1
    return steps + [1] * (many - read)


def moved(context: Context, node: Node, inner: Inner, pattern: np.ndarray, form: str, **values: Any) -> PlannedLayer:
    args = {name: replace(context.graph[name], range=merged(context.graph[name].range)) for name in node.args}
    view = replace(node, attrs={"index": pattern}, range=merged(node.range))
    layer = only(inner["take"](viewing(context, args), view))
    return wrapped(context, node, layer, form, **values)
