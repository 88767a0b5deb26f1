"""The walk along an ONNX graph that builds our model, operation by operation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hgq.errors import ConversionError, problem
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.frontend.model import Reader
from hgq.importers.archive import refused
from hgq.importers.network import NO_SOFTMAX
from hgq.importers.passing import quantized
from hgq.importers.qonnx import codes, elementwise, layout, products, shapes, windows
from hgq.importers.qonnx.file import File, Node, Port, read_file
from hgq.importers.qonnx.fold import fold
from hgq.importers.qonnx.quant import KINDS
from hgq.importers.qonnx.settle import settled
from hgq.importers.qonnx.value import Known, Value, uniform
from hgq.importers.types import Types

Handler = Callable[["Build", Node, list[Any]], Value]

OPERATIONS: dict[str, Handler] = {
    **products.HANDLERS,
    **elementwise.HANDLERS,
    **windows.HANDLERS,
    **shapes.HANDLERS,
}
"""Operator -> ``handler(build, node, inputs) -> what it makes``; inputs are Values, Knowns, None if left out."""
QUANTIZERS = (*KINDS, *codes.HANDLERS)
INSTEAD = {
    "ConvTranspose": "import the model from Keras, where Conv2DTranspose is supported",
    "Sigmoid": "train with hgq.layers.QFunction, a table with learned types",
    "Tanh": "train with hgq.layers.QFunction, a table with learned types",
    "Trunc": "average over windows of 2, 4, 8 ... elements without it, and quantise the result",
    "FloatQuant": "train with integer quantizers",
    "MultiThreshold": "give the model as it was before FINN's streamlining, with Quant nodes",
    "ArgMax": "cut it off: onnx.utils.extract_model(path, out, inputs, outputs)",
    "TopK": "cut it off: onnx.utils.extract_model(path, out, inputs, outputs)",
    "Pad": "use the pads of Conv",
}


@dataclass
class Build:
    """One import.

    file, drop_softmax: as for `hgq.load`.
    input_type: what all inputs are rounded to where nothing else says it.
    read: how many nodes and outputs read a tensor.
    dropped: whether anything was left out that `drop_softmax` leaves out.
    """

    file: File
    input_type: FixedType | None = None
    drop_softmax: bool = False
    dropped: bool = False
    made: dict[str, Any] = field(default_factory=dict)
    read: Counter[str] = field(default_factory=Counter)
    reader: Reader | None = None
    names: set[str] = field(default_factory=set)
    types_of_inputs: dict[str, FixedType] = field(default_factory=dict)

    def name(self, text: str) -> str:
        """A name for a layer of ours that no other has."""
        clean = re.sub(r"\W+", "_", text.replace("/export_handler", "")).strip("_") or "layer"
        found, n = clean, 1
        while found in self.names:
            found, n = f"{clean}_{n}", n + 1
        self.names.add(found)
        return found

    def types(self, tensor: Any) -> FixedArray:
        """The exact types of a tensor of our model, by range analysis."""
        return self.reader.types(tensor)

    def rounded(self, value: Value) -> Value:
        """A model input that nothing has rounded yet, rounded to what it is stated to be."""
        if not value.raw:
            return value
        port = value.tensor
        while port._keras_history.operation._inbound_nodes[0].input_tensors:
            port = port._keras_history.operation._inbound_nodes[0].input_tensors[0]
        t = self.types_of_inputs.get(port.name) or self.input_type
        if t is None:
            raise Unconvertible(
                f"it reads the model input '{port.name}', which the model does not quantise",
                "say what the input is rounded to: input_type='s16f8' (hgq-convert: --input-type s16f8)",
            )
        one = np.ones((1,) * (value.rank - 1), np.int64)
        types = Types(t.signed * one, (t.width - t.signed) * one, t.frac * one, Rounding.RND, Overflow.SAT)
        return replace(value, tensor=quantized(types, self.name(f"{port.name}_rounded"))(value.tensor), raw=False)

    def run(self) -> keras.Model:
        """Our model.

        Raises:
            ConversionError: with every operation that has no exact counterpart.
        """
        inputs = [self._input(port) for port in self.file.inputs]
        self.reader = Reader(inputs, self.input_type)
        for name in self.file.constants:
            self.made[name] = Known(self.file.constants[name])
        self.read = Counter(name for node in self.file.nodes for name in node.inputs) + Counter(self.file.outputs)
        problems: list[str] = []
        for node in products.with_biases(self):
            if any(name and name not in self.made for name in node.inputs):
                continue  # what makes it has been refused
            try:
                made = self._make(node, [self.made[name] if name else None for name in node.inputs])
                unread = [name for name in node.outputs[1:] if name and self.read[name]]
                if unread:
                    raise Unconvertible(f"its second result '{unread[0]}' is read", "export in evaluation mode")
                _check_seen(node)
                self.made[node.outputs[0]] = made
            except Unconvertible as reason:
                problems.append(problem(node.kind, node.name, reason.what, reason.fix))
            except (ValueError, TypeError) as reason:  # our layer's own complaint, or Keras'
                first = str(reason).splitlines()[0][:200]
                problems.append(problem(node.kind, node.name, first, "export the model again"))
        results = []
        for name in [] if problems else self.file.outputs:
            try:
                results.append(self._output(name))
            except Unconvertible as reason:
                problems.append(problem("output", name, reason.what, reason.fix))
        if problems:
            raise ConversionError(problems)
        if self.drop_softmax and not self.dropped:
            raise refused(self.file.path, "drop_softmax: there is nothing at its end to leave out", NO_SOFTMAX)
        return keras.Model(
            inputs if len(inputs) > 1 else inputs[0],
            results if len(results) > 1 else results[0],
            name=self.name(self.file.name),
        )

    def _input(self, port: Port) -> Any:
        tensor = keras.Input(port.shape[1:], name=self.name(port.name))
        if port.kind in "ui":
            self.types_of_inputs[tensor.name] = FixedType(port.kind == "i", port.bits, 0)
        elif port.kind == "b":
            self.types_of_inputs[tensor.name] = FixedType(False, 1, 0)
        self.made[port.name] = replace(Value.of(tensor), raw=True)
        return tensor

    def _make(self, node: Node, given: list[Any]) -> Any:
        if node.kind == "Shape":
            shape = given[0].shape if isinstance(given[0], Value) else given[0].value.shape
            batch = self.file.inputs[0].shape[0] or shapes.BATCH
            return Known(np.array([batch if n is None else n for n in shape], np.int64))
        if node.kind in codes.HANDLERS:
            return codes.HANDLERS[node.kind](self, node, given)
        if any(isinstance(one, codes.Coded) for one in given):
            raise Unconvertible("it reads the whole numbers of a QuantizeLinear", codes.TOGETHER)
        if node.kind not in INSTEAD and all(one is None or isinstance(one, Known) for one in given):
            return fold(node, given, self.file.opset)
        if node.kind in KINDS:
            return elementwise.quantise(self, node, given)
        if node.kind not in OPERATIONS:
            supported = ", ".join((*QUANTIZERS, *OPERATIONS))
            raise Unconvertible(
                "this operator is not supported by the importer",
                INSTEAD.get(node.kind, f"supported are {supported}"),
            )
        return OPERATIONS[node.kind](self, node, given)

    def _output(self, name: str) -> Any:
        value = self.made[name]
        if not isinstance(value, Value):
            raise Unconvertible("it is constant, or the whole numbers of a QuantizeLinear", "leave it out")
        if value.raw:
            value = self.rounded(value)
        alike = uniform(value.scale) and all(step.keeps_order for step in value.steps[self._last_uneven(value) :])
        advice = (
            "; or pass drop_softmax=True (--drop-softmax), which leaves out what scales all outputs alike"
            if alike and not self.drop_softmax
            else ""
        )
        while True:
            try:
                exact = settled(self, value)
                if not (exact.scale == 1).all():
                    raise Unconvertible(
                        f"its scale is {exact.scale.flat[0]:g}, which is no power of two",
                        "end the model with a Quant whose scale is a power of two",
                    )
                return layout.in_order(self, exact).tensor
            except Unconvertible as reason:
                if not self.drop_softmax or not alike:
                    raise Unconvertible(reason.what, reason.fix + advice) from None
                self.dropped = True
                if value.steps and value.steps[-1].keeps_order:
                    value = replace(value, steps=value.steps[:-1])
                elif not (value.scale == 1).all() and not any((step.offset != 0).any() for step in value.steps):
                    value = replace(value, scale=np.ones_like(value.scale))
                else:
                    raise

    @staticmethod
    def _last_uneven(value: Value) -> int:
        """Where the steps begin that treat all outputs alike."""
        start = len(value.steps)
        while start and value.steps[start - 1].keeps_order:
            start -= 1
        return start


INERT = {"momentum", "auto_pad_unused", "kernel_shape", "spatial", "consumed_inputs"}
"""Attributes that mean nothing at inference, or that the weights say as well."""


def _check_seen(node: Node) -> None:
    for name, value in node.attributes.items():
        if name not in node.seen and name not in INERT and value not in (0, "", []) and not _ones(value):
            raise Unconvertible(f"{name}={value!r} is not known to the importer", f"export without {name}")


def _ones(value: Any) -> bool:
    return isinstance(value, list) and all(n in (0, 1) for n in value)


def load_qonnx(path: Path, input_type: FixedType | None, drop_softmax: bool) -> keras.Model:
    """The model in an .onnx file, made of our layers.

    Raises:
        ConversionError: the file is broken, or an operation of it has no exact counterpart.
    """
    file = read_file(path)
    try:
        return Build(file, input_type, drop_softmax).run()
    except (KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError) as broken:
        what = f"it is damaged: it cannot be followed ({type(broken).__name__}: {str(broken)[:120]})"
        raise refused(path, what, "export it again") from broken
