"""Weights of -mu, 0 and mu: whether the zero exists is decided in training, tensor by tensor."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import FixedArray, Overflow, Rounding
from hgq.quantizers.base import LARGEST_BITS, Between, Quantizer
from hgq.quantizers.exact import Tensor, power_of_two, read, straight_through, sum_to

DEPTHS = ("adaptive", "binary", "ternary")
SCALES = ("fixed", "trained", "float")
_LEAST, _MOST = math.pi / 4, math.atan(1000.0)
"""Bounds of beta: at the lower the wells are as wide as each other, at the upper (pi/2, less what float32 cannot tell
from it) the one at 0 is gone."""


@keras.saving.register_keras_serializable(package="hgq_fpga")
class BinaryTernaryQuantizer(Quantizer):
    """Quantises a kernel to -mu, 0 and mu, and in training lets a regulariser decide whether it keeps the 0.

    Reconstructed from "Adaptive Binary-Ternary Quantization" (Razani et al., arXiv 1909.12205). The regulariser of n
    weights w, in units of mu, with the trained shape beta of the tensor in pi/4 .. pi/2::

        R(u) = min(||u| - 1|**p, tan(beta) |u|**p)           u = w / mu: wells at -1, 0 and 1
        loss += strength * (mean(R(w / mu)) + gamma * cot(beta))

    A narrow well at 0 (beta near pi/2) is expensive while many weights lie in it, which pushes beta down, to ternary;
    gamma pushes it up, to binary::

        dloss/dbeta = strength * (S / cos(beta)**2 - gamma / sin(beta)**2)      S = sum over |u| < t of |u|**p / n

    For p = 1 and r n weights in each unit of u near 0 a tensor becomes ternary if r > 4 gamma, binary if r < gamma.

    Forward, straight through from training to hardware, with t = 1 / (1 + tan(beta)**(1/p)), the edge of the well::

        y = mu * sign(w)  where |w| >= t mu, else 0          sign(0) = 1
        t = 0 once tan(beta) > binary_above: the tensor is binary, and has no 0

    Backward, times the upstream gradient: dy/dbeta = 0, where the scale is trained dy/dlog2(mu) = ln2 y, and dy/dw = 1,
    but 0 where |w| > mu and descent would take it further: nothing changes out there but that the way back gets longer.

    A weight costs 1 bit of magnitude, a 0 none, so that EBOPs-bar is exact for it; in a ternary tensor the cost has the
    gradient sign(w) / mu for |w| < mu, and pulls weights into the well.

    Args:
        depth: "adaptive"; "binary" or "ternary" hold beta at pi/2 or pi/4: the baselines of the paper.
        gamma: what pushes to binary, in the units of R: a normal distribution, mu twice its mean |w|, has r = 0.64.
            Kept in the variable `price`, which may be set during training.
        strength: weight of the regulariser in the loss. At 0.1, wells held the weights of small layers against the task
            (binary MNIST nets lost 2 points); beta, under Adam, moves as fast at any.
        p: 1 or 2.
        rate: how fast an optimiser moves beta, compared with a weight. By default Adam at 1e-3 takes 200 steps from the
            start (half way) to a bound; decided too fast, the first weights decide.
        binary_above: the tan(beta) beyond which there are no zeros any more.
        straight_through: False leaves weights as they are in training; only the regulariser brings them to the wells,
            and inference rounds.
        scale: mu is the power of two nearest to twice the mean of |w| at the start ("fixed"; at the mean itself a small
            MNIST net lost 3 points: weights cannot grow, and outputs stayed small); its exponent is trained as well
            ("trained"; it was seen to dither between two); or mu is any float, trained ("float"), to compare with the
            paper: no hardware has it, and conversion refuses it.
        granularity: what shares one mu: "tensor", or "channel" (each index of the last axis has its own). Beta is
            always one for the tensor.
    """

    def __init__(
        self,
        *,
        depth: str = "adaptive",
        gamma: float = 0.2,
        strength: float = 0.01,
        p: int = 1,
        rate: float = 2.0,
        binary_above: float = 10.0,
        straight_through: bool = True,
        scale: str = "fixed",
        granularity: str = "tensor",
        **kwargs: Any,
    ):
        super().__init__(rounding=Rounding.RND, overflow=Overflow.SAT_SYM, granularity=granularity, **kwargs)
        choices: dict[str, tuple[Any, tuple]] = {
            "depth": (depth, DEPTHS),
            "scale": (scale, SCALES),
            "p": (p, (1, 2)),
            "granularity": (granularity, ("tensor", "channel")),
        }
        for what, (chosen, among) in choices.items():
            if chosen not in among:
                raise ValueError(f"{self}: {what}={chosen!r}; choose one of {', '.join(map(str, among))}")
        for what, value in (("gamma", gamma), ("strength", strength)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{self}: {what}={value}; it must be 0 or more")
        if not 0 < rate < math.inf:
            raise ValueError(f"{self}: rate={rate}; it must be above 0")
        if not 1 < binary_above < 1000:
            raise ValueError(f"{self}: binary_above={binary_above}; it must lie between 1 and 1000")
        self.depth, self.gamma, self.strength, self.p, self.rate = depth, gamma, strength, p, rate
        self.binary_above, self.straight_through, self.scale = binary_above, bool(straight_through), scale

    def build(self, shape: tuple[int | None, ...]) -> None:
        super().build(shape)
        if self._value is None:
            raise ValueError(f"{self}: it quantises weights, not what comes in. Fix: pass it as kernel_quantizer.")
        start = {"adaptive": (_LEAST + math.pi / 2) / 2, "binary": _MOST, "ternary": _LEAST}[self.depth]
        # Divided by the rate, so that any optimiser moves beta by `rate` times what it moves a weight.
        self.shape_ = self.add_weight(
            (),
            keras.initializers.Constant(start / self.rate),
            trainable=self.depth == "adaptive",
            name="beta",
            constraint=Between(_LEAST / self.rate, _MOST / self.rate),
        )
        self.price = self.add_weight((), keras.initializers.Constant(self.gamma), trainable=False, name="gamma")
        self.log2_mu = self.add_weight(
            self.group,
            lambda shape, dtype=None: self._first_log2_mu(),
            trainable=self.scale != "fixed",
            name="log2_mu",
            constraint=Between(-LARGEST_BITS, LARGEST_BITS),
        )

    def _first_log2_mu(self) -> Tensor:
        size = ops.abs(self._value())  # type: ignore[misc]
        axes = [axis for axis, count in enumerate(self.group) if count == 1]
        mean = ops.mean(size, axis=axes, keepdims=True) if axes else size
        exponent = ops.log2(ops.where(mean > 0, 2.0 * mean, ops.ones_like(mean)))
        return exponent if self.scale == "float" else ops.round(exponent)

    def reset_scale(self) -> None:
        """Takes mu from the present weights: after they were loaded from somewhere."""
        self.log2_mu.assign(self._first_log2_mu())

    @property
    def beta(self) -> Tensor:
        """The shape of the regulariser, pi/4 .. pi/2."""
        return read(self.shape_) * self.rate

    @property
    def is_binary(self) -> bool:
        """Whether there are no zeros, by the present beta."""
        return bool(ops.convert_to_numpy(self._binary()) > 0)

    def observe(self, x: Tensor, training: bool) -> None:
        """In training adds the regulariser to the loss; each call of a shared layer does."""
        if training and self.strength > 0:
            u = x / ops.stop_gradient(self._mu())
            price = ops.mean(regulariser(u, self.beta, self.p))
            self.add_loss(self.strength * (price + read(self.price) / ops.tan(self.beta)))

    def quantized(self, x: Tensor, training: bool) -> Tensor:
        if training and not self.straight_through:
            return x
        mu = self._mu()
        return _signs(self.group)(x, read(self.log2_mu), ops.stop_gradient(mu), self._edge(mu))

    def bits(self, sign: bool) -> Tensor:
        """Of each weight: 1 (with its sign 2), or 0. Gradient: see the class."""
        w = self._value()  # type: ignore[misc]
        mu = ops.stop_gradient(self._mu())
        live = ops.cast(ops.abs(ops.stop_gradient(w)) >= self._edge(mu), w.dtype)
        ramp = ops.minimum(ops.abs(w) / mu, 1.0) * (1.0 - self._binary())
        return straight_through(live * (2.0 if sign else 1.0), ramp)

    def digits(self) -> Tensor:
        """One for each weight that is not 0."""
        return self.bits(sign=False)

    def types(self, shape: tuple[int, ...]) -> FixedArray:
        if self.scale == "float":
            raise ValueError(
                f"{self}: scale='float' is for comparison with the paper: no fixed-point number is exactly mu. "
                "Fix: train with scale='fixed' or scale='trained', where mu is a power of two."
            )
        return super().types(shape)

    def memory_bits(self) -> int:
        """What a memory of the weights would take: 1 bit for each in a binary tensor, 2 in a ternary one."""
        count = int(np.prod(self._value().shape, dtype=np.int64))  # type: ignore[misc]
        return count if self.is_binary else 2 * count

    def _mu(self) -> Tensor:
        if self.scale == "float":
            return ops.exp(read(self.log2_mu) * _LN2)
        return power_of_two(ops.round(read(self.log2_mu)))

    def _binary(self) -> Tensor:
        beta = ops.stop_gradient(self.beta)
        return ops.cast(ops.tan(beta) > self.binary_above, beta.dtype)

    def _edge(self, mu: Tensor) -> Tensor:
        """Where the well at 0 ends; 0 if there is none."""
        return ops.stop_gradient(mu * well_edge(self.beta, self.p) * (1.0 - self._binary()))

    def _formats(self) -> tuple[Tensor, Tensor, Tensor]:
        one = ops.ones(self.group)
        return one, one, ops.negative(ops.round(read(self.log2_mu)))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {
            "depth": self.depth,
            "gamma": self.gamma,
            "strength": self.strength,
            "p": self.p,
            "rate": self.rate,
            "binary_above": self.binary_above,
            "straight_through": self.straight_through,
            "scale": self.scale,
        }
        return {name: value for name, value in config.items() if name not in ("rounding", "overflow")}


def regulariser(u: Tensor, beta: Tensor, p: int) -> Tensor:
    """``min(|u + 1|**p, |u - 1|**p, tan(beta) |u|**p)`` of weights in units of mu."""
    size = ops.abs(u)
    outer, inner = ops.abs(size - 1.0), size
    if p == 2:
        outer, inner = ops.square(outer), ops.square(inner)
    return ops.minimum(outer, ops.tan(beta) * inner)


def well_edge(beta: Tensor, p: int) -> Tensor:
    """The |u| at which the wells at 0 and 1 of `regulariser` meet: ``1 / (1 + tan(beta)**(1/p))``."""
    steepness = ops.tan(beta)
    return 1.0 / (1.0 + (ops.sqrt(steepness) if p == 2 else steepness))


def _signs(group: tuple[int, ...]) -> Any:
    """(w, log2 mu, mu, edge of the well) -> quantised w, with the gradients of the class."""

    @ops.custom_gradient
    def signs(w: Tensor, log2_mu: Tensor, mu: Tensor, edge: Tensor) -> Any:
        # Not ops.sign: that of 0 is 0, and a binary weight has none.
        y = ops.where(w < 0, ops.negative(mu), mu) * ops.cast(ops.abs(w) >= edge, w.dtype)

        def gradient(*args: Tensor, upstream: Tensor = None) -> tuple[Tensor, ...]:
            up = args[0] if upstream is None else upstream
            outwards = ops.logical_and(ops.abs(w) > mu, up * w < 0)
            to_w = ops.where(outwards, ops.zeros_like(up), up)
            return to_w, sum_to(up * y, group) * _LN2, ops.zeros_like(mu), ops.zeros_like(edge)

        return y, gradient

    return signs


_LN2 = math.log(2.0)
