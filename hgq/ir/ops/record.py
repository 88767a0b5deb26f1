"""What one op of the IR is: its attributes, its range rule, its meaning on integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects
from hgq.ir.range import Range

Attrs = Mapping[str, Any]
Array = np.ndarray


@dataclass(frozen=True, slots=True)
class OpDef:
    """What is known about one op.

    attrs: the names of its attributes, in the order in which they are printed.
    infer: ``(attrs, *argument ranges) -> range of the result``; raises IRError on a malformed node.
    evaluate: ``(attrs, result range, argument ranges, *argument integers) -> integers``, batch axis first.
    optional: attributes that a node may lack.
    """

    attrs: tuple[str, ...]
    infer: Callable[..., Range]
    evaluate: Callable[..., Array]
    optional: tuple[str, ...] = ()

    def attrs_fit(self, given: Mapping[str, Any]) -> bool:
        """Whether a node has all that it must and nothing else."""
        return set(self.attrs) - set(self.optional) <= set(given) <= set(self.attrs)


def reduce_constant(mantissas: Array, frac: Array) -> tuple[Array, Array]:
    """The same constants with trailing zero bits stripped: odd Python-integer mantissas and their fractional bits.

    Zeros come back as (0, 0).
    """
    m = as_objects(mantissas)
    low = m & -m  # the lowest set bit
    strip = np.array([int(v).bit_length() - 1 if v else 0 for v in low.ravel()], np.int64).reshape(m.shape)
    return m >> as_objects(strip), np.where(m == 0, 0, np.asarray(frac) - strip)


def constant(attrs: Attrs, name: str) -> tuple[Array, Array]:
    """Reduced mantissas and fractional bits of the constant attribute `name`, checked against its learned types."""
    m, types = attrs[name], attrs[f"{name}_types"]
    if np.shape(m) != types.shape:
        raise IRError(f"{name}: mantissas have shape {np.shape(m)}, types {types.shape}")
    m = as_objects(m)
    if ((m < types.lo) | (m > types.hi)).any():
        raise IRError(f"{name}: a mantissa is outside its learned type")
    return reduce_constant(m, types.frac)


def narrow(m: Array, out: Range) -> Array:
    """Back to int64 as soon as the result's range allows it."""
    return m.astype(np.int64) if m.dtype == object and out.bits <= 62 else m
