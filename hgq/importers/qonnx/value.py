"""What stands for a tensor of an ONNX graph: a tensor of our model, and what is still to be done to it.

ONNX has channels first, ours has them last; ONNX has floating-point scales and normalisations, ours has what a
quantizer makes of them. Both are put off until something needs the one or the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.frontend.context import Unconvertible
from hgq.importers.qonnx.file import Node
from hgq.importers.types import Types

MOST_BITS = 16
"""Bits that a constant may have that no Quant has made. A float32 has 24, whatever it is: whoever meant fixed point
gave it fewer, and ONNX rounds sums with such that have more."""


@dataclass(frozen=True)
class Known:
    """A constant. value: as ONNX has it, float32 or whole numbers.

    integers, scale: with ``value = integers * scale``, where a Quant made it and its scales are no powers of two.
    latent, types: what the Quant rounded, and its type, in integers there, else in values; of the rank of `value`.
    """

    value: np.ndarray
    latent: np.ndarray | None = None
    types: Types | None = None
    integers: np.ndarray | None = None
    scale: np.ndarray | None = None

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Known:
        """The same with axes in another order: `move` must not depend on sizes."""

        def of(a: np.ndarray | None) -> np.ndarray | None:
            return None if a is None else move(a)

        types = None if self.types is None else self.types.each(move)
        return Known(move(self.value), of(self.latent), types, of(self.integers), of(self.scale))


@dataclass(frozen=True)
class Step:
    """An operation on each element that a later quantizer decides the exact meaning of.

    kind: "mul", "div", "add" or "relu"; "norm" multiplies with the first array and adds the second. The arrays have
    the rank of the tensor.
    """

    node: Node
    kind: str
    arrays: tuple[np.ndarray, ...] = ()

    def apply(self, x: np.ndarray, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
        """In float32, as ONNX computes it."""
        if self.kind == "relu":
            return np.maximum(x, np.float32(0))
        if self.kind == "add":
            return x + arrays[0]
        if self.kind == "div":
            return x / arrays[0]
        y = x * arrays[0]
        return y + arrays[1] if self.kind == "norm" else y

    @property
    def factor(self) -> np.ndarray:
        """What it multiplies with, in float64."""
        if self.kind in ("relu", "add"):
            return np.ones(())
        first = self.arrays[0].astype(np.float64)
        return 1.0 / first if self.kind == "div" else first

    @property
    def offset(self) -> np.ndarray:
        """What it adds."""
        if self.kind in ("relu", "mul", "div"):
            return np.zeros(())
        return self.arrays[-1].astype(np.float64)

    @property
    def keeps_order(self) -> bool:
        """Whether the same is done to all elements, and a larger one stays larger."""
        return self.kind != "relu" and all(a.size == 1 for a in self.arrays) and bool((self.factor > 0).all())


@dataclass(frozen=True)
class Value:
    """``steps(scale * tensor)``.

    axes: which axis of ONNX each axis of `tensor` is; both have the batch first.
    scale: positive float64, of the rank of the tensor in ONNX' order; 1 but for Quants with other scales than powers
        of two.
    raw: whether it is a model input, perhaps with its elements moved, that nothing has rounded yet.
    """

    tensor: Any
    axes: tuple[int, ...]
    scale: np.ndarray
    steps: tuple[Step, ...] = ()
    raw: bool = False

    @classmethod
    def of(cls, tensor: Any, axes: tuple[int, ...] | None = None, scale: np.ndarray | None = None) -> Value:
        rank = len(tensor.shape)
        return cls(tensor, axes or tuple(range(rank)), np.ones((1,) * rank) if scale is None else scale)

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """In ONNX' order."""
        return tuple(self.tensor.shape[self.axes.index(axis)] for axis in range(self.rank))

    @property
    def plain(self) -> bool:
        """Whether the tensor has the values themselves."""
        return not self.steps and bool((self.scale == 1).all())

    def then(self, step: Step) -> Value:
        return replace(self, steps=(*self.steps, step))

    def ours(self, array: np.ndarray) -> np.ndarray:
        """An array in ONNX' order, in that of our tensor and without batch axis."""
        return np.transpose(array, self.axes)[0]

    def onnx(self, array: np.ndarray) -> np.ndarray:
        """The other way round."""
        return np.transpose(array[None], np.argsort(self.axes))


def ranked(array: np.ndarray, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """A constant operand with the rank of the tensor; it must not make the tensor larger."""
    rank = len(shape)
    if array.ndim > rank:
        if array.size != 1:
            raise Unconvertible(f"its {what} has shape {array.shape}, more axes than the tensor", "use fewer axes")
        array = array.reshape(())
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if array.shape[0] != 1 or any(n not in (1, size) for n, size in zip(array.shape[1:], shape[1:], strict=True)):
        raise Unconvertible(
            f"its {what} of shape {array.shape} does not fit the tensor {shape}", "use one that broadcasts to it"
        )
    if not np.isfinite(array).all():
        raise Unconvertible(f"its {what} holds NaN or infinity", "train again with a lower learning rate")
    return array


def grid(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each float64 the bits of its mantissa without trailing zeros, and its fractional bits; 0 and 0 of 0."""
    mantissa, exponent = np.frexp(np.abs(values).astype(np.float64))
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    zeros = np.where(whole > 0, np.frexp((whole & -whole).astype(np.float64))[1] - 1, 0)
    return np.where(whole > 0, 53 - zeros, 0), np.where(whole > 0, 53 - exponent - zeros, 0).astype(np.int64)


def holding(values: np.ndarray, axis: int | None = None, most_bits: int = MOST_BITS) -> Types | None:
    """The narrowest type of all values, or of each index along `axis`; None where it takes more than `most_bits`."""
    v = np.asarray(values, np.float64)
    over = tuple(n for n in range(v.ndim) if n != axis)
    frac = np.max(grid(v)[1], axis=over, keepdims=True, initial=-(1 << 20), where=v != 0)
    frac = np.where(frac < -(1 << 19), 0, frac)
    largest = np.max(np.abs(v), axis=over, keepdims=True, initial=0)
    bits = np.maximum(np.frexp(largest)[1] + frac, 1)
    if (bits > most_bits).any() or (np.abs(frac) > 60).any():
        return None
    signed = (v < 0).any(axis=over, keepdims=True).astype(np.int64)
    return Types(signed, bits.astype(np.int64), frac.astype(np.int64), Rounding.RND, Overflow.SAT_SYM)


def uniform(array: np.ndarray) -> bool:
    """Whether all its elements are alike."""
    return bool((array == array.flat[0]).all())
