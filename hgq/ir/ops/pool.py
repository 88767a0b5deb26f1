"""The largest element of each window, and the sum of each window."""

from __future__ import annotations

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects, shift
from hgq.ir.ops.record import Array, Attrs, OpDef, narrow
from hgq.ir.range import Range
from hgq.windows import Windows

_NOWHERE = -(1 << 40)


def pool_windows(attrs: Attrs, shape: tuple[int, ...]) -> Windows:
    """The windows of a pooling node that reads a tensor of `shape`."""
    ones = (1,) * len(attrs["size"])
    before, after = attrs["padding"][::2], attrs["padding"][1::2]
    if len(shape) != len(ones) + 1:
        raise IRError(f"pooling: windows {attrs['size']} for a tensor of shape {shape}")
    windows = Windows(shape[:-1], attrs["size"], attrs["strides"], before, after, ones, ones)
    if min(windows.out) < 1 or windows.counts.min() < 1:
        raise IRError(f"pooling: windows {attrs['size']} do not fit into a tensor of shape {shape}")
    return windows


def _finest(windows: Windows, x: Range) -> Array:
    """The largest frac in each window and channel; elements that are always 0 have no say."""
    frac = windows.gather(np.where(x.zero, _NOWHERE, x.frac), _NOWHERE).max(axis=1)
    return np.where(frac == _NOWHERE, 0, frac)


def _aligned(windows: Windows, x: Range, values: Array, frac: Array) -> tuple[Array, Array]:
    """Bounds at the window's finest grid, ``(positions, elements, channels)``, and which lie inside the input."""
    own = windows.gather(np.where(x.zero, _NOWHERE, x.frac), _NOWHERE)
    up = np.where(own == _NOWHERE, 0, frac[:, None] - own)
    return windows.gather(values, 0) << as_objects(up), (windows.index >= 0)[..., None]


def _max_infer(attrs: Attrs, x: Range) -> Range:
    windows = pool_windows(attrs, x.shape)
    frac = _finest(windows, x)
    ends = []
    for end in (x.lo, x.hi):
        values, inside = _aligned(windows, x, end, frac)
        least = min(int(v) for v in values.ravel())
        ends.append(np.where(inside, values, least).max(axis=1))
    shape = (*windows.out, x.shape[-1])
    return Range(ends[0].reshape(shape), ends[1].reshape(shape), frac.reshape(shape))


def _sum_infer(attrs: Attrs, x: Range) -> Range:
    windows = pool_windows(attrs, x.shape)
    frac = _finest(windows, x)
    shape = (*windows.out, x.shape[-1])
    lo, hi = (_aligned(windows, x, end, frac)[0].sum(axis=1).reshape(shape) for end in (x.lo, x.hi))
    return Range(lo, hi, frac.reshape(shape) + attrs["halvings"][0])


def _evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array, *, largest: bool) -> Array:
    (source,) = ins
    windows = pool_windows(attrs, source.shape)
    grid = int(np.where(source.zero, _NOWHERE, source.frac).max(initial=_NOWHERE))
    up = np.where(source.zero, 0, grid - source.frac)
    taps = windows.index.shape[1]
    if source.bits + int(np.max(up, initial=0)) + taps.bit_length() > 62:
        x = as_objects(x)
    values = shift(x, up).reshape(len(x), -1, source.shape[-1])
    halvings = 0 if largest else attrs["halvings"][0]
    y = None
    for tap in range(taps):  # element by element of the window: no copy of the whole, overlapping input
        at = windows.index[:, tap]
        part = values[:, np.maximum(at, 0)]
        inside = (at >= 0)[:, None]
        if not largest:
            part = np.where(inside, part, 0)
            y = part if y is None else y + part
        elif y is None:
            # Where this tap is outside, any tap that is inside stands in for it.
            at = np.take_along_axis(windows.index, np.argmax(windows.index >= 0, axis=1)[:, None], axis=1)[:, 0]
            y = values[:, at]
        if largest:
            y = np.where(inside, np.maximum(y, part), y)
    assert y is not None
    y = y.reshape(len(x), *out.shape)
    return narrow(shift(y, np.where(out.zero, 0, out.frac - halvings - grid)), out)


def _max_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return _evaluate(attrs, out, ins, x, largest=True)


def _sum_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    return _evaluate(attrs, out, ins, x, largest=False)


MAX_POOL = OpDef(("size", "strides", "padding"), _max_infer, _max_evaluate)
SUM_POOL = OpDef(("size", "strides", "padding", "halvings"), _sum_infer, _sum_evaluate)
