"""Tables inside two forms that say the same: shown by themselves, so that both forms can be cut where they are.

A table of a sum of products of tables, as in a recurrent layer: what is made of it has too many values to try.
"""

from __future__ import annotations

import numpy as np

from hgq.verify.proof.aimed import SEED, draws
from hgq.verify.proof.atoms import Form
from hgq.verify.proof.counterexample import evaluate
from hgq.verify.proof.exhaustive import inputs_that_differ
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import inner_atoms
from hgq.verify.proof.rewritten import Rewritten

TRIES = 300
"""Random inputs that decide which tables are worth comparing."""
MOST_TABLES = 40
"""In two forms; of more, none is compared."""


def matched(space: Space, a: Form, b: Form) -> tuple[Form, Form]:
    """The two forms with tables of `a` written as those of `b` that say the same."""
    own, other = (inner_atoms(space, form) for form in (a, b))
    pairs = _composed(space, own - other), _composed(space, other - own)
    if not all(pairs) or sum(map(len, pairs)) > MOST_TABLES:
        return a, b
    rng = np.random.default_rng(SEED)
    leaves = [(n, one.lo, one.hi) for n, one in enumerate(space.atoms) if one.kind == "leaf"]
    known = {n: draws(rng, lo, hi, TRIES) for n, lo, hi in leaves}
    values = {n: evaluate(space, _alone(space, n), known) for group in pairs for n in group}
    written = Rewritten(space)
    for x in pairs[0]:
        for y in pairs[1]:
            for one, as_other in ((x, _as(space, y, values[y], values[x])), (y, _as(space, x, values[x], values[y]))):
                if as_other is not None and inputs_that_differ(space, _alone(space, one), as_other) == {}:
                    written.made[one] = as_other
                    break
            else:
                continue
            break
    return written.form(a), written.form(b)


def _alone(space: Space, atom: int) -> Form:
    return Form(0, {atom: 1}, space.atoms[atom].lo, space.atoms[atom].hi)


def _composed(space: Space, atoms: set[int]) -> list[int]:
    """The tables among atoms that are made of other tables."""
    tables = sorted(atom for atom in atoms if space.atoms[atom].kind == "table")
    inner = {atom: inner_atoms(space, _alone(space, atom)) for atom in tables}
    return [atom for atom in tables if any(n != atom and space.atoms[n].kind == "table" for n in inner[atom])]


def _as(space: Space, atom: int, values: np.ndarray, wanted: np.ndarray) -> Form | None:
    """A form of an atom with the values that are wanted: on a line, or cut to their bits; None if there is none."""
    low, high = int(np.argmin(values)), int(np.argmax(values))
    run, rise = int(values[high] - values[low]), int(wanted[high] - wanted[low])
    if run and rise % run == 0:
        by = rise // run
        form = space.scale(_alone(space, atom), by, int(wanted[low]) - by * int(values[low]))
        if bool((values * by + form.const == wanted).all()):
            return form
    size = 1 << int(wanted.max()).bit_length()
    const = int(wanted[low] - values[low]) % size
    fits = run > 0 and wanted.min() >= 0 and bool(((values + const - wanted) % size == 0).all())
    return space.window(space.scale(_alone(space, atom), 1, const), 0, size.bit_length() - 1) if fits else None
