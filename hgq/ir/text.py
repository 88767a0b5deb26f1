"""The text form of a graph: one line a node, for dumps, diffs, bug reports and the file model.ir."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.fixed import FixedArray
from hgq.ir.graph import Builder, Graph
from hgq.ir.ops import ENUMS, OPS

VERSION = "hgq-ir 1"


def to_text(graph: Graph) -> str:
    """The graph as text; `parse` is its inverse. Types after the colon are for the reader and are checked."""
    lines = [VERSION]
    for node in graph:
        args = ", ".join(_quote(arg) for arg in node.args)
        attrs = "".join(f" {key}={_value(node.attrs[key])}" for key in OPS[node.op].attrs if key in node.attrs)
        head = f"{_quote(node.name)} = {node.op}({args}){attrs}"
        lines.append(f"{head} origin={_quote(node.origin)} : {node.types}")
    lines.append("return " + ", ".join(_quote(name) for name in graph.outputs))
    return "\n".join(lines) + "\n"


def parse(text: str) -> Graph:
    """Reads `str(graph)` back.

    Raises:
        IRError: the line that cannot be read, or whose stated types are not what the op gives.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != VERSION:
        raise IRError(f"not an IR file of this version: its first line must be {VERSION!r}")
    builder = Builder()
    for line in lines[1:-1]:
        match = _LINE.fullmatch(line)
        if not match:
            raise IRError(f"cannot read the line {line[:80]!r}")
        name, args = json.loads(match["name"]), json.loads(f"[{match['args']}]")
        attrs = {key: _parse_value(key, value) for key, value in _ATTR.findall(match["attrs"])}
        builder.add(name, match["op"], *args, origin=json.loads(match["origin"]), **attrs)
        if str(builder[name].types) != match["types"]:
            raise IRError(f"{name}: the file says {match['types'][:60]}, the op gives {str(builder[name].types)[:60]}")
    if not lines[-1].startswith("return "):
        raise IRError("the last line must be the return")
    return builder.graph(*json.loads(f"[{lines[-1][len('return ') :]}]"))


_STRING = r'"(?:[^"\\]|\\.)*"'
_ARGS = rf"[^)]*|(?:{_STRING}(?:, )?)*"
_ONE_ATTR = r" \w+=(?:\[[\d,]*\]|i\[[\d,]*\])?(?:\{[^}]*\}|-?\w+)"
_LINE = re.compile(
    rf"(?P<name>{_STRING}) = (?P<op>\w+)\((?P<args>{_ARGS})\)(?P<attrs>(?:{_ONE_ATTR})*)"
    rf" origin=(?P<origin>{_STRING}) : (?P<types>.*)"
)
_ATTR = re.compile(r" (\w+)=((?:i?\[[\d,]*\])?\{[^}]*\}|-?\w+)")


def _value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"i[{','.join(map(str, value.shape))}]{{{' '.join(map(str, value.ravel().tolist()))}}}"
    if isinstance(value, tuple):
        return "{" + " ".join(map(str, value)) + "}"
    return str(value)


def _parse_value(key: str, text: str) -> Any:
    if key in ENUMS:
        return ENUMS[key](text)
    if text.startswith("i["):
        shape, _, body = text[2:-1].partition("]{")
        numbers = [int(n) for n in body.split()]
        wide = any(n.bit_length() > 62 for n in numbers)
        return np.array(numbers, object if wide else np.int64).reshape([int(n) for n in shape.split(",") if n])
    if text.startswith("["):
        return FixedArray.parse(text)
    if not text.startswith("{"):
        return int(text)
    return tuple(int(n) for n in text[1:-1].split())


def _quote(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
