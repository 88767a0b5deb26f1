"""Changes worth trying, and how promising each looks before it is tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hgq.quantizers import FracQuantizer
from hgq.quantizers.base import LARGEST_BITS
from hgq.refinement.native import TYPE
from hgq.refinement.network import Network
from hgq.refinement.owners import Constant
from hgq.resource.luts import signed_digits

KINDS = ("remove weight", "power of two", "weight by an lsb", "fewer digits", "add weight", "bias",
         "activation fraction", "activation range", "remove neuron")  # fmt: skip


@dataclass(frozen=True)
class Move:
    """New values of parameters and new types of groups.

    kind: of `KINDS`. gain: by how much the objective falls, as far as can be told beforehand.
    """

    kind: str
    gain: float
    params: np.ndarray
    values: np.ndarray
    groups: np.ndarray
    types: np.ndarray


_NONE = np.zeros(0, np.int32)
_NO_TYPES = np.zeros(0, TYPE)


class Moves:
    """The moves of a network.

    Args:
        add: whether weights that are 0 may get a value.
    """

    def __init__(self, network: Network, add: bool):
        self.network, self.add = network, add
        a = network.arrays
        params = len(a["value"])
        self.terms = np.bincount(a["param"][a["param"] >= 0], minlength=params)
        self.is_bias = np.zeros(params, bool)
        self.is_bias[a["bias_param"][a["bias_param"] >= 0]] = True
        self.usable = (self.terms > 0) | self.is_bias
        self.finest, self.low, self.high = self._bounds(network.owners.constants)

    def _bounds(self, constants: list[Constant]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fractional bits at most, smallest and largest value of each parameter."""
        size = len(self.network.arrays["value"])
        low, high = np.zeros(size), np.zeros(size)
        for c in constants:
            at = slice(c.first, c.first + c.size)
            if c.own_types:
                most = np.exp2(np.ceil(np.log2(np.abs(c.values).max(initial=0) + 1e-30)) + 1)
                high[at], low[at] = most, 0 if _unsigned(c) else -most
            else:
                types = c.quantizer.types(c.values.shape)
                for bound, end in ((low, types.lo), (high, types.hi)):
                    bound[at] = np.ldexp(end.astype(np.float64), -types.frac).ravel()
                low[at] = np.maximum(low[at], -high[at])
        return self.network.weight_frac, low, high

    def weights(self, slope: np.ndarray, curvature: np.ndarray, lam: float, bits: np.ndarray) -> list[Move]:
        """Of weights and biases, the most promising first.

        Args:
            slope, curvature: of the loss in each parameter.
            bits: of each parameter, LUTs that a digit of it takes.
        """
        value = self.network.arrays["value"]
        index, new, kind = self._values(value, slope, curvature)
        fits = (new != value[index]) & (new >= self.low[index]) & (new <= self.high[index])
        fits &= _on_grid(new, self.finest[index]) & self.usable[index]
        index, new, kind = index[fits], new[fits], kind[fits]
        step = new - value[index]
        digits = _digits(new, self.finest[index]) - _digits(value[index], self.finest[index])
        luts = np.where(self.is_bias[index], 0.0, digits * bits[index])
        first, second = slope[index] * step, 0.5 * curvature[index] * step * step
        # Curvature exaggerates: steps through quantizers are not as bad as their square.
        hopeless = lam * luts + first + 0.25 * second >= 0
        gain = -(lam * luts + first + second)
        order = np.argsort(-gain, kind="stable")
        return [
            Move(KINDS[kind[k]], gain[k], index[k : k + 1].astype(np.int32), new[k : k + 1], _NONE, _NO_TYPES)
            for k in order[~hopeless[order]].tolist()
        ]

    def _values(self, value: np.ndarray, slope: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, ...]:
        """Parameters, other values for them, and the number of the kind of each."""
        live = np.flatnonzero((value != 0) & self.usable)
        w = value[live]
        bias = self.is_bias[live]
        lsb = _lowest(w, self.finest[live])
        fine = np.exp2(-self.finest[live].astype(float))
        below = np.exp2(np.floor(np.log2(np.abs(w))))
        newton = np.where(curvature[live] > 0, slope[live] / np.maximum(curvature[live], 1e-30), 0)
        choices = [(0, np.zeros(len(live))), (1, np.sign(w) * below), (1, np.sign(w) * 2 * below)]
        choices += [(2, w + lsb), (2, w - lsb), (2, w + fine), (2, w - fine), (2, np.round((w - newton) / fine) * fine)]
        choices += [(3, _without_last_digit(w, self.finest[live], sign)) for sign in (1, -1)]
        index = [live] * len(choices)
        new = [values for _, values in choices]
        kind = [np.where(bias, 5, number) for number, _ in choices]
        dead = np.flatnonzero((value == 0) & self.usable & (self.is_bias | self.add) & (slope != 0))
        if len(dead):
            fine = np.exp2(-self.finest[dead].astype(float))
            best = np.where(curvature[dead] > 0, -slope[dead] / np.maximum(curvature[dead], 1e-30), 0)
            near = np.exp2(np.round(np.log2(np.maximum(np.abs(best), 1e-30))))
            for scale in (1.0, 0.5):
                index.append(dead)
                new.append(np.sign(best) * np.maximum(near * scale, fine))
                kind.append(np.where(self.is_bias[dead], 5, 4))
        return np.concatenate(index), np.concatenate(new), np.concatenate(kind)

    def activations(self, types: np.ndarray) -> Iterator[Move]:
        """Of the types of activations as they are now."""
        for group in np.flatnonzero(~self.network.fixed_groups).tolist():
            t = types[group]
            signed, bits, frac = int(t["signed"]), int(t["bits"]), int(t["frac"])
            if not signed + bits:
                continue
            yield self._retyped("remove neuron", group, 0, 0, 0)
            if bits > 1:
                yield self._retyped("activation fraction", group, signed, bits - 1, frac - 1)
                yield self._retyped("activation range", group, signed, bits - 1, frac)
            if bits < LARGEST_BITS - 1:
                if frac < self.network.group_frac[group]:
                    yield self._retyped("activation fraction", group, signed, bits + 1, frac + 1)
                yield self._retyped("activation range", group, signed, bits + 1, frac)

    @staticmethod
    def _retyped(kind: str, group: int, signed: int, bits: int, frac: int) -> Move:
        return Move(kind, 0.0, _NONE, np.zeros(0), np.array([group], np.int32), np.array([(signed, bits, frac)], TYPE))


def _unsigned(constant: Constant) -> bool:
    return not isinstance(constant.quantizer, FracQuantizer) and not constant.quantizer.signed


def _on_grid(values: np.ndarray, frac: np.ndarray) -> np.ndarray:
    m = np.ldexp(values, frac)
    return (m == np.floor(m)) & (np.abs(m) < 2.0**LARGEST_BITS)


def _digits(values: np.ndarray, frac: np.ndarray) -> np.ndarray:
    return signed_digits(np.floor(np.ldexp(values, frac)).astype(np.int64))


def _lowest(values: np.ndarray, frac: np.ndarray) -> np.ndarray:
    """What the lowest set bit of each value is worth."""
    m = np.ldexp(np.abs(values), frac).astype(np.int64)
    return np.ldexp((m & -m).astype(float), -frac)


def _without_last_digit(values: np.ndarray, frac: np.ndarray, sign: int) -> np.ndarray:
    """The values rounded so that the lowest set bit goes, away from zero or towards it."""
    return values + sign * np.sign(values) * _lowest(values, frac)
