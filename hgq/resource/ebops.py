"""Exact EBOPs (effective bit operations), in integers: the one definition for training, IR and report.

EBOPs of a multiplication by a constant = (bits of the constant's magnitude between its highest and lowest set bit)
x (storage width of the other operand, sign included); of a multiplication of two variables = width x width; of a bias
that is not 0 = its width.
"""

from __future__ import annotations

import numpy as np

from hgq.einsum import Einsum
from hgq.fixed import FixedArray
from hgq.windows import Windows


def span(m: np.ndarray) -> np.ndarray:
    """Bits between the highest and the lowest set bit of ``|m|``, both included; 0 for 0.

    >>> span(np.array([0, 1, 4, -6, 5, 7])).tolist()
    [0, 1, 1, 2, 3, 3]
    """
    m = np.abs(np.asarray(m))
    if m.dtype == object or (m.size and m.max() >= 1 << 53):
        return np.array([_span(int(v)) for v in m.ravel().tolist()], np.int64).reshape(m.shape)
    m = m.astype(np.int64)
    odd = m // np.maximum(m & -m, 1)
    return np.frexp(odd.astype(np.float64))[1].astype(np.int64)  # the exponent of an exact integer is its bit length


def _span(m: int) -> int:
    return m.bit_length() - (m & -m).bit_length() + 1 if m else 0


def matmul_ebops(kernel: np.ndarray, input_widths: np.ndarray) -> int:
    """EBOPs of ``x @ kernel``, fully unrolled: every position of the leading axes of x has its own multipliers.

    Args:
        kernel: mantissas, integers of shape (inputs, outputs). Their LSB does not matter.
        input_widths: width in bits of each element of x, shape (..., inputs), no batch axis.
    """
    kernel, input_widths = np.asarray(kernel), np.asarray(input_widths)
    if kernel.ndim != 2 or input_widths.shape[-1:] != kernel.shape[:1]:
        raise ValueError(f"matmul_ebops: a kernel of shape {kernel.shape} does not fit inputs {input_widths.shape}")
    per_input = span(kernel).sum(axis=1)
    return int((input_widths.astype(np.int64) @ per_input).sum())


def einsum_ebops(einsum: Einsum, left: np.ndarray, right: np.ndarray) -> int:
    """EBOPs of an einsum, fully unrolled: the sum over all its products of the bits of one operand times the other's.

    Args:
        left, right: bits of each element; of a constant the `span` of its mantissas, of a tensor its widths.
    """
    shapes = einsum.shape(einsum.left), einsum.shape(einsum.right)
    if (np.shape(left), np.shape(right)) != shapes:
        raise ValueError(f"einsum_ebops: bits of shapes {np.shape(left)} and {np.shape(right)} for operands {shapes}")
    return int(np.einsum(einsum.products, np.asarray(left, np.int64), np.asarray(right, np.int64)))


def conv_ebops(kernel: np.ndarray, input_widths: np.ndarray, windows: Windows, groups: int = 1) -> int:
    """EBOPs of a convolution, fully unrolled: every position has its own multipliers; those of padding do not exist.

    Args:
        kernel: mantissas, ``(*size, channels of a group, filters)``. Their LSB does not matter.
        input_widths: width in bits of each element of the input, ``(*spatial, channels)``.
    """
    *size, channels, filters = np.shape(kernel)
    taps = int(np.prod(size))
    # Bits of all constants that one input meets at one tap of a window: (taps, groups, channels of a group).
    per_input = span(kernel).reshape(taps, channels, groups, filters // groups).sum(axis=3)
    per_input = np.swapaxes(per_input, 1, 2).reshape(taps, groups * channels)
    return int((windows.gather(np.asarray(input_widths, np.int64), 0) * per_input).sum())


def mean_ebops(constants: np.ndarray, types: FixedArray, windows: Windows) -> int:
    """EBOPs of an average that is no power of two: the sum of each window and channel times its constant.

    Args:
        constants: mantissas, one for each position.
        types: of the elements that are averaged, ``(*spatial, channels)``; the width of a sum follows from them.
    """
    nowhere = -(1 << 40)
    frac = windows.gather(np.where(types.width > 0, types.frac, nowhere), nowhere)
    up = np.where(frac > nowhere, frac.max(axis=1, keepdims=True) - frac, 0).astype(object)
    lo, hi = ((windows.gather(end, 0) << up).sum(axis=1) for end in (types.lo, types.hi))
    return int((span(constants)[:, None] * FixedArray.holding(lo, hi, 0 * lo.astype(np.int64)).width).sum())


def affine_ebops(
    scale: tuple[np.ndarray, FixedArray], offset: tuple[np.ndarray, FixedArray], widths: np.ndarray
) -> int:
    """EBOPs of ``x * scale + offset``, element by element; a scale of 1 or -1 is no multiplication.

    Args:
        scale, offset: integers and their types, of shapes that broadcast to that of x.
        widths: width in bits of each element of x.
    """
    m, types = scale
    one = np.ldexp(np.abs(m).astype(np.float64), -types.frac) == 1
    total = int((np.where(one, 0, span(m)) * widths).sum())
    m, types = offset
    return total + bias_ebops(np.broadcast_to(m, widths.shape), np.broadcast_to(types.width, widths.shape))


def bias_ebops(bias: np.ndarray, widths: np.ndarray, positions: int = 1) -> int:
    """EBOPs of adding a bias at `positions` places: the width of each element that is not 0.

    >>> bias_ebops(np.array([0, 3, -8]), np.array([4, 4, 5]))
    9
    """
    bias, widths = np.asarray(bias), np.asarray(widths, np.int64)
    return positions * int(np.where(bias != 0, widths, 0).sum())


def product_ebops(a: np.ndarray, b: np.ndarray) -> int:
    """EBOPs of the products of two variables: both widths multiplied, element by element."""
    return int((np.asarray(a, np.int64) * np.asarray(b, np.int64)).sum())


def difference_types(a: FixedArray, b: FixedArray) -> FixedArray:
    """The narrowest types of ``x - y`` for all x of type `a` and y of type `b`.

    >>> s4, u2 = FixedArray.parse("[1]{s4f1}"), FixedArray.parse("[1]{u2f0}")
    >>> str(difference_types(s4, u2)), str(difference_types(FixedArray.parse("[1]{0}"), u2))
    ('[1]{s5f1}', '[1]{s3f0}')
    """
    nowhere = -(1 << 40)
    frac = np.maximum(*(np.where(t.width > 0, t.frac, nowhere) for t in (a, b)))
    frac = np.where(frac == nowhere, 0, frac)
    up, down = (np.where(t.width > 0, frac - t.frac, 0).astype(object) for t in (a, b))
    return FixedArray.holding((a.lo << up) - (b.hi << down), (a.hi << up) - (b.lo << down), frac)
