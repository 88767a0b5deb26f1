"""Convolutions with constant kernels: a matrix product at every position of a window."""

from __future__ import annotations

import math

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects, shift
from hgq.ir.ops.record import Array, Attrs, OpDef, constant, narrow
from hgq.ir.range import Range
from hgq.windows import Windows

CHUNK = 1 << 23
"""Elements gathered at once in evaluation; bounds the memory."""


def conv_windows(attrs: Attrs, shape: tuple[int, ...]) -> Windows:
    """The windows of a conv node that reads a tensor of `shape`."""
    kernel = attrs["kernel"].shape
    before, after = attrs["padding"][::2], attrs["padding"][1::2]
    windows = Windows(shape[:-1], kernel[:-2], attrs["strides"], before, after, attrs["dilation"], attrs["stretch"])
    (groups,) = attrs["groups"]
    if len(shape) != len(kernel) - 1 or shape[-1] != kernel[-2] * groups or kernel[-1] % groups:
        raise IRError(f"conv: kernel of shape {kernel} in {groups} groups for a tensor of shape {shape}")
    if min(windows.out) < 1:
        raise IRError(f"conv: a kernel of shape {kernel} does not fit into a tensor of shape {shape}")
    return windows


def grouped(a: Array, groups: int) -> Array:
    """``(..., taps, channels)`` to ``(..., groups, taps * channels of a group)``: the rows of each group's matrix."""
    *lead, taps, channels = a.shape
    split = np.moveaxis(a.reshape(*lead, taps, groups, channels // groups), -2, -3)
    return split.reshape(*lead, groups, taps * (channels // groups))


def grouped_kernel(kernel: Array, groups: int) -> Array:
    """``(*size, channels of a group, filters)`` to ``(groups, taps * channels, filters of a group)``."""
    *size, channels, filters = kernel.shape
    flat = kernel.reshape(math.prod(size) * channels, groups, filters // groups)
    return np.moveaxis(flat, 1, 0)


def _rows(attrs: Attrs, x: Range) -> tuple[Windows, list[Array], Array]:
    """Windows; lo, hi, frac of what each position reads, by group; the kind of each position.

    The bounds are those of one position of each kind.
    """
    windows = conv_windows(attrs, x.shape)
    (groups,) = attrs["groups"]
    parts = [grouped(windows.gather(a, 0), groups) for a in (x.lo, x.hi, x.frac)]
    # Positions that read the same ranges give the same ranges: with types per channel that is almost all of them.
    seen: dict[tuple, int] = {}
    flat = [p.reshape(windows.positions, -1).tolist() for p in parts]
    kind = np.array([seen.setdefault(tuple(map(tuple, row)), len(seen)) for row in zip(*flat, strict=True)])
    _, first = np.unique(kind, return_index=True)
    return windows, [p[first] for p in parts], kind


def _conv_infer(attrs: Attrs, x: Range) -> Range:
    windows, (lo_in, hi_in, frac_in), kind = _rows(attrs, x)
    (groups,) = attrs["groups"]
    kernel, kfrac = (grouped_kernel(a, groups) for a in constant(attrs, "kernel"))
    filters = attrs["kernel"].shape[-1]
    bias, bfrac = constant(attrs, "bias") if "bias" in attrs else (np.zeros(filters, object), np.zeros(filters, int))
    bias, bfrac = bias.reshape(groups, -1), np.asarray(bfrac).reshape(groups, -1)
    nowhere = np.iinfo(np.int64).min
    los, his, fracs = [], [], []
    for lo, hi, frac in zip(lo_in, hi_in, frac_in, strict=True):
        live = (kernel != 0) & ~((lo == 0) & (hi == 0)).astype(bool)[..., None]
        products = np.where(live, frac[..., None] + kfrac, nowhere)
        out = np.maximum(products.max(axis=1, initial=nowhere), np.where(bias != 0, bfrac, nowhere))
        out = np.where(out == nowhere, 0, out)
        w = np.where(live, kernel, 0) << as_objects(np.where(live, out[:, None] - products, 0))
        up, down = np.where(w > 0, w, 0), np.where(w < 0, w, 0)
        b = bias << as_objects(np.where(bias != 0, out - bfrac, 0))
        los.append(((up * lo[..., None] + down * hi[..., None]).sum(axis=1) + b).ravel())
        his.append(((up * hi[..., None] + down * lo[..., None]).sum(axis=1) + b).ravel())
        fracs.append(out.ravel())
    shape = (*windows.out, filters)
    parts = ((los, object), (his, object), (fracs, np.int64))
    return Range(*(np.array(part, dtype)[kind].reshape(shape) for part, dtype in parts))


def _conv_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    (source,) = ins
    windows = conv_windows(attrs, source.shape)
    (groups,) = attrs["groups"]
    kernel, kfrac = (grouped_kernel(a, groups) for a in constant(attrs, "kernel"))
    used = kernel != 0
    xfrac = int(source.frac.max(initial=0))  # one grid for all inputs, one for the kernel
    wfrac = int(kfrac[used].max(initial=0))
    w = kernel << as_objects(np.where(used, wfrac - kfrac, 0))
    up = np.where(source.zero, 0, xfrac - source.frac)
    # The largest magnitude of each channel anywhere bounds the sum at every position.
    channels = (source.magnitude << as_objects(up)).reshape(-1, source.shape[-1]).max(axis=0)
    taps = windows.index.shape[1]
    bound = (grouped(np.tile(channels, (taps, 1)), groups)[..., None] * abs(w)).sum(axis=1)
    bits = int(max((int(v).bit_length() for v in bound.ravel()), default=0))
    small = source.bits + int(np.max(up, initial=0)) <= 62
    # Below 2**53 every partial sum is exact in float64, whose matrix product is fast.
    dtype = np.float64 if bits <= 53 and small else np.int64 if bits <= 62 and small else object
    w = w.astype(dtype)
    drop = np.where(out.zero, 0, out.frac - (xfrac + wfrac))
    bias, bfrac = constant(attrs, "bias") if "bias" in attrs else (np.zeros(out.shape[-1], object), 0)
    added = (bias != 0) & ~out.zero
    b = np.where(added, bias, 0) << as_objects(np.where(added, out.frac - bfrac, 0))
    each = max(1, CHUNK // (windows.positions * taps * source.shape[-1]))
    parts = []
    for start in range(0, max(len(x), 1), each):
        m = x[start : start + each]
        m = shift(m.astype(np.int64) if small else as_objects(m), up).astype(dtype)
        rows = np.moveaxis(grouped(windows.gather(m, 0), groups), 2, 0)  # (groups, samples, positions, inputs)
        y = (rows.reshape(groups, -1, rows.shape[-1]) @ w).reshape(groups, len(m), windows.positions, -1)
        y = np.moveaxis(y, 0, 2).reshape(len(m), *out.shape)
        # The common grid is at least as fine as each output's own, and the surplus bits are zeros.
        if bits <= 62 and out.bits <= 62:
            parts.append(shift(y.astype(np.int64), drop) + b.astype(np.int64))
        else:
            parts.append(shift(as_objects(y if dtype is object else y.astype(np.int64)), drop) + b)
    return narrow(np.where(out.zero, 0, np.concatenate(parts)), out)


CONV = OpDef(
    ("kernel", "kernel_types", "bias", "bias_types", "strides", "padding", "dilation", "stretch", "groups"),
    _conv_infer,
    _conv_evaluate,
    optional=("bias", "bias_types"),
)
