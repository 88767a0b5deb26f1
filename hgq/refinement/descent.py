"""Coordinate descent: tries moves one by one and keeps those that pay, on data that do not choose them as well."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from hgq.refinement.moves import KINDS, Move, Moves
from hgq.refinement.native import Evaluator
from hgq.refinement.network import Network

GRADIENT_SAMPLES = 4096
CHUNK = 256
"""Samples after which a move is given up if it looks bad ..."""
STOP = 2.5
"""... by this many standard errors; one of which more is asked is given up sooner."""
CLEAR, CLEAR_STOP = 3.0, 1.0


@dataclass(frozen=True)
class Parts:
    """Disjoint samples: ``0 .. refine - 1`` choose moves, the next ones accept them, the last ones stop the search."""

    refine: int
    held_out: int
    monitor: int

    @property
    def samples(self) -> int:
        return self.refine + self.held_out + self.monitor


@dataclass
class State:
    """Where the search stands: parameters and types, cost in LUTs, mean loss of each part."""

    values: np.ndarray
    types: np.ndarray
    cost: float
    losses: tuple[float, float, float]

    @property
    def unseen(self) -> float:
        """Mean loss of the samples that choose no move."""
        return self.losses[2]


@dataclass
class Search:
    """A search under way. Nothing in it depends on the clock: same seed, same result.

    accept: whether the held-out part must agree to every move.
    caution: standard errors by which a move that saves LUTs must pay on the samples that choose it; one that only
        lowers the loss needs `CLEAR` times as many, as the best of thousands of tries is lucky.
    """

    network: Network
    evaluator: Evaluator
    parts: Parts
    add: bool = False
    accept: bool = True
    caution: float = 1.0
    seed: int = 0
    progress: Callable[[str], None] | None = None
    interrupted: bool = False
    tried: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.moves = Moves(self.network, self.add)
        self.values = self.network.arrays["value"]
        self.types = self.network.arrays["type"].copy()
        self._random = np.random.default_rng(self.seed)
        a = self.network.arrays
        owned = a["param"] >= 0
        self._owned = a["param"][owned], a["source"][owned]
        self._width = np.array(a["width"], np.float64)
        self._group_of = a["group_of"]

    def state(self) -> State:
        losses, p = self.evaluator.losses(), self.parts
        ends = np.cumsum([p.refine, p.held_out, p.monitor])
        means = [float(part.mean()) if len(part) else 0.0 for part in np.split(losses, ends[:2])]
        return State(self.values.copy(), self.types.copy(), self.evaluator.cost, (means[0], means[1], means[2]))

    def restore(self, state: State) -> None:
        """Goes back to a state."""
        params = np.flatnonzero(self.values != state.values)
        groups = np.flatnonzero(self.types != state.types)
        self.evaluator.revert()  # what an interruption left
        self.evaluator.apply(params, state.values[params], groups, state.types[groups])
        self._take(params, state.values[params], groups, state.types[groups])

    def sweep(self, lam: float, enough: Callable[[float], bool] = lambda cost: False) -> int:
        """Tries every promising move once, until `enough` says so of the cost; returns how many were kept."""
        slope, curvature = self.evaluator.gradient(0, min(self.parts.refine, GRADIENT_SAMPLES), True)
        weights = self.moves.weights(slope, curvature, lam, self._bits())
        kept = 0
        for moves in (weights, self._shuffled(self.moves.activations(self.types))):
            kept += self._try_all(moves, lam, enough)
        return kept

    def _shuffled(self, moves: Iterable[Move]) -> list[Move]:
        listed = list(moves)
        return [listed[k] for k in self._random.permutation(len(listed))]

    def _try_all(self, moves: list[Move], lam: float, enough: Callable[[float], bool]) -> int:
        kept, moved = 0, set()
        for number, move in enumerate(moves):
            key = (*move.params.tolist(), "|", *move.groups.tolist())
            if key in moved:
                continue
            if self.progress and number % 64 == 0:
                self.progress(f"{number} of {len(moves)} moves, {self.evaluator.cost:.0f} LUTs")
            self.tried[move.kind] += 1
            if self._try(move, lam):
                self.kept[move.kind] += 1
                moved.add(key)
                kept += 1
                if enough(self.evaluator.cost):
                    break
        return kept

    def _try(self, move: Move, lam: float) -> bool:
        """Keeps a move if it lowers ``loss + lam * cost`` on both parts."""
        evaluator, p = self.evaluator, self.parts
        luts = evaluator.apply(move.params, move.values, move.groups, move.types)
        saves = luts < 0
        limit, caution = -lam * luts, self.caution * (1.0 if saves else CLEAR)
        mean, error, done = evaluator.evaluate(0, p.refine, limit, CHUNK, STOP if saves else CLEAR_STOP)
        good = done == p.refine and mean + caution * error < limit
        if good and self.accept:
            mean, _, done = evaluator.evaluate(p.refine, p.refine + p.held_out, limit, CHUNK, STOP)
            good = done == p.held_out and mean < limit
        if not good:
            evaluator.revert()
            return False
        self._take(move.params, move.values, move.groups, move.types)
        return True

    def _take(self, params: np.ndarray, values: np.ndarray, groups: np.ndarray, types: np.ndarray) -> None:
        self.evaluator.keep()
        self.values[params] = values
        self.types[groups] = types

    def _bits(self) -> np.ndarray:
        """For each parameter, LUTs of one digit: operand widths, over all its products."""
        width = self._width.copy()
        grouped = self._group_of >= 0
        width[grouped] = (self.types["signed"] + self.types["bits"])[self._group_of[grouped]]
        params, source = self._owned
        used = width[source]
        return np.bincount(params, used, minlength=len(self.values))


def kinds_of(counts: Counter[str]) -> dict[str, int]:
    """Counts in the order of `KINDS`."""
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


@dataclass(frozen=True)
class Goal:
    """What is looked for: one price, or the fewest LUTs under a bound on the loss, or a number of LUTs.

    Exactly one is given. max_loss: mean loss of the monitoring samples.
    """

    lam: float | None = None
    target_luts: float | None = None
    max_loss: float | None = None

    def better(self, one: State, other: State) -> bool:
        """Whether a state is the better result."""
        if self.lam is not None:
            return one.unseen + self.lam * one.cost < other.unseen + self.lam * other.cost
        if self.target_luts is not None:
            reached = one.cost <= self.target_luts, other.cost <= self.target_luts
            return one.unseen < other.unseen if all(reached) else reached > reached[::-1]
        return one.cost < other.cost or (one.cost == other.cost and one.unseen < other.unseen)


SWEEPS = 4
"""At one price at most."""
STEP = 1.6
"""Factor from one price to the next."""
RUNGS = 40
FAILURES = 2
"""How often a price may be too high before the search ends, each time going on in smaller steps."""


def descend(
    search: Search, goal: Goal, say: Callable[[str], None], sweeps: int = SWEEPS
) -> tuple[State, list[State], float]:
    """Works towards the goal; returns the best state, all states between sweeps, and the price of the best one.

    Ctrl-C ends the search with the best state so far.
    """
    first = search.state()
    trail, best, price = [first], first, 0.0
    wanted, most = goal.target_luts, math.inf if goal.max_loss is None else goal.max_loss
    try:
        if goal.lam is not None:
            price = goal.lam
            for _ in range(sweeps):
                kept = search.sweep(goal.lam)
                now = search.state()
                trail.append(now)
                say(_line(now, goal.lam))
                if not goal.better(now, best):
                    break  # samples that choose nothing see no gain any more
                best = now
                if not kept:
                    break
        else:
            lam, failures = 0.02 * max(first.unseen, 1e-3) / max(first.cost, 1.0), 0
            step = STEP
            for _ in range(RUNGS):
                search.sweep(lam, lambda cost: wanted is not None and cost <= wanted)
                now = search.state()
                trail.append(now)
                say(_line(now, lam))
                if wanted is not None:
                    best, price = now, lam
                    if now.cost <= wanted:
                        break
                elif now.unseen <= most:
                    if goal.better(now, best):
                        best, price = now, lam
                elif failures == FAILURES:
                    break
                else:  # too dear: back, and on in smaller steps
                    failures += 1
                    search.restore(best)
                    lam, step = price or lam / step, step**0.5
                lam *= step
    except KeyboardInterrupt:
        search.interrupted = True
        say("interrupted: the best state so far is kept")
    search.restore(best)
    return best, trail, price


def _line(state: State, lam: float) -> str:
    refine, held_out, monitor = state.losses
    return f"lam {lam:.3g}: {state.cost:.0f} LUTs, loss {refine:.5f}, held out {held_out:.5f}, unseen {monitor:.5f}"
