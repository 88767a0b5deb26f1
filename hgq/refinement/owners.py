"""Whose the numbers of an integer graph are: which weight of which layer, which group of which quantizer.

Asked of the frontend itself: the model is read once more with numbers in place of the constants, so that an element's
value is its place. What this cannot tell is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import keras
import numpy as np

from hgq.fixed import FixedArray, FixedType
from hgq.frontend.model import read_with_context
from hgq.ir.graph import Graph
from hgq.quantizers import FracQuantizer, Quantizer, WidthQuantizer
from hgq.resource import priced_layers

CONSTANTS = {
    "kernel": ("kernel", "kernel_quantizer"),
    "depthwise_kernel": ("depthwise_kernel", "depthwise_quantizer"),
    "recurrent": ("recurrent_kernel", "recurrent_quantizer"),
    "bias": ("bias", "bias_quantizer"),
}
"""Name of a constant that may be moved: the layer's variable and quantizer."""
_NUMBER = FixedType(True, 40, 0)
"""The type of a number that stands in place of a constant; no constant of float32 has it."""


@dataclass(frozen=True)
class Constant:
    """A trained constant of a layer; its elements are the parameters ``first .. first + size - 1``.

    values: as inference computes them, float64. frac: fractional bits of each element's type.
    """

    layer: Any
    name: str
    first: int
    values: np.ndarray
    frac: np.ndarray

    @property
    def quantizer(self) -> Quantizer:
        return getattr(self.layer, CONSTANTS[self.name][1])

    @property
    def size(self) -> int:
        return self.values.size

    @property
    def own_types(self) -> bool:
        """Whether each element has a type of its own."""
        return prod(self.quantizer.group) == self.size


@dataclass(frozen=True)
class Rounder:
    """A quantizer of activations; its groups are ``first .. first + size - 1``."""

    layer: Any
    name: str
    quantizer: Quantizer
    first: int
    types: FixedArray

    @property
    def size(self) -> int:
        return self.types.size


@dataclass
class Owners:
    """What may be changed in a model, and where it stands in its integer graph.

    params: for a node and one of its constants, the parameter of each element, -1 where none.
    groups: for a node that rounds, the group of each element (C order), -1 where none.
    """

    graph: Graph
    constants: list[Constant] = field(default_factory=list)
    rounders: list[Rounder] = field(default_factory=list)
    params: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    groups: dict[str, np.ndarray] = field(default_factory=dict)


def find_owners(model: keras.Model) -> Owners:
    """Reads a model that can be converted.

    Raises:
        ConversionError: it cannot.
    """
    graph, context = read_with_context(model)
    owners = Owners(graph)
    count = 0
    for layer, _ in priced_layers(model):
        for name, constant in _constants(layer).items():
            owners.constants.append(Constant(layer, name, count, *constant))
            count += owners.constants[-1].size
    with _numbered(owners.constants):
        numbers, _ = read_with_context(model)
    for node in graph:
        attrs, twin = node.attrs, numbers.nodes[node.name].attrs if node.name in numbers.nodes else {}
        for attr in ("kernel", "bias"):
            if attr in attrs and attr in twin and np.shape(twin[attr]) == attrs[attr].shape:
                # A numbered value is one more than its number, so that 0 stays what no layer of ours has put there.
                numbered = twin[f"{attr}_types"].width == _NUMBER.width
                owners.params[node.name, attr] = np.where(numbered, np.asarray(twin[attr]).astype(np.int64) - 1, -1)
    _find_rounders(model, owners, context.rounded)
    return owners


def _constants(layer: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and fractional bits of the constants that can be written back, by name."""
    if "kernel" not in (found := layer.constants() if hasattr(layer, "constants") else {}):
        return {}
    usable = {}
    for name, (values, types) in found.items():
        variable, quantizer = (getattr(layer, part, None) for part in CONSTANTS.get(name, ("", "")))
        folded = name == "bias" and getattr(layer, "norm_beta", None) is not None
        if isinstance(quantizer, FracQuantizer | WidthQuantizer) and (variable is not None or folded):
            usable[name] = values, types.frac
    return usable


@contextmanager
def _numbered(constants: list[Constant]) -> Iterator[None]:
    """Meanwhile the constants of the layers are their numbers plus 1."""
    kept: dict[int, tuple[Any, dict[str, Any]]] = {}
    for constant in constants:
        real = kept.setdefault(id(constant.layer), (constant.layer, constant.layer.constants()))[1]
        shape = constant.values.shape
        numbers = constant.first + 1.0 + np.arange(constant.size, dtype=np.float64).reshape(shape)
        real[constant.name] = numbers, FixedArray.full(shape, _NUMBER)
    for layer, found in kept.values():
        layer.__dict__["constants"] = lambda found=found: found
    try:
        yield
    finally:
        for layer, _ in kept.values():
            del layer.__dict__["constants"]


def _find_rounders(model: keras.Model, owners: Owners, rounded: dict[str, Any]) -> None:
    """Quantizers of activations of which every element is known."""
    known: dict[int, Rounder] = {}
    owner_of = {id(q): (layer, name) for layer, _ in priced_layers(model) for name, q in layer.quantizers().items()}
    count = 0
    for node, users in rounded.items():
        if node not in owners.graph.nodes:
            continue
        (quantizer, groups), several = (users[0].quantizer, users[0].groups), len(users) > 1
        if several or (groups < 0).all() or id(quantizer) not in owner_of:
            continue
        if id(quantizer) not in known:
            layer, name = owner_of[id(quantizer)]
            known[id(quantizer)] = Rounder(layer, name, quantizer, count, quantizer.types(quantizer.group))
            count += known[id(quantizer)].size
        owners.groups[node] = np.where(groups < 0, -1, groups + known[id(quantizer)].first)
    # A quantizer that also works where nobody knows its groups, such as at a port that others share, stays as it is.
    lost = {id(one.quantizer) for node, users in rounded.items() if node not in owners.groups for one in users}
    for quantizer in lost & set(known):
        first, size = known[quantizer].first, known[quantizer].size
        for node, groups in owners.groups.items():
            owners.groups[node] = np.where((groups >= first) & (groups < first + size), -1, groups)
    owners.rounders = list(known.values())
