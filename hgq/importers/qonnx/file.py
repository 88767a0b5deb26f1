"""An .onnx file as data: nodes in the order of their data flow, constants, inputs and outputs. Nothing is executed.

The package onnx only reads the message; what the message says is checked here, since a file may come from anybody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hgq.importers.archive import refused

OPSETS = range(9, 29)
"""Versions of ONNX' own operators whose meaning is known here."""
QUANT_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
"""Where Quant and its kin are from: QONNX, FINN before it, early Brevitas."""
LARGEST_TENSOR = 1 << 28
"""Elements of a constant, at most."""
AGAIN = "export it again (Brevitas: brevitas.export.export_qonnx)"


@dataclass
class Node:
    """One operation: names of the tensors that it reads ("" for one left out) and makes."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    seen: set[str] = field(default_factory=set)

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute, which is then taken care of."""
        self.seen.add(attribute)
        return self.attributes.get(attribute, default)


@dataclass(frozen=True)
class Port:
    """An input of the model. shape: None for a free size. kind: "f", "u", "i" as in NumPy; bits of whole numbers."""

    name: str
    shape: tuple[int | None, ...]
    kind: str
    bits: int


@dataclass(frozen=True)
class File:
    """What a file says; `nodes` come after what they read."""

    path: Path
    name: str
    opset: int
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    inputs: list[Port]
    outputs: list[str]


def read_file(path: Path) -> File:
    """Reads an .onnx file.

    Raises:
        ConversionError: it is missing, damaged, or holds what is not a plain graph; or the package onnx is missing.
    """
    if not path.is_file():
        raise refused(path, "there is no such file", "give the .onnx file that the export wrote")
    try:
        import onnx
    except ImportError as missing:
        raise refused(path, f"reading it needs the package onnx ({missing})", "pip install 'hgq-fpga[onnx]'") from None
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
        return _checked(path, model, onnx)
    except (DecodeError, UnicodeDecodeError) as broken:
        raise refused(path, f"it is damaged or no ONNX file: {broken}", AGAIN) from broken
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as broken:
        raise refused(path, f"it cannot be read: {type(broken).__name__}: {str(broken)[:200]}", AGAIN) from broken


