"""Two forms that differ: inputs of the module for which their integers do, and how to say so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hgq.fixed import as_objects
from hgq.verify.proof.aimed import SEED, aimed, draws
from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space

TRIES = 300


def counterexample(space: Space, a: Form, b: Form) -> dict[int, int] | None:
    """A value for each leaf, within its bounds, for which the forms differ; None if none was found."""
    leaves = [(n, atom) for n, atom in enumerate(space.atoms) if atom.kind == "leaf"]
    rng = np.random.default_rng(SEED)
    values: dict[int, np.ndarray] = {}
    difference = space.add(a, b, -1)
    for n, atom in leaves:
        drawn = draws(rng, atom.lo, atom.hi, TRIES)
        ends = [atom.lo if d < 0.5 else atom.hi for d in rng.random(TRIES // 3)]
        slope = difference.terms.get(n, 1)
        first = [atom.lo, atom.hi, *((atom.hi, atom.lo) if slope > 0 else (atom.lo, atom.hi)), max(atom.lo, 0)]
        column = [*first, *ends, *drawn][:TRIES]
        values[n] = as_objects(np.array([min(max(v, atom.lo), atom.hi) for v in column], object))
    found = _first_difference(space, a, b, values)
    if found is None and (more := aimed(space, a, b, lambda known: evaluate(space, b, known))):
        found = _first_difference(space, a, b, more)
    return found


def _first_difference(space: Space, a: Form, b: Form, values: dict[int, np.ndarray]) -> dict[int, int] | None:
    known = dict(values)
    wrong = np.flatnonzero(evaluate(space, a, known) != evaluate(space, b, known))
    return {space.atoms[n].args[0]: int(column[wrong[0]]) for n, column in values.items()} if len(wrong) else None


def evaluate(space: Space, form: Form, known: dict[int, np.ndarray]) -> np.ndarray:
    """The integers of a form; `known` has those of atoms, and is filled up."""
    size = len(next(iter(known.values()))) if known else 1
    total = np.full(size, form.const, object)
    for atom, c in form.terms.items():
        if atom not in known:
            known[atom] = _atom(space, atom, known)
        total = total + known[atom] * c
    return total


def _atom(space: Space, atom: int, known: dict[int, np.ndarray]) -> np.ndarray:
    one = space.atoms[atom]

    def of(number: int) -> np.ndarray:
        return evaluate(space, space.forms[number], known)

    if one.kind == "window":
        number, a, n = one.args
        shifted = of(number) >> a
        return shifted if n is None else shifted % (1 << n)
    if one.kind == "negative":
        return as_objects((of(one.args[0]) < 0).astype(np.int64))
    if one.kind == "limit":
        number, most = one.args
        floor = np.maximum(of(number), 0)
        return floor if most is None else np.minimum(floor, most)
    if one.kind == "largest":
        return np.maximum.reduce([of(number) for number in one.args])
    if one.kind == "choice":
        condition, a, b = (of(number) for number in one.args)
        return np.where(condition == 1, a, b)
    if one.kind == "product":
        result = of_atom(space, one.args[0], known)
        for factor in one.args[1:]:
            result = result * of_atom(space, factor, known)
        return result
    bits, entries = one.args
    index = sum(((of_atom(space, bit, known) != 0).astype(np.int64) << i for i, bit in enumerate(bits)), 0)
    return as_objects(np.array([e or 0 for e in entries], object)[index])


def of_atom(space: Space, atom: int, known: dict[int, np.ndarray]) -> np.ndarray:
    """The integers of an atom."""
    return evaluate(space, Form(0, {atom: 1}, 0, 0), known)


def text(space: Space, form: Form, name: Callable[[int], str], most: int = 6) -> str:
    """A form as people write it; the terms beyond `most` are only counted."""
    parts = [_term(space, atom, c, name) for atom, c in list(form.terms.items())[:most]]
    if len(form.terms) > most:
        parts.append(f"+ {len(form.terms) - most} more terms")
    if form.const or not parts:
        parts.append(f"{'-' if form.const < 0 else '+'} {abs(form.const)}")
    return " ".join(parts).removeprefix("+ ")


def _term(space: Space, atom: int, c: int, name: Callable[[int], str]) -> str:
    return f"{'-' if c < 0 else '+'} {f'{abs(c)} ' if abs(c) != 1 else ''}{_named(space, atom, name)}"


def _named(space: Space, atom: int, name: Callable[[int], str]) -> str:
    one = space.atoms[atom]

    def of(number: int) -> str:
        return text(space, space.forms[number], name, 3)

    if one.kind == "leaf":
        return name(one.args[0])
    if one.kind == "window":
        number, a, n = one.args
        return f"({of(number)})[{'' if n is None else a + n - 1}:{a}]"
    if one.kind == "limit":
        number, most = one.args
        return f"relu({of(number)})" if most is None else f"clamp({of(number)}, 0, {most})"
    if one.kind == "negative":
        return f"({of(one.args[0])} < 0)"
    if one.kind == "largest":
        return f"max({', '.join(of(number) for number in one.args[:3])})"
    if one.kind == "choice":
        return f"({' ? '.join(of(number) for number in one.args)})"
    if one.kind == "product":
        return " * ".join(_named(space, factor, name) for factor in one.args)
    entries = ", ".join(str(e) for e in one.args[1][:6])
    return f"table[{', '.join(_named(space, bit, name) for bit in one.args[0])}]({entries} ...)"
