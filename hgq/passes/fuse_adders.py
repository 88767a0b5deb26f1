"""(a + b) + c  ->  a + b + c in one adder of three operands, on FPGAs that have it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hgq.netlist.cost import Price, absorbed
from hgq.netlist.delays import DEFAULT, DelayModel
from hgq.netlist.module import Module, Node, rebuild

Operands = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Arguments, shifts and signs of an adder."""


def fuse_adders(module: Module, clock_ns: float = inf, model: DelayModel = DEFAULT) -> Module:
    """Dissolves sums into the sums that read them where that saves LUTs; each of these then has three operands.

    A sum is dissolved into all its readers or not at all, and a sum takes in at most one. What that saves is its own
    LUTs less what its readers grow by, whatever else is dissolved; so the best choice is a heaviest set of sums of
    which no two are in each other's way. An adder of three operands is slower than one of two, if faster than two of
    these: what would make the slowest output of the module later, or not fit a clock period, stays as it is.
    """
    fusions = _fusions(module, Price(module), absorbed(module), clock_ns - model.register, model)
    arrival = _Arrival(module, model)
    _, times = arrival({})
    limit = max((times[ref] for ref in _outputs(module)), default=0.0)
    chosen = _choose(module, fusions)
    while late := _late(module, fusions, chosen, limit, arrival):
        near = _around(fusions, late)
        for i in late:
            del fusions[i]
        chosen = _exchanged(fusions, chosen - late, near)
    if not chosen:
        return module
    builder, new = rebuild(module)
    into = _into(fusions, chosen)
    for i, node in enumerate(module.nodes):
        if i in new or i in chosen:
            continue
        if i in into:
            builder.origin = node.origin
            args, shifts, signs = _joined(module, i, into[i])
            new[i] = builder.add3(tuple(new[a] for a in args), shifts, signs, node.frac, (node.lo, node.hi))
        else:
            new[i] = builder.copy(node, tuple(new[arg] for arg in node.args))
    return builder.module({port.name: [new[ref] for ref in port.refs] for port in module.outputs})


def fused_estimate(module: Module) -> tuple[int, int]:
    """LUTs of `module` by hgq/netlist/cost.py: as it is, and with its adders fused, as if time did not matter."""
    price, shared = Price(module), absorbed(module)
    luts = sum(price(i, flat=shared.get(i)) for i in range(len(module.nodes)))
    fusions = _fusions(module, price, shared)
    return luts, luts - sum(fusions[i].saved for i in _choose(module, fusions))


_SAME = 1e-6
"""Times that differ by less, in ns, are equal."""


@dataclass(slots=True)
class _Fusion:
    """A sum that may be dissolved: the sums that read it, the LUTs that this saves, and the sums it excludes."""

    readers: tuple[int, ...]
    saved: int
    excludes: frozenset[int]


def _into(fusions: dict[int, _Fusion], chosen: set[int]) -> dict[int, int]:
    """For each sum that takes another one in, which."""
    return {reader: m for m in chosen for reader in fusions[m].readers}


def _fused(module: Module, reader: int, m: int) -> Node:
    """What `reader` becomes once sum `m` is dissolved in it."""
    return _add3(module.nodes[reader], *_joined(module, reader, m))


def _add3(node: Node, args: tuple[int, ...], shifts: tuple[int, ...], signs: tuple[int, ...]) -> Node:
    """An adder of three operands that computes what `node` does."""
    return Node("add3", args, (*shifts, *signs), node.lo, node.hi)