def _checked(path: Path, model: Any, onnx: Any) -> File:
    graph = model.graph
    if not graph.node or not graph.output:
        raise refused(path, "it is damaged or no ONNX file: it has no nodes or no outputs", AGAIN)
    versions = {one.domain: one.version for one in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset not in OPSETS:
        what = f"its operators are of opset {opset}; {OPSETS.start} to {OPSETS.stop - 1} are known"
        raise refused(path, what, "export it again with opset_version=20")
    if model.functions:
        what = f"it defines functions of its own ('{model.functions[0].name}')"
        raise refused(path, what, "inline them: onnx.inliner.inline_local_functions")
    if graph.sparse_initializer:
        raise refused(path, "it holds sparse constants", "export it with dense ones")
    constants: dict[str, np.ndarray] = {}
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise refused(path, f"it is damaged: two constants are named '{tensor.name}'", AGAIN)
        constants[tensor.name] = array_of(path, tensor, onnx)
    inputs = [_port(path, one, onnx) for one in graph.input if one.name not in constants]
    if not inputs:
        raise refused(path, "it has no input", "export it with its input")
    names = [port.name for port in inputs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refused(path, f"it is damaged: two inputs are named '{twice}'", AGAIN)
    nodes = [_node(path, n, one, onnx) for n, one in enumerate(graph.node)]
    ordered = _ordered(path, nodes, {*constants, *(port.name for port in inputs)})
    known = {*constants, *(port.name for port in inputs), *(o for node in nodes for o in node.outputs)}
    outputs = [one.name for one in graph.output]
    for name in outputs:
        if name not in known:
            raise refused(path, f"its output '{name}' is made by no node", AGAIN)
    return File(path, graph.name or path.stem, opset, ordered, constants, inputs, outputs)


def _port(path: Path, value: Any, onnx: Any) -> Port:
    if value.type.WhichOneof("value") != "tensor_type":
        raise refused(path, f"its input '{value.name}' is no tensor", "give the model tensors")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise refused(path, f"its input '{value.name}' has no shape", AGAIN)
    shape = tuple(int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    if len(shape) < 2 or None in shape[1:]:
        shown = tuple("?" if n is None else n for n in shape)
        what = f"its input '{value.name}' has shape {shown}; only the first size (the batch) may be free"
        raise refused(path, what, "export it with an example input of the true size, without dynamic axes")
    if math.prod(n or 1 for n in shape[1:]) > 1 << 24:
        raise refused(path, f"its input '{value.name}' has shape {shape}: too large for hardware", AGAIN)
    dtype = _dtype(path, tensor.elem_type, f"input '{value.name}'", onnx)
    return Port(value.name, shape, dtype.kind, 8 * dtype.itemsize)


def _dtype(path: Path, element: int, what: str, onnx: Any) -> np.dtype:
    kinds = "FLOAT DOUBLE FLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()
    known = {getattr(onnx.TensorProto, kind) for kind in kinds}
    if element not in known:
        raise refused(path, f"its {what} has element type {element}; known are {', '.join(kinds)}", AGAIN)
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))


def array_of(path: Path, tensor: Any, onnx: Any) -> np.ndarray:
    """A constant of the file. What it claims to be must be what it holds: a few bytes cannot ask for gigabytes."""
    what = f"constant '{tensor.name}'"
    dtype = _dtype(path, tensor.data_type, what, onnx)
    shape = tuple(int(n) for n in tensor.dims)
    size = math.prod(shape)
    if any(n < 0 for n in shape) or size > LARGEST_TENSOR:
        raise refused(path, f"its {what} has shape {shape}", AGAIN)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raw = _external(path, tensor, size * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        fields = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
        if max(len(getattr(tensor, field)) for field in fields) != size:
            raise refused(path, f"its {what} of shape {shape} does not hold {size} values", AGAIN)
        return np.array(onnx.numpy_helper.to_array(tensor))
    if len(raw) != size * dtype.itemsize:
        raise refused(path, f"its {what} of shape {shape} holds {len(raw)} bytes, not {size * dtype.itemsize}", AGAIN)
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _external(path: Path, tensor: Any, size: int) -> bytes:
    """Data in a file of its own: only one that lies beside the model, under its own name."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = entries.get("location", "")
    place = path.parent / name
    if not name or name in (".", "..") or any(c in name for c in "/\\\0") or place.is_symlink():
        what = f"its constant '{tensor.name}' lies in {name!r}, which is no file name in the model's own folder"
        raise refused(path, what, "save it in one file: onnx.save(onnx.load(path), 'one.onnx')")
    if not place.is_file():
        raise refused(path, f"its constants lie in {name!r}, which is not there", "put it beside the model")
    offset = int(entries.get("offset", "0"))
    if int(entries.get("length", str(size))) != size or offset < 0 or offset + size > place.stat().st_size:
        raise refused(path, f"its constant '{tensor.name}' is not whole in {name!r}", AGAIN)
    with place.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _node(path: Path, number: int, proto: Any, onnx: Any) -> Node:
    name = proto.name or next((o for o in proto.output if o), f"node {number}")
    if proto.domain not in ("", "ai.onnx", *QUANT_DOMAINS):
        what = f"{proto.op_type} '{name}' is of the domain '{proto.domain}', which is not known"
        raise refused(path, what, f"use operators of ONNX and of {QUANT_DOMAINS[0]}")
    attributes: dict[str, Any] = {}
    for one in proto.attribute:
        if one.type == onnx.AttributeProto.TENSOR:
            attributes[one.name] = array_of(path, one.t, onnx)
        elif one.type in (
            onnx.AttributeProto.INT,
            onnx.AttributeProto.FLOAT,
            onnx.AttributeProto.INTS,
            onnx.AttributeProto.FLOATS,
        ):
            value = onnx.helper.get_attribute_value(one)
            attributes[one.name] = list(value) if not isinstance(value, int | float) else value
        elif one.type == onnx.AttributeProto.STRING:
            attributes[one.name] = one.s.decode("utf-8")
        else:  # graphs of If and Loop, sparse tensors ...
            what = f"{proto.op_type} '{name}' has the attribute '{one.name}' of a kind that is not read"
            raise refused(path, what, "export the model without control flow")
    if not [o for o in proto.output if o]:
        raise refused(path, f"it is damaged: {proto.op_type} '{name}' makes nothing", AGAIN)
    return Node(proto.op_type, name, list(proto.input), list(proto.output), attributes)


def _ordered(path: Path, nodes: list[Node], known: set[str]) -> list[Node]:
    """The nodes such that each comes after what it reads; every tensor is made once."""
    makers: dict[str, Node] = {}
    for node in nodes:
        for name in node.outputs:
            if name and (name in makers or name in known):
                raise refused(path, f"it is damaged: '{name}' is made twice, again by {node.kind} '{node.name}'", AGAIN)
            makers[name] = node
    readers: dict[str, list[Node]] = {}
    waiting: dict[int, int] = {}
    for node in nodes:
        needed = {name for name in node.inputs if name and name not in known}
        for name in needed:
            if name not in makers:
                raise refused(path, f"{node.kind} '{node.name}' reads '{name}', which nothing makes", AGAIN)
            readers.setdefault(name, []).append(node)
        waiting[id(node)] = len(needed)
    ready = [node for node in nodes if not waiting[id(node)]]
    for node in ready:  # grows while it is walked
        for name in node.outputs:
            for reader in readers.get(name, []):
                waiting[id(reader)] -= 1
                if not waiting[id(reader)]:
                    ready.append(reader)
    if len(ready) != len(nodes):
        stuck = next(node for node in nodes if waiting[id(node)])
        raise refused(path, f"{stuck.kind} '{stuck.name}' is part of a cycle", AGAIN)
    return ready
