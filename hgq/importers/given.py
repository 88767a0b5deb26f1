"""Who says what types the parts of a plain Keras model get: what `plain` asks, and the user's own answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from hgq.errors import ConversionError
from hgq.fixed import FixedArray, FixedType, Overflow, Rounding, decode, encode, outside
from hgq.frontend.context import Unconvertible
from hgq.importers.linear import Constant
from hgq.importers.types import Types

PARTS = ("input", "kernel", "bias", "output", "scale", "offset")
EXAMPLE = "types={'*': {'input': 's8f4', 'kernel': 's8f6', 'bias': 's12f8'}, 'dense': {'kernel': 's6f4'}}"


class Given(Protocol):
    """Types for a plain Keras model, layer by layer. `UserTypes` reads them off the user's words, `hgq.methods` chooses
    them. Each method may raise `Unconvertible`, which then names the layer."""

    def check(self, layers: list[str]) -> None:
        """Refuses types for layers that the model does not have."""

    def input(self, layer: str) -> Types:
        """What the input of a layer with weights is rounded to."""

    def own(self, layer: str, part: str) -> Types | None:
        """Types of an "output", or of the "input" of an average, if this very layer is given some."""

    def constant(self, layer: str, part: str, value: np.ndarray) -> Constant:
        """The types of "kernel", "bias", "scale" or "offset", and its float values rounded to them."""


@dataclass(frozen=True)
class UserTypes:
    """One type for each part of each layer; the layer "*" stands for all others.

    used: the layers and parts that were asked for.
    """

    by_layer: dict[str, dict[str, FixedType]]
    used: set[tuple[str, str]] = field(default_factory=set, compare=False)

    @classmethod
    def of(cls, types: str | Path | dict[str, dict[str, str]] | None) -> UserTypes:
        """From ``"s8f6"`` (everything but outputs), a dict of dicts, or a .json file that holds one.

        Raises:
            ConversionError: it is none of these, or names a part or type that does not exist.
        """
        if types is None:
            return cls({})
        if isinstance(types, str | Path) and str(types).endswith(".json"):
            try:
                types = json.loads(Path(types).read_text(encoding="utf-8"))
            except (OSError, ValueError) as broken:
                raise _wrong(f"{types} cannot be read: {broken}") from broken
        if isinstance(types, str):
            types = {"*": dict.fromkeys((part for part in PARTS if part != "output"), types)}
        if not isinstance(types, dict) or not all(isinstance(one, dict) for one in types.values()):
            raise _wrong(f"types={types!r} is no dict of dicts")
        for layer, parts in types.items():
            for part in parts:
                if part not in PARTS:
                    raise _wrong(f"types: {part!r} of {layer!r} is none of {', '.join(PARTS)}")
        try:
            return cls({name: {p: FixedType.parse(t) for p, t in one.items()} for name, one in types.items()})
        except (ValueError, TypeError) as reason:
            raise _wrong(f"types: {reason}") from None

    def check(self, layers: list[str]) -> None:
        unknown = sorted(set(self.by_layer) - set(layers) - {"*"})
        if unknown:
            raise _wrong(f"types: the model has no layer {unknown[0]!r}; it has {', '.join(layers)}")

    def check_used(self) -> None:
        """Refuses types that no layer has taken, as for the output of a Flatten.

        Raises:
            ConversionError: naming the layer and the part.
        """
        for layer, parts in self.by_layer.items():
            for part in parts if layer != "*" else ():
                if (layer, part) not in self.used:
                    raise ConversionError(
                        [
                            f"  - types: {layer!r} takes none for its {part!r}: only layers with weights and averages "
                            "do, and a normalisation that is not folded into the layer before it\n"
                            "      Fix: leave it out, or give it to the layer before or behind"
                        ]
                    )

    def input(self, layer: str) -> Types:
        return uniform(self._need(layer, "input"), 1)

    def own(self, layer: str, part: str) -> Types | None:
        # An average needs no type: "*" says nothing about it, but gives outputs theirs.
        self.used.add((layer, part))
        found = self._find(layer, part) if part == "output" else self.by_layer.get(layer, {}).get(part)
        return None if found is None else uniform(found, 1)

    def constant(self, layer: str, part: str, value: np.ndarray) -> Constant:
        t = self._need(layer, part)
        types = FixedArray.full(value.shape, t)
        check_finite(part, value)
        beyond = outside(value[None], types, Rounding.RND)[0]
        if beyond.any():
            raise Unconvertible(
                f"its {part} reaches {value[beyond][np.abs(value[beyond]).argmax()]}, and {t} ends at {t.hi * t.lsb}",
                f"give it more integer bits: types={{'{layer}': {{'{part}': ...}}}}",
            )
        m = encode(value[None], types, Rounding.RND, Overflow.SAT)[0]
        return Constant(uniform(t, value.ndim), value, decode(m, types.frac))

    def _find(self, layer: str, part: str) -> FixedType | None:
        self.used.add((layer, part))
        for name in (layer, "*"):
            if part in self.by_layer.get(name, {}):
                return self.by_layer[name][part]
        return None

    def _need(self, layer: str, part: str) -> FixedType:
        found = self._find(layer, part)
        if found is None:
            raise Unconvertible(
                f"its {part} is not quantised, and no type is given for it",
                f"give types (hgq-convert: --types s8f6, or --types file.json), as in {EXAMPLE}",
            )
        return found


def uniform(t: FixedType, rank: int) -> Types:
    """One type for all elements of a tensor of `rank` axes (no batch axis); it saturates."""
    one = np.ones((1,) * rank, np.int64)
    return Types(t.signed * one, (t.width - t.signed) * one, t.frac * one, Rounding.RND, Overflow.SAT)


def check_finite(part: str, value: np.ndarray) -> None:
    """Refuses constants that no type holds."""
    if not np.isfinite(value).all():
        raise Unconvertible(f"its {part} holds NaN or infinity", "train again with a lower learning rate")


def _wrong(what: str) -> ConversionError:
    return ConversionError([f"  - {what}\n      Fix: write {EXAMPLE}"])
