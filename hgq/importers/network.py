"""The data flow of a saved model, and our model that is built along it, call by call."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from hgq.errors import ConversionError, problem
from hgq.fixed import FixedArray, FixedType
from hgq.frontend.context import Unconvertible
from hgq.frontend.model import Reader
from hgq.importers.archive import Archive, group_name, refused

Tensor = Any
Call = Callable[..., Tensor]
"""What stands in our model for a layer: takes its tensors, gives its result."""


INERT = set(
    "name trainable dtype batch_input_shape seed synchronized fused momentum renorm_momentum rank enable_ebops "
    "ebops_factor beta0 parallelization_factor kernel_range bias_range depthwise_range pointwise_range "
    "ema_freeze_delay folding_mode".split()
)
"""Attributes that mean nothing at inference: training, prices, names."""


IN_MODEL = ("Sequential", "Functional", "Model")
"""Classes of models: one is followed, models within it are not."""

NO_SOFTMAX = "leave drop_softmax (in a command: --drop-softmax) out"


@dataclass(frozen=True)
class Reference:
    """The result of one call of a layer; of an input, call 0."""

    layer: str
    call: int


@dataclass
class Record:
    """A layer of the file: what it says of itself, its weights by path, and the tensors of each call.

    norm, folded: the normalisation that is folded into this layer; whether this layer is one that is folded.
    """

    kind: str
    name: str
    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    library: str
    calls: list[list[Reference]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    norm: Record | None = None
    folded: bool = False

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute of the layer's configuration, which is then taken care of."""
        self.seen.add(attribute)
        return self.config.get(attribute, default)

    def check_seen(self) -> None:
        """Refuses attributes that nobody has asked for and that may change what the layer computes."""
        for name, value in self.config.items():
            inert = name in INERT or name.endswith(("_initializer", "_regularizer", "_constraint"))
            if not (inert or name in self.seen or value is None or value is False):
                raise Unconvertible(f"{name}={value!r} is not known to the importer", f"train without {name}")

    def only(self, attribute: str, *allowed: Any, fix: str) -> None:
        """Refuses every other value of an attribute; the first one allowed is also that of an absent attribute."""
        value = self.get(attribute, allowed[0])
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise Unconvertible(f"{attribute}={value!r} is not supported", fix)

    def variables(self, part: str = "") -> list[np.ndarray]:
        """The variables of the layer, or of a part of it, as Keras 3 numbers them."""
        start = f"{part}/vars/" if part else "vars/"
        found = {int(path[len(start) :]): v for path, v in self.arrays.items() if path.startswith(start)}
        return [found[n] for n in sorted(found)]


