"""A linear layer while it is decided, weight by weight, whether to round down or up (AdaRound)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import Rounding
from hgq.methods.mrecg.grid import Grid
from hgq.methods.network import kernel_value
from hgq.quantizers.exact import power_of_two, read, to_integer

Tensor = Any

STRETCH = 1.1, -0.1
"""The sigmoid is stretched to these ends and clipped to 0..1, so that it reaches both."""
WARM_UP = 0.2
"""The part of the steps before rounding costs anything."""
SHARPEST, SOFTEST = 20.0, 2.0
"""The exponent of the rounding loss falls linearly from the one to the other."""


def h(v: Tensor) -> Tensor:
    """How far up a weight is rounded, 0 (floor) to 1 (ceiling): ``clip(1.2 sigmoid(v) - 0.1, 0, 1)``."""
    top, bottom = STRETCH
    return ops.clip(ops.sigmoid(v) * (top - bottom) + bottom, 0.0, 1.0)


def inverse_h(part: np.ndarray) -> np.ndarray:
    """The v with h(v) = part, for parts from 0 to 1."""
    top, bottom = STRETCH
    return -np.log((top - bottom) / (part - bottom) - 1)


def rounding_loss(v: Tensor, exponent: Tensor) -> Tensor:
    """``sum(1 - |2 h(v) - 1|^exponent)``: 0 where every weight has decided."""
    return ops.sum(1.0 - ops.power(ops.abs(2.0 * h(v) - 1.0), exponent))


@dataclass(frozen=True)
class Learning:
    """How a layer learns.

    steps, rate: of the optimiser; Adam moves a variable by about `rate` in a step.
    round_weight: of the rounding loss.
    travel: by how many powers of two the step of the input can move at most; 0: fixed.
    powers: whether that step stays a power of two; it is then found in the first half, and kept.
    """

    steps: int
    rate: float
    round_weight: float
    travel: float
    powers: bool


class Rounded(keras.layers.Layer):
    """``y = linear(q(x), w)`` with ``w = step * clip(floor(W / step) + h(V), lo, hi)``; V >= 0 rounds up at inference.

    The input is quantised to ``s * clip(round(x / s), lo, hi)``; log2 of s is learned straight through the rounding,
    and each element is left as it is with probability `drop` (QDrop). Until it is trained, inference rounds each
    weight to the nearest. All that `begin` sets are variables, so that what was compiled serves again.

    Args:
        layer: the float layer; it is only read.
        weights, given: grids of the kernel and of the input.
    """

    def __init__(self, layer: Any, weights: Grid, given: Grid, learning: Learning, **kwargs: Any):
        super().__init__(name=layer.name, **kwargs)
        # In closures, so that Keras does not take the float weights for variables of this layer.
        self._linear = lambda x, kernel: linear(layer, x, kernel)
        self._float_kernel = lambda: kernel_value(layer).astype(np.float64)
        self.weights_grid, self.given_grid, self.learning = weights, given, learning
        self._random = keras.random.SeedGenerator(0)

    def build(self, _shape: Any) -> None:
        shape = self._float_kernel().shape
        self.v = self.add_weight(shape, "zeros", name="v")
        self.moved = self.add_weight((), "zeros", trainable=self.learning.travel > 0, name="moved")
        fixed = {"step": (), "steps": (), "drop": (), "floor": shape}
        fixed |= {f"weights_{part}": array.shape for part, array in vars(self.weights_grid).items()}
        fixed |= {f"given_{part}": array.shape for part, array in vars(self.given_grid).items()}
        self.fixed = {n: self.add_weight(shape, "zeros", trainable=False, name=n) for n, shape in fixed.items()}
        self.begin(self.weights_grid, self.given_grid, 0.0, 0)

    def begin(self, weights: Grid, given: Grid, drop: float, seed: int) -> None:
        """Starts anew, from the float kernel as it is now; the grids have the shapes of those given before."""
        self.weights_grid, self.given_grid = weights, given
        scaled = self._float_kernel() / weights.step
        self._floor = np.floor(scaled)
        self.v.assign(inverse_h(scaled - self._floor))
        self.moved.assign(0.0)
        values = {"step": 0.0, "steps": self.learning.steps, "drop": drop, "floor": self._floor}
        values |= {f"weights_{part}": array for part, array in vars(weights).items()}
        values |= {f"given_{part}": array for part, array in vars(given).items()}
        for name, value in values.items():
            self.fixed[name].assign(value)
        self._random.state.assign(np.array([seed, 0]))

    def stretch(self, times: int) -> None:
        """Learns for so many times as many steps, at that part of the rate."""
        self.fixed["steps"].assign(float(times * self.learning.steps))

    def call(self, x: Tensor, training: bool = False, mask: Tensor = None) -> Tensor:  # noqa: ARG002  of a normalisation
        if not training:
            return self._linear(self._quantized(x), self._kernel(ops.cast(read(self.v) >= 0, "float32")))
        progress = read(self.fixed["step"]) / read(self.fixed["steps"])
        self.fixed["step"].assign_add(1.0)
        rest = ops.clip((progress - WARM_UP) / (1 - WARM_UP), 0.0, 1.0)
        price = self.learning.round_weight * ops.cast(progress >= WARM_UP, "float32")
        self.add_loss(price * rounding_loss(read(self.v), SHARPEST + (SOFTEST - SHARPEST) * rest))
        return self._linear(self._learning(x, progress), self._kernel(h(read(self.v))))

    def kernel(self) -> np.ndarray:
        """The kernel as inference has it, exactly (float64)."""
        up = np.asarray(ops.convert_to_numpy(self.v)) >= 0
        grid = self.weights_grid
        return grid.step * np.clip(self._floor + up, grid.lo, grid.hi)

    def given(self) -> Grid:
        """The grid of the input with the step that was learned."""
        moved = float(ops.convert_to_numpy(self.moved)) * self._scale
        exponent = math.floor(moved + 0.5) if self.learning.powers else moved
        return Grid(self.given_grid.step * 2.0**exponent, self.given_grid.lo, self.given_grid.hi)

    @property
    def _scale(self) -> float:
        """Powers of two for one unit of `moved`."""
        return self.learning.travel / (self.learning.rate * self.learning.steps)

    def _grid(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(read(self.fixed[f"{name}_{part}"]) for part in ("step", "lo", "hi"))  # type: ignore[return-value]

    def _kernel(self, up: Tensor) -> Tensor:
        step, lo, hi = self._grid("weights")
        return step * ops.clip(read(self.fixed["floor"]) + up, lo, hi)

    def _quantized(self, x: Tensor) -> Tensor:
        step, lo, hi = self._grid("given")
        step = step * self._factor(read(self.moved))
        return step * ops.clip(to_integer(x / step, Rounding.RND), lo, hi)

    def _learning(self, x: Tensor, progress: Tensor) -> Tensor:
        """As `_quantized`, with gradients, and elements left out of it at random."""
        moved = read(self.moved)
        if self.learning.powers:
            moved = ops.where(progress < 0.5, moved, ops.stop_gradient(moved))
        step, lo, hi = self._grid("given")
        step = step * self._factor(moved)
        m = x / step
        y = step * ops.clip(m + ops.stop_gradient(ops.floor(m + 0.5) - m), lo, hi)
        kept = keras.random.uniform(ops.shape(x), seed=self._random) < read(self.fixed["drop"])
        return ops.where(kept, x, y)

    def _factor(self, moved: Tensor) -> Tensor:
        """What the step of the input is multiplied with; the gradient is that of ``2**(scale * moved)``."""
        if not self.learning.travel:
            return ops.ones(())
        exponent = moved * self._scale
        still = ops.stop_gradient(exponent)
        factor = power_of_two(ops.floor(still + 0.5)) if self.learning.powers else ops.exp(still * math.log(2))
        return factor * ops.exp((exponent - still) * math.log(2))


def linear(layer: Any, x: Tensor, kernel: Tensor) -> Tensor:
    """What `layer` gives with another kernel: its bias and activation included."""
    kind = type(layer).__name__
    if kind == "BatchNormalization":  # one that was not folded: gamma and beta are all of it
        return x * kernel + layer.beta
    if kind == "Dense":
        y = ops.matmul(x, kernel)
    elif kind.startswith("Depthwise"):
        y = ops.depthwise_conv(x, kernel, layer.strides, layer.padding, "channels_last", layer.dilation_rate)
    else:
        padding = layer.padding
        if padding == "causal":
            x = ops.pad(x, [(0, 0), (layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0), (0, 0)])
            padding = "valid"
        y = ops.conv(x, kernel, layer.strides, padding, "channels_last", layer.dilation_rate)
    if layer.bias is not None:
        y = y + layer.bias
    return y if layer.activation is None else layer.activation(y)
