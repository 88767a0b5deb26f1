"""Constant matrix products and constant scales."""

from __future__ import annotations

import numpy as np

from hgq.fixed import as_objects
from hgq.ir.graph import Node
from hgq.ir.ops import reduce_constant
from hgq.lower import cmvm
from hgq.lower.rule import Args, Ranges, Refs
from hgq.netlist.module import Builder


def dense(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """``x @ kernel + bias`` along the last axis, row by row."""
    (source,), (x,) = ranges, args
    kernel, kfrac = reduce_constant(node.attrs["kernel"], node.attrs["kernel_types"].frac)
    inputs, outputs = kernel.shape
    bias, bfrac = np.zeros(outputs, object), np.zeros(outputs, np.int64)
    if "bias" in node.attrs:
        bias, bfrac = reduce_constant(node.attrs["bias"], node.attrs["bias_types"].frac)
    frac, xfrac, dead = (a.reshape(-1, a.shape[-1]) for a in (node.range.frac, source.frac, source.zero))
    zero = node.range.zero.reshape(-1, outputs)  # constants that cancel: 0 stands on no grid
    refs: list[int] = []
    for row in range(len(frac)):
        live, added = (kernel != 0) & ~dead[row][:, None] & ~zero[row], (bias != 0) & ~zero[row]
        shift = np.where(live, frac[row] - xfrac[row][:, None] - kfrac, 0)
        matrix = np.where(live, kernel, 0) << as_objects(shift)
        offsets = (np.where(added, bias, 0) << as_objects(np.where(added, frac[row] - bfrac, 0))).tolist()
        label = node.origin if len(frac) == 1 else f"{node.origin}[{row}]"
        refs += cmvm.multiply(
            builder, list(x[row * inputs : (row + 1) * inputs]), matrix, offsets, frac[row].tolist(), label
        )
    return tuple(refs)


def affine(builder: Builder, node: Node, ranges: Ranges, args: Args) -> Refs:
    """``x * scale + offset`` element by element."""
    (source,), (x,) = ranges, args
    scale, sfrac = reduce_constant(node.attrs["scale"], node.attrs["scale_types"].frac)
    offset, ofrac = reduce_constant(node.attrs["offset"], node.attrs["offset_types"].frac)
    parts = [np.broadcast_to(a, node.shape).ravel().tolist() for a in (scale, sfrac, offset, ofrac)]
    frac, xfrac = node.range.frac.ravel().tolist(), source.frac.ravel().tolist()
    dead, zero = source.zero.ravel().tolist(), node.range.zero.ravel().tolist()
    refs: list[int] = []
    for i, (s, sf, o, of) in enumerate(zip(*parts, strict=True)):
        if zero[i]:
            refs.append(builder.const(0))
            continue
        live = s != 0 and not dead[i]
        coefficient = s << frac[i] - xfrac[i] - sf if live else 0
        constant = o << frac[i] - of if o else 0
        matrix = np.array([[coefficient]], object)
        refs += cmvm.multiply(builder, [x[i]], matrix, [constant], [frac[i]], f"{node.origin}[{i}]")
    return tuple(refs)
