"""Matrix products of two tensors of the graph."""

from __future__ import annotations

from functools import reduce

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects, shift
from hgq.ir.ops.record import Array, Attrs, OpDef, narrow
from hgq.ir.range import Range

_NOWHERE = -(1 << 40)


def product_terms(x: Range, y: Range) -> tuple[Array, Array, Array, Array]:
    """Bounds of every product on the grid of its sum, shape ``(groups, rows, inner, columns)``; that grid's frac.

    Returns:
        lowest, highest, the sum's frac ``(groups, rows, columns)``, and how far each product is shifted up; all of a
        product that can only be 0 are 0.
    """
    if len(x.shape) != 3 or len(y.shape) != 3 or x.shape[0] != y.shape[0] or x.shape[2] != y.shape[1]:
        raise IRError(f"matmul: takes (groups, rows, inner) and (groups, inner, columns), got {x.shape} and {y.shape}")
    a = [part[..., None] for part in (x.lo, x.hi, x.frac, x.zero)]
    b = [part[:, None] for part in (y.lo, y.hi, y.frac, y.zero)]
    dead = a[3] | b[3]
    frac = np.where(dead, _NOWHERE, a[2] + b[2])
    out = frac.max(axis=2)
    up = np.where(dead, 0, out[:, :, None] - frac)
    corners = [p * q for p in a[:2] for q in b[:2]]
    lo, hi = (reduce(pick, corners) << as_objects(up) for pick in (np.minimum, np.maximum))
    return lo, hi, np.where(out == _NOWHERE, 0, out), up


def _infer(attrs: Attrs, x: Range, y: Range) -> Range:
    lo, hi, frac, _ = product_terms(x, y)
    return Range(lo.sum(axis=2), hi.sum(axis=2), frac)


def _evaluate(attrs: Attrs, out: Range, ins: tuple[Range, Range], x: Array, y: Array) -> Array:
    grids = [int(np.where(r.zero, _NOWHERE, r.frac).max(initial=_NOWHERE)) for r in ins]
    ups = [np.where(r.zero, 0, grid - r.frac) for r, grid in zip(ins, grids, strict=True)]
    largest = [r.magnitude << as_objects(up) for r, up in zip(ins, ups, strict=True)]
    bits = max((int(v).bit_length() for v in (largest[0] @ largest[1]).ravel()), default=0)
    small = bits <= 62 and all(r.bits + int(up.max(initial=0)) <= 62 for r, up in zip(ins, ups, strict=True))
    a, b = (shift(m if small else as_objects(m), up) for m, up in zip((x, y), ups, strict=True))
    if small and bits <= 53:  # every partial sum is exact in float64, whose matrix product is fast
        product = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    else:
        product = a @ b
    # The common grid is at least as fine as each result's own, and the surplus bits are zeros.
    return narrow(shift(product, np.where(out.zero, 0, out.frac - sum(grids))), out)


MATMUL = OpDef((), _infer, _evaluate)
