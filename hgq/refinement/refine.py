"""`refine`: a trained model in, a model with fewer LUTs at equal or better loss out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hgq.data import tensors
from hgq.errors import HGQError, IRError
from hgq.fixed import decode, encode
from hgq.frontend.model import functional_of, input_shapes
from hgq.ir.evaluate import evaluate
from hgq.refinement.descent import Goal, Parts, Search, State, descend, kinds_of
from hgq.refinement.native import Evaluator
from hgq.refinement.network import Network, build_network, rows_of, size_of
from hgq.refinement.owners import Owners, find_owners
from hgq.refinement.targets import Target, make_targets
from hgq.refinement.tuning import tuned
from hgq.refinement.writing import write_back
from hgq.resource import model_luts, priced_layers
from hgq.training.copy import copy_model

MEMORY = 1_500_000_000
"""Bytes that the values of all elements for all samples may take."""
PREDICTED = 2048
"""Samples that Keras predicts at once."""
LEAST = 300
"""Samples, below which nothing can be held out."""
FEWEST = 30
"""Samples in each part: the mean loss of fewer says nothing, of none that every change pays."""


@dataclass(frozen=True)
class Refined:
    """What `refine` found.

    model: a new Keras model, not compiled, that computes exactly what was evaluated.
    luts: `hgq.resource.model_luts` before and after. cost: those that moves can change, as `trail` has them.
    losses: mean loss before and after of the samples that chose moves, of those that accepted them, and of those that
        did neither. keras_losses: the last ones by Keras' own predictions and loss. guessed: what they would be by one
        answer for all samples.
    loss: what was kept low, by output. tried, kept: moves by kind. trail: (LUTs, unseen loss) after each sweep.
    left: layers without a move, and why.
    """

    model: keras.Model
    luts: tuple[int, int]
    cost: tuple[float, float]
    losses: tuple[tuple[float, float, float], tuple[float, float, float]]
    keras_losses: tuple[float, ...]
    guessed: float
    loss: Mapping[str, str]
    tried: Mapping[str, int]
    kept: Mapping[str, int]
    trail: list[tuple[float, float]]
    left: Mapping[str, str]
    lam: float
    samples: Parts
    seconds: float
    interrupted: bool

    def __str__(self) -> str:
        (before, after), ((_, _, old), (_, _, new)) = self.luts, self.losses
        moves = ", ".join(f"{self.kept.get(kind, 0)} of {n} {kind}" for kind, n in self.tried.items())
        lines = [
            f"{before:,} -> {after:,} LUTs (estimate, {100 * (after / max(before, 1) - 1):+.1f} %), unseen loss "
            f"{old:.5f} -> {new:.5f}, by Keras {self.keras_losses[0]:.5f} -> {self.keras_losses[1]:.5f}",
            f"moves kept: {moves or 'none'}; lam {self.lam:.3g}; {self.seconds:.1f} s",
            f"samples: {self.samples.refine:,} chose moves, {self.samples.held_out:,} accepted them, "
            f"{self.samples.monitor:,} said when to stop",
        ]
        lines.insert(1, "kept low: " + ", ".join(f"{loss} of '{name}'" for name, loss in self.loss.items()))
        if old > self.guessed:
            lines.append(
                f"note: {old:.5f} is no better than one answer for all samples ({self.guessed:.5f}): are these the "
                "labels of these samples, in their order, and is this the loss that the model was trained with?"
            )
        lines += [f"left as it is: {name} ({why})" for name, why in self.left.items()]
        return "\n".join(lines + (["interrupted: the best state until then"] if self.interrupted else []))


def refine(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    lam: float | None = None,
    target_luts: float | None = None,
    max_loss: float | None = None,
    loss: Any = None,
    samples: int = 30_000,
    held_out: float = 0.4,
    accept: bool = True,
    caution: float = 1.0,
    add: bool = True,
    sweeps: int = 4,
    rounds: int = 1,
    epochs: int = 5,
    learning_rate: float = 5e-4,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    verbose: bool = False,
) -> Refined:
    """Coordinate descent on the exact integer network: changes single weights and types where that pays.

    Minimises ``loss + lam * LUTs``. Moves: a weight removed, rounded to a power of two, moved by an lsb, put where
    there was none; a bias moved or shortened; an activation with a bit more or less at either end, or removed. A move
    is kept if it pays on the samples that chose it, by `caution` standard errors, and on disjoint held-out samples too;
    a third part, which decides about no move, says when to stop. Everything is computed on integers: the result is a
    Keras model that gives exactly these outputs.

    Args:
        model: anything that can be converted; it is not changed. Ranges must be known (calibrated or trained).
        x: training inputs: an array; a list, or a dict by the names of the inputs, where there are several.
        y: class numbers, or better a teacher's probabilities (noisy labels are fitted as well); targets for "mse" and
            "mae". None: the model's own outputs, so that it stays what it is with fewer LUTs.
        lam: the loss that a LUT may cost. One of `lam`, `target_luts` and `max_loss`; by default the fewest LUTs whose
            unseen loss is not above that of `model`.
        target_luts: LUTs (`hgq.resource.model_luts`, about) to come down to, at the least loss.
        max_loss: unseen loss to stay below, with the fewest LUTs.
        loss: "crossentropy" (of logits, or of probabilities where the outputs lie in 0..1), "binary_crossentropy",
            "mse" or "mae", for each output where there are several; None takes the one of `compile`, or by the labels
            (0 or 1 for each output: "binary_crossentropy" where the outputs lie in 0..1, else refused).
        samples: how many of `x` are used at most, drawn by `seed`.
        held_out: part of them that chooses no move; half of it accepts, half of it says when to stop.
        accept: False leaves the held-out test of each move out (for experiments).
        caution: standard errors by which a move must pay.
        add: whether weights that are 0 may come back.
        sweeps: how often all moves are tried at one `lam`.
        rounds: refinements; between two of them the weights are trained for `epochs` at frozen widths, by Adam from
            `learning_rate`, on the samples that choose moves.
        progress: called with a line of text now and then. verbose: prints one after each sweep.

    Raises:
        ConversionError: the model cannot be converted.
        ValueError: arguments or data that do not fit.
    """
    started = time.perf_counter()
    goal = _goal(lam, target_luts, max_loss)
    if not 0 < held_out < 1:
        raise ValueError(f"refine: held_out={held_out}; it is a part of the samples, between 0 and 1")
    if rounds < 1 or epochs < 1:
        raise ValueError(f"refine: rounds={rounds}, epochs={epochs}; both are 1 or more")
    if seed < 0:
        raise ValueError(f"refine: seed={seed}; it must be 0 or more")
    twin = copy_model(model)
    owners = find_owners(twin)
    if not owners.constants and not owners.rounders:
        raise HGQError(f"model '{model.name}' has nothing to refine: no layer with a kernel, no quantizer")
    left = _left(twin, owners)
    shapes = input_shapes(model)
    arrays = dict(zip(shapes, tensors(x, shapes, "x"), strict=True))
    count = len(next(iter(arrays.values())))
    chosen, parts = _split(count, samples, held_out, seed, owners)
    arrays = {name: a[chosen] for name, a in arrays.items()}
    targets = make_targets(model, owners.graph, y, loss, _golden(owners, arrays)[1], chosen, count)
    say = print if verbose else (progress or (lambda line: None))
    options = {"add": add, "accept": accept, "caution": caution, "seed": seed, "progress": progress}
    luts = model_luts(twin), 0
    tried: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    trail: list[State] = []
    first: State | None = None
    best: State | None = None
    interrupted = False
    for turn in range(rounds):
        if turn:
            say(f"round {turn + 1}: trains the weights")
            try:
                later = tuned(twin, arrays, targets, parts.refine, epochs, learning_rate, seed + turn)
            except KeyboardInterrupt:
                interrupted = True
                say("interrupted: the best state so far is kept")
                break
            owners = find_owners(later)
        search = _search(owners, arrays, targets, parts, options)
        now = search.state()
        if first is None:
            first = now
            extra = luts[0] - first.cost  # of what has a price but no move: tables, poolings
            if goal == Goal():
                goal = Goal(max_loss=first.unseen)
            elif goal.target_luts is not None:
                goal = Goal(target_luts=goal.target_luts - extra)
        elif best is not None and now.unseen > best.unseen:
            say(f"round {turn + 1}: training lowered no unseen loss ({best.unseen:.5f} -> {now.unseen:.5f})")
            break
        found, passed, price = descend(search, goal, say, sweeps)
        tried, kept, trail = tried + search.tried, kept + search.kept, trail + passed
        if best is None or goal.better(found, best):
            if turn:
                twin = later
            best, best_price = found, price
            write_back(owners, best.values, best.types)
            _check_written(twin, search, arrays)
        if interrupted := search.interrupted:
            break
    assert first is not None and best is not None  # there is a first round
    seen = slice(parts.refine + parts.held_out, None)
    return Refined(
        model=twin,
        luts=(luts[0], model_luts(twin)),
        cost=(first.cost, best.cost),
        losses=(first.losses, best.losses),
        keras_losses=tuple(_keras_loss(one, arrays, targets, seen) for one in (model, twin)),
        guessed=sum(Target(t.loss, t.values[seen]).guessed_loss() for t in targets),
        loss={target.output: target.loss.replace("_", " ") for target in targets},
        tried=kinds_of(tried),
        kept=kinds_of(kept),
        trail=[(state.cost, state.unseen) for state in trail],
        left=left,
        lam=best_price,
        samples=parts,
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
    )


def _search(
    owners: Owners, arrays: dict[str, np.ndarray], targets: list[Target], parts: Parts, options: dict[str, Any]
) -> Search:
    """A search at its start; its evaluator gives what the golden model gives."""
    network = build_network(owners, arrays)
    search = Search(network, _evaluator(network, targets), parts, **options)
    values = search.evaluator.values()
    for name, wanted in _golden(owners, arrays)[0].items():
        if not np.array_equal(network.integers(values, name), wanted):
            raise IRError(f"refinement computes another '{name}' than the golden model")
    return search


def _goal(lam: float | None, target_luts: float | None, max_loss: float | None) -> Goal:
    given = {"lam": lam, "target_luts": target_luts, "max_loss": max_loss}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise ValueError(f"refine: {' and '.join(named)} at once; give one of them")
    for name, value in named.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"refine: {name}={value}; it must be 0 or more")
    return Goal(lam, target_luts, max_loss)


def _split(count: int, samples: int, held_out: float, seed: int, owners: Owners) -> tuple[np.ndarray, Parts]:
    """Which samples are used, in the order of their parts."""
    fit = MEMORY // (8 * size_of(owners.graph))
    used = min(count, samples, fit)
    if used < LEAST:
        why = f"memory for {fit:,}" if fit < min(count, samples) else f"{min(count, samples):,} given"
        raise ValueError(f"refine: {LEAST} samples are the least that can be split ({why})")
    chosen = np.random.default_rng(seed).permutation(count)[:used]
    monitor = int(used * held_out / 2)
    parts = Parts(used - 2 * monitor, monitor, monitor)
    if min(parts.refine, monitor) < FEWEST:
        raise ValueError(
            f"refine: held_out={held_out} of {used:,} samples: {parts.refine:,} would choose changes, {monitor:,} "
            f"accept them and {monitor:,} say when to stop; each takes {FEWEST} or more. Fix: held_out=0.4"
        )
    return chosen, parts


def _golden(owners: Owners, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """What the golden model gives, as integers and as numbers."""
    graph = owners.graph
    ports = {name: graph[name] for name in graph.inputs}
    integers = {
        name: encode(arrays[name], port.attrs["types"], port.attrs["rounding"], port.attrs["overflow"])
        for name, port in ports.items()
    }
    golden = evaluate(graph, integers)
    return golden, [decode(golden[name], graph[name].range.frac) for name in graph.outputs]


def _evaluator(network: Network, targets: list[Target]) -> Evaluator:
    outputs = []
    for name, target in zip(network.owners.graph.outputs, targets, strict=True):
        elements, lsb = rows_of(network.views[name])
        outputs.append((target.loss, elements, lsb, target.values, 1.0))
    return Evaluator(network.arrays, outputs)


def _check_written(twin: keras.Model, search: Search, arrays: dict[str, np.ndarray]) -> None:
    """That the model, read again, is what was evaluated, exactly."""
    owners, values = find_owners(twin), search.evaluator.values()
    names = zip(owners.graph.outputs, search.network.owners.graph.outputs, _golden(owners, arrays)[1], strict=True)
    for name, was, wanted in names:
        view = search.network.views[was]
        if not np.array_equal(decode(values[:, view.element], view.frac), wanted):
            raise IRError(f"the refined model computes another '{name}' than refinement did")


def _keras_loss(model: keras.Model, arrays: dict[str, np.ndarray], targets: list[Target], seen: slice) -> float:
    """The loss of Keras' own predictions for some samples."""
    flat = functional_of(model)
    net = keras.Model(flat.inputs, flat.outputs)  # whose inputs go by their order, where the model's are a dict
    x = [arrays[name][seen] for name in input_shapes(model)]
    parts = []
    for start in range(0, len(x[0]), PREDICTED):
        batch = [keras.ops.convert_to_tensor(one[start : start + PREDICTED]) for one in x]
        made = keras.tree.flatten(net(batch if len(x) > 1 else batch[0], training=False))
        parts.append([np.asarray(keras.ops.convert_to_numpy(one)) for one in made])
    predicted = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return sum(Target(t.loss, t.values[seen]).keras_loss(p) for t, p in zip(targets, predicted, strict=True))


def _left(model: keras.Model, owners: Owners) -> dict[str, str]:
    """Layers in which nothing could be moved."""
    moved = {id(constant.layer) for constant in owners.constants} | {id(one.layer) for one in owners.rounders}
    return {
        layer.name: "no weight or type that may be moved"
        for layer, _ in priced_layers(model)
        if id(layer) not in moved  # not by name, which layers of models in the model may share
    }
