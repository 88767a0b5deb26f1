"""When each node of a design is computed: as early as the clock allows, then moved so that fewest registers are needed.

The second step is retiming for the fewest registers (Leiserson and Saxe, Algorithmica 1991), with registers counted
once for all readers of a value. The count is an L-natural-convex function of the cycles. From the earliest ones, moving
the set of nodes by one cycle that saves most, again and again, therefore ends at the least count there is (Murota,
Discrete Convex Analysis, chapter 10). Each such set is a minimum cut.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from hgq.passes.flat import END, START, Flat

SLACK = 1e-9
"""ns by which sums of the same delays in another order may differ."""


def earliest(flat: Flat, budget: float, first: int) -> tuple[list[int], float]:
    """The cycle of each node when each starts as soon as its operands are there; and the latest time in a cycle, in ns.

    Args:
        budget: ns of logic that a cycle holds; no node takes longer. first: the cycle of the design's inputs.
    """
    cycle, time, worst = [first] * len(flat.delay), [0.0] * len(flat.delay), 0.0
    for v, takes in enumerate(flat.delay):
        here = cycle[flat.same[v]] + flat.lag[v] if flat.same[v] != v else first
        for p in flat.args[v]:
            here = max(here, cycle[p])
        for p in flat.after[v]:
            here = max(here, cycle[p])
        ready = max((time[p] for p in flat.args[v] if cycle[p] == here), default=0.0)
        if ready + takes > budget + SLACK:
            here, ready = here + 1, 0.0
        cycle[v], time[v] = here, ready + takes
        worst = max(worst, time[v])
    return cycle, worst


def registers(flat: Flat, cycle: list[int], first: int, last: int) -> int:
    """How many register bits a schedule needs between the cycles `first` and `last`."""
    at = {START: first, END: last}
    total = 0
    for driver, bits, readers in flat.nets:
        begin = cycle[driver] if driver >= 0 else at[driver]
        total += bits * max(0, max(cycle[r] if r >= 0 else at[r] for r in readers) - begin)
    return total


def fewest_registers(flat: Flat, cycle: list[int], budget: float, first: int, last: int) -> list[int]:
    """The schedule with the fewest register bits of all that keep the budget and end by `last`.

    Args:
        cycle: the earliest schedule.
    """
    if not flat.nets:  # every output is constant, and more cycles were asked for than that needs
        return cycle
    order = [(p, v, 0) for v in range(len(cycle)) for p in {*flat.args[v], *flat.after[v]}]
    lags = zip(flat.same, flat.lag, strict=True)
    order += [pair for v, (s, lag) in enumerate(lags) if s != v for pair in ((s, v, lag), (v, s, -lag))]
    order += [(u, v, 1) for u, v in apart(flat, budget)]
    tails, heads, least = np.array(order, np.int64).reshape(-1, 3).T
    now = np.array([*cycle, first, last], np.int64)  # END is -2 and START -1, so that they index the last two ...
    now[[START, END]] = first, last
    drivers = np.array([net[0] for net in flat.nets], np.int64)
    bits = np.array([net[1] for net in flat.nets], np.int64)
    sizes = [len(net[2]) for net in flat.nets]
    readers = np.array([r for net in flat.nets for r in net[2]], np.int64)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    gains = np.bincount(drivers[drivers >= 0], bits[drivers >= 0], len(cycle)).astype(np.int64)
    while True:
        latest = np.maximum.reduceat(now[readers], starts)
        at_end = now[readers] == latest[owner]
        tight = now[heads] == now[tails] + least
        fixed = now[:-2] == last
        # Source -> node: bits saved by moving it. Net -> sink: bits lost if one of its last readers moves.
        move = _closure(gains, tails[tight], heads[tight], readers[at_end], owner[at_end], bits, fixed)
        if not move.any():
            return now[:-2].tolist()
        now[:-2][move] += 1


def _closure(
    gains: np.ndarray,
    tails: np.ndarray,
    heads: np.ndarray,
    readers: np.ndarray,
    owner: np.ndarray,
    bits: np.ndarray,
    fixed: np.ndarray,
) -> np.ndarray:
    """The smallest set of nodes that it pays most to move by a cycle.

    With a node in `tails` goes the one in `heads`, and a node in `readers` costs the bits of its net in `owner`.
    """
    nodes, nets = len(gains), len(bits)
    source, sink = nodes + nets, nodes + nets + 1
    infinite = int(min(gains.sum(), bits.sum())) + 1
    real = readers >= 0
    gaining = np.flatnonzero(gains)
    stuck = np.flatnonzero(fixed)
    a = np.concatenate([np.full(len(gaining), source), tails, readers[real], nodes + np.arange(nets), stuck])
    b = np.concatenate([gaining, heads, nodes + owner[real], np.full(nets, sink), np.full(len(stuck), sink)])
    endless = np.full
    c = np.concatenate(
        [
            gains[gaining],
            endless(len(tails), infinite),
            endless(int(real.sum()), infinite),
            bits,
            endless(len(stuck), infinite),
        ]
    )
    graph = csr_matrix((c.astype(np.int32), (a, b)), shape=(sink + 1, sink + 1))
    residual = (graph - maximum_flow(graph, source, sink).flow).tocsr()
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    inside = np.zeros(sink + 1, bool)
    inside[breadth_first_order(residual, source, return_predecessors=False)] = True
    return inside[:nodes]


def apart(flat: Flat, budget: float) -> list[tuple[int, int]]:
    """Pairs of nodes of which the second must be computed in a later cycle: a way between them is too long for one.

    Only pairs from which all others follow, and few that follow from others.
    """
    followers: list[list[int]] = [[] for _ in flat.delay]
    for v, args in enumerate(flat.args):
        for p in args:
            followers[p].append(v)
    tail = flat.delay[:]  # the longest way from a node to any end, itself included
    for v in range(len(tail) - 1, -1, -1):
        tail[v] += max((tail[s] for s in followers[v]), default=0.0)
    limit = budget + SLACK
    # For each node, from where the way to its end fills a cycle only in part, and yet what follows it is too far.
    times: list[dict[int, float]] = []
    left = [len(one) for one in followers]
    far: dict[int, set[int]] = {}
    for v, takes in enumerate(flat.delay):
        here = {v: takes}
        for p in flat.args[v]:
            for u, time in times[p].items():
                if time + takes > here.get(u, 0.0):
                    here[u] = time + takes
            left[p] -= 1
            if not left[p]:
                times[p] = {}
        rest = tail[v] - takes
        for u, time in here.items():
            if time > limit:
                far.setdefault(u, set()).add(v)
        times.append({u: time for u, time in here.items() if limit - rest < time <= limit})
    pairs = []
    for u in sorted(far, reverse=True):
        known = set().union(*(far[s] for s in followers[u] if s in far))
        pairs += [(u, v) for v in sorted(far[u] - known)]
    return pairs