@dataclass
class Importer:
    """One import: what the file says, and the model under construction.

    handlers: class name -> ``handler(importer, record, shapes) -> Call``; shapes with the batch axis.
    input_type: the type that model inputs are rounded to where the file does not say it.
    drop_softmax: whether a softmax is left out.
    given: types that the user gives, for models that have none.
    prepare: looks at all layers and outputs before the first is built.
    tensors: what the layer that is being imported reads, in our model.
    read: names of the layers whose results other layers read.
    dropped: softmaxes that were left out.
    """

    archive: Archive
    handlers: dict[str, Callable[[Importer, Record, list[tuple]], Call]]
    instead: dict[str, str]
    input_type: FixedType | None = None
    drop_softmax: bool = False
    given: Any = None
    prepare: Callable[[list[Record], list[Reference], Any], None] = lambda records, outputs, given: None
    problems: list[str] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    made: dict[Reference, Tensor] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    reader: Reader | None = None
    read: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def build(self) -> keras.Model:
        """Our model.

        Raises:
            ConversionError: with every layer that has no exact counterpart.
        """
        try:
            records, inputs, outputs = read_records(self.archive)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as broken:
            what = f"it is damaged: its layers cannot be followed ({type(broken).__name__}: {broken})"
            raise refused(self.archive.path, what, "save the model again") from broken
        self.read = {a.layer for record in records for call in record.calls for a in call}
        self.prepare(records, outputs, self.given)
        inputs = inputs or [record.name for record in records if record.kind == "InputLayer"]
        todo = [(record, n) for record in records for n in range(len(record.calls))]
        layers: dict[str, Call | None] = {}
        failed: set[Reference] = set()
        for record in records:
            if record.kind == "InputLayer":
                shape = record.get("batch_shape") or record.get("batch_input_shape") or record.get("shape")
                self.made[Reference(record.name, 0)] = keras.Input(tuple(shape[1:]), name=record.name)
        self.inputs = [self.made[Reference(name, 0)] for name in inputs]
        while todo:
            ready = [(record, n) for record, n in todo if all(a in self.made or a in failed for a in record.calls[n])]
            if not ready:
                names = ", ".join(sorted({record.name for record, _ in todo})[:5])
                raise refused(self.archive.path, f"its layers {names} read tensors that do not exist", "save it again")
            for record, n in ready:
                here = Reference(record.name, n)
                if any(a in failed for a in record.calls[n]):
                    failed.add(here)
                    continue
                self.tensors = [self.made[a] for a in record.calls[n]]
                try:
                    if record.name not in layers:
                        layers[record.name] = None
                        shapes = [tuple(t.shape) for t in self.tensors]
                        made = self._handler(record)(self, record, shapes)
                        record.check_seen()
                        layers[record.name] = made
                    call = layers[record.name]
                    if call is None:
                        failed.add(here)
                        continue
                    self.made[here] = call(*self.tensors)
                except Unconvertible as reason:
                    self.problems.append(problem(record.kind, record.name, reason.what, reason.fix))
                    failed.add(here)
                except (ValueError, TypeError) as reason:  # our layer's own complaint
                    text = str(reason)
                    if f"'{record.name}'" not in text:  # Keras' own
                        first = text.splitlines()[0][:200]
                        text = f"{record.kind} '{record.name}': {first}\n      Fix: save the model again"
                    self.problems.append(f"  - {text}")
                    failed.add(here)
            todo = [one for one in todo if one not in ready]
        if self.problems:
            raise ConversionError(self.problems)
        if self.drop_softmax and not self.dropped:
            raise refused(self.archive.path, "drop_softmax: the model ends with no softmax", NO_SOFTMAX)
        results = [self.made[a] for a in outputs]
        name = self.archive.config["config"].get("name", "model")
        return keras.Model(
            self.inputs if len(self.inputs) > 1 else self.inputs[0],
            results if len(results) > 1 else results[0],
            name=str(name),
        )

    def _handler(self, record: Record) -> Callable[[Importer, Record, list[tuple]], Call]:
        if record.kind in IN_MODEL:
            raise Unconvertible(
                "a model within the model is not followed",
                f"call the layers of model.get_layer('{record.name}') in its place: they keep their weights",
            )
        if record.kind not in self.handlers:
            supported = ", ".join(self.handlers)
            fix = self.instead.get(record.kind, f"supported are {supported}")
            raise Unconvertible("this class is not supported by the importer", fix)
        dtype = record.get("dtype")
        policy = dtype["config"].get("name") if isinstance(dtype, dict) else dtype
        if policy not in (None, "float32"):
            raise Unconvertible(f"dtype={policy!r} is not exact", "train and save the model in float32")
        return self.handlers[record.kind]

    def types(self, tensor: Tensor) -> FixedArray | None:
        """The exact types of a tensor of our model, by range analysis; None for a model input."""
        if any(tensor is given for given in self.inputs):
            return None
        if self.reader is None:
            self.reader = Reader(self.inputs, self.input_type)
        return self.reader.types(tensor)


