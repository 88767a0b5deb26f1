"""How a unit is reconstructed: the settings, the mixing of its inputs, and the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.methods.mrecg.layer import Learning
from hgq.methods.mrecg.losses import reconstruction_loss
from hgq.quantizers.exact import read

Tensor = Any

BASES = {"brecq": 0.0, "qdrop": 0.5}
"""Name -> the probability that, while a unit is reconstructed, an element of an input is the float network's."""
CAPACITIES = ("parameters", "losses")
SCALES = ("power", "float")
TRAVEL = {"power": 1.5, "float": 0.5}
"""By how many powers of two the step of an input can move, at most."""


@dataclass(frozen=True)
class Settings:
    """How the reconstruction goes.

    base: "qdrop", or "brecq", which never mixes float values in.
    joined: how many pairs of neighbours are reconstructed together, those whose capacities differ most; 0 is the base
        alone, None a third of all pairs.
    longest: how many units may become one.
    capacity: "parameters" (needs no data), or "losses": those of a reconstruction by the base alone, run first.
    steps, batch, rate: of Adam, for each unit; the paper has 20,000 steps of rate 1e-3. Several units together take as
        many steps as they would alone, at a rate that is lower by as much.
    round_weight: of the rounding loss.
    scales: "power" of two, for hardware; or "float" (and asymmetric) as in the paper, which ends in no hardware.
    """

    base: str = "qdrop"
    joined: int | None = None
    longest: int = 3
    capacity: str = "parameters"
    steps: int = 1000
    batch: int = 32
    rate: float = 1e-2
    round_weight: float = 0.01
    scales: str = "power"
    seed: int = 0

    def __post_init__(self) -> None:
        choices = (
            ("base", self.base, tuple(BASES)),
            ("capacity", self.capacity, CAPACITIES),
            ("scales", self.scales, SCALES),
        )
        for name, value, allowed in choices:
            if value not in allowed:
                raise ValueError(f"{name}={value!r}; choose one of {', '.join(allowed)}")
        for name, number, least in (("steps", self.steps, 1), ("batch", self.batch, 1), ("longest", self.longest, 1)):
            if number < least:
                raise ValueError(f"{name}={number}; it must be {least} or more")
        if self.joined is not None and self.joined < 0:
            raise ValueError(f"joined={self.joined}; it must be 0 or more, or None")


def learning(settings: Settings, scale: bool) -> Learning:
    """The same as a layer sees it; `scale`: whether the step of its input is learned."""
    return Learning(
        settings.steps,
        settings.rate,
        settings.round_weight,
        TRAVEL[settings.scales] if scale else 0.0,
        settings.scales == "power",
    )


class Fit:
    """A unit that can be fitted, and again after its layers began anew: it is compiled once."""

    def __init__(self, unit: keras.Model, settings: Settings):
        inputs = [keras.Input(unit.input_shape[1:]), keras.Input(unit.input_shape[1:])]
        self._mixed = Mixed()
        self._model = keras.Model(inputs, unit(self._mixed(inputs)))
        self._model.compile(keras.optimizers.Adam(settings.rate), reconstruction_loss)

    def __call__(
        self, given: np.ndarray, exact: np.ndarray, wanted: np.ndarray, settings: Settings, seed: int, units: int
    ) -> None:
        """Fits rounding and scales, so that the unit makes `wanted` of `given`.

        Args:
            given, exact: its inputs as the quantised network before it gives them, and as the float one does.
            wanted: the outputs of the float unit for `exact`.
            units: how many are fitted together; their layers are stretched by as much.
        """
        self._mixed.begin(BASES[settings.base], seed)
        for variable in self._model.optimizer.variables:
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        self._model.optimizer.learning_rate = settings.rate / units
        batches = _Batches(given, exact, wanted, (units * settings.steps, settings.batch), seed)
        self._model.fit(batches, epochs=1, shuffle=False, verbose=0)


class Mixed(keras.layers.Layer):
    """Each element of the second input with probability `drop`, else of the first; at inference the first."""

    def __init__(self) -> None:
        super().__init__()
        self._random = keras.random.SeedGenerator(0)
        self.drop = self.add_weight((), "zeros", trainable=False, name="drop")

    def begin(self, drop: float, seed: int) -> None:
        """Sets the probability, and where the random numbers start."""
        self.drop.assign(drop)
        self._random.state.assign(np.array([seed, 1]))

    def call(self, pair: list[Tensor], training: bool = False) -> Tensor:
        given, exact = pair
        if not training:
            return given
        return ops.where(keras.random.uniform(ops.shape(given), seed=self._random) < read(self.drop), exact, given)


class _Batches(keras.utils.PyDataset):
    """As many random batches as there are steps: one epoch, so that nothing starts anew in between."""

    def __init__(self, given: np.ndarray, exact: np.ndarray, wanted: np.ndarray, shape: tuple[int, int], seed: int):
        super().__init__()
        self._arrays = given, exact, wanted
        random = np.random.default_rng(seed)
        epochs = -(-shape[0] * shape[1] // len(given))
        order = np.concatenate([random.permutation(len(given)) for _ in range(epochs)])
        self._order = order[: shape[0] * shape[1]].reshape(shape)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> tuple:
        given, exact, wanted = (array[self._order[step]] for array in self._arrays)
        return (given, exact), wanted
