"""Which elements of a tensor each window of a convolution or pooling reads. Channels last; no batch axis.

One description serves all of them: a transpose convolution is a convolution over an input that is stretched with
zeros, a depthwise one has as many groups as channels, a causal one pads on one side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Windows:
    """Windows of `size` over the spatial axes of a tensor; all tuples have an entry for each spatial axis.

    size: elements along each axis. strides: steps from window to window.
    before, after: zeros put around the input (pooling leaves them out instead).
    dilation: steps from element to element of a window.
    stretch: steps from input to input after ``stretch - 1`` zeros are put between them.
    """

    spatial: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    stretch: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """Positions along each axis."""
        found = []
        for n, k, s, a, b, d, up in zip(
            self.spatial, self.size, self.strides, self.before, self.after, self.dilation, self.stretch, strict=True
        ):
            found.append(((n - 1) * up + 1 + a + b - (k - 1) * d - 1) // s + 1)
        return tuple(found)

    @cached_property
    def index(self) -> np.ndarray:
        """For each position and each element of its window, the spatial index (C order) that it reads, or -1.

        Shape ``(positions, elements of the window)``.
        """
        inside = np.zeros((1, 1), np.int64)
        valid = np.ones((1, 1), bool)
        for axis, n in enumerate(self.spatial):
            at = np.arange(self.out[axis])[:, None] * self.strides[axis] - self.before[axis]
            at = at + np.arange(self.size[axis]) * self.dilation[axis]
            place, rest = np.divmod(at, self.stretch[axis])
            good = (rest == 0) & (at >= 0) & (place < n)
            shape = (inside.shape[0] * at.shape[0], inside.shape[1] * at.shape[1])
            inside = (inside[:, None, :, None] * n + place[None, :, None, :]).reshape(shape)
            valid = (valid[:, None, :, None] & good[None, :, None, :]).reshape(shape)
        return np.where(valid, inside, -1)

    @property
    def positions(self) -> int:
        return math.prod(self.out)

    @property
    def counts(self) -> np.ndarray:
        """How many elements of its window lie inside the input, for each position."""
        return (self.index >= 0).sum(axis=1)

    def gather(self, x: np.ndarray, fill: int) -> np.ndarray:
        """What the windows read of `x`, whose last axes are ``(*spatial, channels)``.

        Shape ``(..., positions, elements of the window, channels)``; `fill` outside.
        """
        lead = x.shape[: x.ndim - len(self.spatial) - 1]
        flat = x.reshape(*lead, math.prod(self.spatial), x.shape[-1])
        picked = flat[..., np.maximum(self.index, 0), :]
        return np.where((self.index >= 0)[..., None], picked, fill)


def same_padding(n: int, size: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after an axis of `n` under Keras' padding="same": the odd one comes after.

    >>> same_padding(28, 3, 1), same_padding(28, 3, 2), same_padding(5, 2, 2)
    ((1, 1), (0, 1), (0, 1))
    """
    whole = max((-(-n // stride) - 1) * stride + (size - 1) * dilation + 1 - n, 0)
    return whole // 2, whole - whole // 2
