"""Residual expansion: a kernel as a sum of few-bit kernels, each of what the ones before have left over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hgq.fixed import Overflow, Rounding
from hgq.importers.types import Types
from hgq.methods.network import largest_of_rows
from hgq.methods.scale import symmetric

Rows = tuple[int, ...]
"""The axes of a kernel that count outputs, as negative numbers; the paper's rows."""
Operator = Callable[[np.ndarray, int, Rows], tuple[np.ndarray, np.ndarray]]
"""A base quantizer: ``(values, bits, rows) -> (integers, scale of each row)``, both in the rank of the values."""
Score = Callable[[np.ndarray, Rows], np.ndarray]
"""How much a row deserves another order: ``(residual, rows) -> number for each row``, in the rank of the residual."""


@dataclass(frozen=True)
class Order:
    """One kernel of an expansion: ``integers * scale``.

    integers: in the shape of the kernel; 0 in rows that are not taken.
    scale: one for each row, in the rank of the kernel; 0 where the row is not taken or has nothing left.
    taken: the rows that this order refines, boolean in the shape of `scale`.
    """

    integers: np.ndarray
    scale: np.ndarray
    taken: np.ndarray

    @property
    def value(self) -> np.ndarray:
        return self.integers * self.scale


@dataclass(frozen=True)
class Expansion:
    """What `expand` gives: orders 1 to K, whose sum approximates the kernel."""

    orders: tuple[Order, ...]
    rows: Rows
    bits: int

    @property
    def value(self) -> np.ndarray:
        """W^(K), the sum of all orders; float64, exact for scales that are powers of two."""
        return np.sum([order.value for order in self.orders], axis=0)

    def types(self) -> Types:
        """The exact types of W^(K), one for each row: an expansion with power-of-two scales is a longer number.

        Raises:
            ValueError: a scale is no power of two.
        """
        scales = np.stack([order.scale for order in self.orders])
        mantissas, exponents = np.frexp(scales)
        if ((scales > 0) & (mantissas != 0.5)).any():
            raise ValueError("float scales have no fixed-point type: expand with the operator power_of_two")
        finest = np.where(scales > 0, exponents - 1, 1 << 20).min(axis=0)
        live = (scales > 0).any(axis=0)
        frac = np.where(live, -finest, 0).astype(np.int64)
        largest = np.ldexp(largest_of_rows(self.value, self.rows), frac)
        bits = np.frexp(largest)[1].astype(np.int64)  # the exponent of an exact integer is its bit length
        one = (live & (bits > 0)).astype(np.int64)
        return Types(one, one * bits, one * frac, Rounding.RND, Overflow.SAT_SYM)


def power_of_two(values: np.ndarray, bits: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers of `bits` bits, and for each row the smallest power of two at which none of it saturates."""
    types = symmetric(largest_of_rows(values, rows), bits)
    return _integers(values, np.where(types.bits > 0, np.ldexp(1.0, -types.frac), 0.0), bits)


def float_scales(values: np.ndarray, bits: int, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The paper's own operator: lambda = max|row| / (2**(bits-1) - 1). Its scales have no place in fixed point."""
    return _integers(values, largest_of_rows(values, rows) / (2.0 ** (bits - 1) - 1), bits)


def _integers(values: np.ndarray, scale: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    safe = np.where(scale > 0, scale, 1.0)
    most = 2 ** (bits - 1) - 1
    integers = np.clip(np.floor(values / safe + 0.5), -most, most)
    return np.where(scale > 0, integers, 0.0).astype(np.int64), scale


def worst_output(residual: np.ndarray, rows: Rows) -> np.ndarray:
    """The L1 norm of each row: the largest error of that output for inputs within -1..1."""
    axes = tuple(axis for axis in range(residual.ndim) if axis - residual.ndim not in rows)
    return np.abs(residual).sum(axis=axes, keepdims=True) if axes else np.abs(residual)


def expand(
    kernel: np.ndarray,
    bits: int,
    orders: int,
    gamma: float = 1.0,
    *,
    rows: Rows = (-1,),
    operator: Operator = power_of_two,
    score: Score = worst_output,
) -> Expansion:
    """The expansion R(1) = Q(W), R(k) = Q(W - R(1) - ... - R(k-1)) of a kernel, each order with scales of its own.

    With the operators of this file, max|W - W^(K)| of a row that every order takes is at most
    ``max|W row| / (2 (2**(bits-1) - 1))**K`` for float scales, and ``lambda_1 / 2 * 2**(-(bits-1) (K-1))`` for powers
    of two, where lambda_1 is the scale of order 1.

    Args:
        kernel: float values in Keras' layout.
        bits: width of the integers of each order, sign included; 2 or more. 2 is ternary.
        orders: K.
        gamma: part of the rows that orders 2 to K refine, those of largest score (rounded to a whole number of rows);
            the first order takes all. Which norm the paper scores with is not known: reconstructed.
        rows: axes of the kernel that count outputs.
    """
    if orders < 1 or int(orders) != orders:
        raise ValueError(f"orders={orders}; it must be a whole number above 0")
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma={gamma}; it is a part of the rows, from 0 to 1")
    if bits < 2:
        raise ValueError(f"bits={bits}; an order has 2 or more: a sign and a magnitude")
    residual = np.asarray(kernel, np.float64)
    found: list[Order] = []
    for order in range(orders):
        integers, scale = operator(residual, bits, rows)
        taken = np.ones(scale.shape, bool)
        if order:
            points = score(residual, rows)
            taken = _largest(points, round(gamma * points.size))
        found.append(Order(np.where(taken, integers, 0), np.where(taken, scale, 0.0), taken))
        residual = residual - found[-1].value
    return Expansion(tuple(found), rows, bits)


def _largest(points: np.ndarray, count: int) -> np.ndarray:
    """Which are the `count` largest; among equal ones the first."""
    order = np.argsort(-points.ravel(), kind="stable")
    taken = np.zeros(points.size, bool)
    taken[order[:count]] = True
    return taken.reshape(points.shape)
