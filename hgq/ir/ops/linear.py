"""Matrix products with constants, and constant scales."""

from __future__ import annotations

import numpy as np

from hgq.errors import IRError
from hgq.fixed import as_objects, shift
from hgq.ir.ops.record import Array, Attrs, OpDef, constant, narrow
from hgq.ir.range import Range


def _dense_terms(attrs: Attrs, x: Range) -> tuple[Array, Array, Array]:
    """Kernel mantissas and fracs without dead inputs, and the frac of each product's LSB where it is not 0."""
    kernel, frac = constant(attrs, "kernel")
    if x.shape[-1:] != kernel.shape[:1]:
        raise IRError(f"dense: kernel of shape {kernel.shape} for a tensor of shape {x.shape}")
    return kernel, frac, kernel != 0


def _dense_infer(attrs: Attrs, x: Range) -> Range:
    kernel, kfrac, used = _dense_terms(attrs, x)
    rows_lo, rows_hi = x.lo.reshape(-1, x.shape[-1]), x.hi.reshape(-1, x.shape[-1])
    rows_frac, rows_zero = x.frac.reshape(-1, x.shape[-1]), x.zero.reshape(-1, x.shape[-1])
    bias, bfrac = constant(attrs, "bias") if "bias" in attrs else (np.zeros(kernel.shape[1:], object), 0)
    lo, hi, frac = [], [], []
    nowhere = np.iinfo(np.int64).min
    for row_lo, row_hi, row_frac, row_zero in zip(rows_lo, rows_hi, rows_frac, rows_zero, strict=True):
        live = used & ~row_zero[:, None]
        products = np.where(live, row_frac[:, None] + kfrac, nowhere)
        out = np.maximum(products.max(axis=0, initial=nowhere), np.where(bias != 0, bfrac, nowhere))
        out = np.where(out == nowhere, 0, out)
        w = np.where(live, kernel, 0) << as_objects(np.where(live, out - products, 0))
        up, down = np.where(w > 0, w, 0), np.where(w < 0, w, 0)
        b = bias << as_objects(np.where(bias != 0, out - bfrac, 0))
        lo.append((up * row_lo[:, None] + down * row_hi[:, None]).sum(axis=0) + b)
        hi.append((up * row_hi[:, None] + down * row_lo[:, None]).sum(axis=0) + b)
        frac.append(out)
    shape = (*x.shape[:-1], kernel.shape[1])
    return Range(*(np.array(part, dtype).reshape(shape) for part, dtype in ((lo, object), (hi, object), (frac, int))))


def _dense_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    (source,) = ins
    kernel, kfrac, used = _dense_terms(attrs, source)
    xfrac = int(source.frac.max(initial=0))  # one grid for all inputs, one for the kernel
    wfrac = int(kfrac[used].max(initial=0))
    w = kernel << as_objects(np.where(used, wfrac - kfrac, 0))
    up = np.where(source.zero, 0, xfrac - source.frac)
    bound = (source.magnitude << as_objects(up)) @ abs(w)
    bits = int(max((int(v).bit_length() for v in bound.ravel()), default=0))
    ups = int(np.max(up, initial=0))
    if bits <= 53 and source.bits + ups <= 62:
        # Every partial sum is an integer below 2**53: float64 is exact and its matrix product is fast.
        y = (shift(x.astype(np.int64), up).astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
    elif bits <= 62:
        y = shift(x.astype(np.int64), up) @ w.astype(np.int64)
    else:
        y = shift(as_objects(x), up) @ w
    # The common grid is at least as fine as each output's own, and the surplus bits are zeros.
    y = (
        shift(y, np.where(out.zero, 0, out.frac - (xfrac + wfrac)))
        if bits <= 62 and out.bits <= 62
        else shift(as_objects(y), np.where(out.zero, 0, out.frac - (xfrac + wfrac)))
    )
    if "bias" in attrs:
        bias, bfrac = constant(attrs, "bias")
        added = (bias != 0) & ~out.zero  # what a bias makes 0 stands on no grid
        b = np.where(added, bias, 0) << as_objects(np.where(added, out.frac - bfrac, 0))
        y = as_objects(y) + b if out.bits > 62 else y + b.astype(np.int64)
    return narrow(np.where(out.zero, 0, y), out)


def _affine_infer(attrs: Attrs, x: Range) -> Range:
    scale, sfrac = constant(attrs, "scale")
    offset, ofrac = constant(attrs, "offset")
    scale, sfrac, offset, ofrac = (np.broadcast_to(a, x.shape) for a in (scale, sfrac, offset, ofrac))
    live = (scale != 0) & ~x.zero
    frac = np.maximum(np.where(live, x.frac + sfrac, -(1 << 60)), np.where(offset != 0, ofrac, -(1 << 60)))
    frac = np.where(live | (offset != 0), frac, 0)
    s = scale << as_objects(np.where(live, frac - x.frac - sfrac, 0))
    b = offset << as_objects(np.where(offset != 0, frac - ofrac, 0))
    ends = (s * np.where(live, x.lo, 0) + b, s * np.where(live, x.hi, 0) + b)
    return Range(np.minimum(*ends), np.maximum(*ends), frac)


def _affine_evaluate(attrs: Attrs, out: Range, ins: tuple[Range], x: Array) -> Array:
    scale, sfrac = constant(attrs, "scale")
    offset, ofrac = constant(attrs, "offset")
    live, added = (scale != 0) & ~ins[0].zero & ~out.zero, (offset != 0) & ~out.zero
    s = scale << as_objects(np.where(live, out.frac - ins[0].frac - sfrac, 0))
    b = np.where(added, offset, 0) << as_objects(np.where(added, out.frac - ofrac, 0))
    return narrow(np.where(live, as_objects(x), 0) * s + b, out)


DENSE = OpDef(
    ("kernel", "kernel_types", "bias", "bias_types"), _dense_infer, _dense_evaluate, optional=("bias", "bias_types")
)
AFFINE = OpDef(("scale", "scale_types", "offset", "offset_types"), _affine_infer, _affine_evaluate)