def read_records(archive: Archive) -> tuple[list[Record], list[str], list[Reference]]:
    """The layers with their calls, the names of the inputs, and the outputs."""
    config = archive.config["config"]
    kind = archive.config["class_name"]
    if kind not in IN_MODEL:
        raise refused(archive.path, f"its class is {kind!r}", "build it with keras.Sequential or keras.Model")
    records = []
    counts: Counter[str] = Counter()
    for layer in config["layers"]:
        class_name = layer["class_name"]
        name = layer["config"].get("name") or layer.get("name")
        key = name if archive.by_name else group_name(class_name, counts[class_name])
        counts[class_name] += 1
        library = (layer.get("registered_name") or "").partition(">")[0] or layer.get("module") or ""
        records.append(Record(class_name, name, dict(layer["config"]), archive.groups.get(key, {}), library))
    if kind == "Sequential":
        return _sequential(archive, records)
    nodes = [layer.get("inbound_nodes", []) for layer in config["layers"]]
    places = {
        Reference(record.name, n)
        for record, calls in zip(records, nodes, strict=True)
        for n in range(max(len(calls), record.kind == "InputLayer"))
    }
    for record, calls in zip(records, nodes, strict=True):
        for call in calls:
            record.calls.append([_find(archive, places, record, *spot) for spot in _spots(archive, record, call)])
    inputs = [spot[0] for spot in _listed(config["input_layers"])]
    outputs = [_find(archive, places, None, *spot) for spot in _listed(config["output_layers"])]
    return records, inputs, outputs


def _sequential(archive: Archive, records: list[Record]) -> tuple[list[Record], list[str], list[Reference]]:
    if not records:
        raise refused(archive.path, "it has no layers", "save a model that has some")
    first = records[0]
    if first.kind != "InputLayer":
        shape = first.get("batch_input_shape") or archive.config.get("build_config", {}).get("input_shape")
        if shape is None:
            raise refused(archive.path, "it does not say the shape of its input", "start the model with keras.Input")
        first = Record("InputLayer", "input", {"batch_shape": shape}, {}, "keras")
        records.insert(0, first)
    for before, record in itertools.pairwise(records):
        record.calls.append([Reference(before.name, 0)])
    return records, [first.name], [Reference(records[-1].name, 0)]


def _listed(spots: Any) -> list[list]:
    """``[name, 0, 0]``, a list of such, or a dict of them, whose order in Keras is that of the keys."""
    if isinstance(spots, dict):
        return [spots[key] for key in sorted(spots)]
    return [spots] if spots and isinstance(spots[0], str) else list(spots)


def _find(
    archive: Archive, places: set[Reference], record: Record | None, layer: str, call: int, tensor: int = 0
) -> Reference:
    if tensor != 0 or Reference(layer, call) not in places:
        reader = f"layer '{record.name}'" if record else "the model"
        what = f"{reader} reads result {tensor} of call {call} of '{layer}', which is not there"
        raise refused(archive.path, what, "save the model again")
    return Reference(layer, call)


def _spots(archive: Archive, record: Record, call: Any) -> list[tuple]:
    """The tensors that one call of a layer reads. Other arguments are refused: they may change what it does."""
    if isinstance(call, dict):  # Keras 3
        extra = {k: v for k, v in call.get("kwargs", {}).items() if v is not None and k not in ("training", "mask")}
        arguments = call.get("args", [])
        if extra or len(arguments) != 1 or call.get("kwargs", {}).get("training") or call["kwargs"].get("mask"):
            raise refused(
                archive.path, f"layer '{record.name}' is called with further arguments", "call it as layer(x)"
            )
        found = arguments[0] if isinstance(arguments[0], list) else [arguments[0]]
        spots = []
        for one in found:
            if not isinstance(one, dict) or one.get("class_name") != "__keras_tensor__":
                raise refused(
                    archive.path, f"layer '{record.name}' is called on a constant", "call it on tensors of the model"
                )
            spots.append(tuple(one["config"]["keras_history"]))
        return spots
    spots = []
    for layer, place, tensor, *extra in call:  # Keras 2
        if any(extra) and any(v is not None and k != "training" for e in extra for k, v in e.items()):
            raise refused(
                archive.path, f"layer '{record.name}' is called with further arguments", "call it as layer(x)"
            )
        spots.append((layer, place, tensor))
    return spots