def _fusions(
    module: Module, price: Price, shared: dict[int, int], limit: float = inf, model: DelayModel = DEFAULT
) -> dict[int, _Fusion]:
    """Every sum that can be dissolved at a gain, into adders that take at most `limit` ns."""
    nodes = module.nodes
    sums = [_is_sum(node) for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    own = [0] * len(nodes)
    for i, node in enumerate(nodes):
        for arg in node.args:
            readers[arg].append(i)
        if sums[i]:
            # A table that shares the LUTs of a sum has to have its own once the sum has three operands.
            guests = sum(price(arg) - shared[arg] for arg in node.args if arg in shared) if shared else 0
            own[i] = price(i) - guests
    for i in _outputs(module):
        sums[i] = False
    slow = [False] * len(nodes)
    if limit < inf:
        slow = [_is_sum(node) and model.delay(module, _add3(node, (), (), ())) > limit for node in nodes]
    saved: dict[int, int] = {}
    for i, found in enumerate(readers):
        if not sums[i] or not found or len(set(found)) < len(found):
            continue
        gain = own[i]
        for r in found:
            if slow[r] or not _is_sum(nodes[r]):
                break
            args, shifts, signs = _joined(module, r, i)
            if 1 not in signs:
                break
            gain += own[r] - price.add3(r, args, shifts, signs)
        else:
            if gain > 0:
                saved[i] = gain
    fusions = {}
    for i, gain in saved.items():
        # Neither what reads it or what it reads, nor what is read together with it, can be dissolved as well.
        near = {*readers[i], *nodes[i].args}
        for r in readers[i]:
            near.update(nodes[r].args)
        fusions[i] = _Fusion(tuple(readers[i]), gain, frozenset(near & saved.keys() - {i}))
    return fusions


def _is_sum(node: Node) -> bool:
    return node.op in ("add", "sub") and not node.constant


def _joined(module: Module, reader: int, m: int) -> Operands:
    """The three operands of `reader` once sum `m` is dissolved in it."""
    inner, outer = module.nodes[m], module.nodes[reader]
    place = outer.args.index(m)
    up, sign = outer.params[place], 1 if place == 0 or outer.op == "add" else -1
    other = 1 if place == 1 or outer.op == "add" else -1
    (a, b), (sa, sb) = inner.args, inner.params
    return (
        (a, b, outer.args[1 - place]),
        (sa + up, sb + up, outer.params[1 - place]),
        (sign, sign if inner.op == "add" else -sign, other),
    )


class _Arrival:
    """When each node is there, in ns after the inputs, and what it waits for."""

    def __init__(self, module: Module, model: DelayModel) -> None:
        self._module, self._model = module, model
        self._args = [node.args for node in module.nodes]
        self._takes = [0.0 if node.constant else model.delay(module, node) for node in module.nodes]
        self._known: dict[tuple[int, int], tuple[tuple[int, ...], float]] = {}

    def __call__(self, into: dict[int, int]) -> tuple[list[tuple[int, ...]], list[float]]:
        """(arguments, times) where sums take in others as `into` says."""
        args, takes = list(self._args), list(self._takes)
        for pair in into.items():
            if pair not in self._known:
                fused = _fused(self._module, *pair)
                self._known[pair] = fused.args, self._model.delay(self._module, fused)
            args[pair[0]], takes[pair[0]] = self._known[pair]
        times: list[float] = []
        for reads, ns in zip(args, takes, strict=True):
            last = 0.0
            for arg in reads:
                if times[arg] > last:
                    last = times[arg]
            times.append(last + ns)
        return args, times


def _outputs(module: Module) -> list[int]:
    return [ref for port in module.outputs for ref in port.refs]


def _late(module: Module, fusions: dict[int, _Fusion], chosen: set[int], limit: float, arrival: _Arrival) -> set[int]:
    """Of each output that `chosen` make later than `limit`, the sum that saves least among those to blame.

    To blame on the slowest way to an output are sums whose reader waits for its other operand.
    """
    into = _into(fusions, chosen)
    args, times = arrival(into)
    found: set[int] = set()
    for i in _outputs(module):
        if times[i] <= limit + _SAME:
            continue
        blamed = []
        while args[i]:
            last = max(args[i], key=lambda arg: times[arg])
            if i in into and last == args[i][2]:
                blamed.append(into[i])
            i = last
        if blamed:  # always, as long as a LUT takes no longer than an adder
            found.add(min(blamed, key=lambda m: (fusions[m].saved, m)))
    return found


def _choose(module: Module, fusions: dict[int, _Fusion]) -> set[int]:
    """A set of sums that do not exclude each other and save much together.

    From two starts: the best there is among sums with one reader, which form trees; and the heaviest first, of all.
    """
    greedy: set[int] = set()
    for i in sorted(fusions, key=lambda i: (-fusions[i].saved, i)):
        if not fusions[i].excludes & greedy:
            greedy.add(i)
    starts = [_exchanged(fusions, start) for start in (_best_of_trees(module, fusions), greedy)]
    return max(starts, key=lambda chosen: sum(fusions[i].saved for i in chosen))


def _exchanged(fusions: dict[int, _Fusion], chosen: set[int], dirty: set[int] | None = None) -> set[int]:
    """`chosen` after exchanges: one sum for all that it excludes, two for one that excludes both.

    Args:
        dirty: where an exchange may be of use; everywhere by default.
    """
    todo = fusions.keys() if dirty is None else dirty
    while todo:
        changed: set[int] = set()
        for i in sorted(todo):
            if i not in fusions:
                continue
            fusion = fusions[i]
            if i in chosen:
                changed |= _two_for_one(fusions, chosen, i)
                continue
            blockers = fusion.excludes & chosen
            if fusion.saved > sum(fusions[other].saved for other in blockers):
                chosen -= blockers
                chosen.add(i)
                changed |= {i, *blockers}
        todo = _around(fusions, changed)
    return chosen


def _around(fusions: dict[int, _Fusion], changed: set[int]) -> set[int]:
    """The sums for which an exchange may be of use now that some came or went: up to two steps away."""
    near = {k for i in changed for k in fusions[i].excludes} | changed
    return {k for i in near if i in fusions for k in fusions[i].excludes} | near


def _best_of_trees(module: Module, fusions: dict[int, _Fusion]) -> set[int]:
    """The best choice among sums with one reader, by dynamic programming from the leaves."""
    inside = {i for i, fusion in fusions.items() if len(fusion.readers) == 1}
    most: dict[int, int] = {}  # saved in the tree below a sum, and by what it takes in
    taken: dict[int, int] = {}

    def below(i: int, but: int = -1) -> int:
        return sum(most[arg] for arg in module.nodes[i].args if arg in inside and arg != but)

    for i, node in enumerate(module.nodes):
        if not _is_sum(node):
            continue
        most[i] = below(i)
        for arg in node.args:
            if arg in inside and (saved := fusions[arg].saved + below(arg) + below(i, but=arg)) > most[i]:
                most[i], taken[i] = saved, arg
    chosen: set[int] = set()
    todo = [i for i in most if i not in inside]
    while todo:
        i = todo.pop()
        parts = list(module.nodes[i].args)
        if i in taken:
            chosen.add(taken[i])
            parts.remove(taken[i])
            parts += module.nodes[taken[i]].args
        todo += [arg for arg in parts if arg in inside]
    return chosen


def _two_for_one(fusions: dict[int, _Fusion], chosen: set[int], i: int) -> set[int]:
    """Exchanges sum `i` for two that only it excludes and that save more; those that came or went."""
    own = fusions[i]
    if len(own.excludes) < 2:
        return set()
    free = [k for k in sorted(own.excludes) if k in fusions and fusions[k].excludes & chosen == {i}]
    for place, k in enumerate(free):
        for other in free[place + 1 :]:
            if other not in fusions[k].excludes and fusions[k].saved + fusions[other].saved > own.saved:
                chosen.discard(i)
                chosen.update((k, other))
                return {i, k, other}
    return set()
