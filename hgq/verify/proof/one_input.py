"""What reads one input of few values: that input, and what it is for each value."""

from __future__ import annotations

import numpy as np

from hgq.verify.proof.atoms import Form
from hgq.verify.proof.forms import Space
from hgq.verify.proof.inside import parts
from hgq.verify.proof.trial import Trial

MOST_VALUES = 1 << 12
"""Of an input that is tried."""


class OneInput:
    """The atoms of a space that read one leaf of at most `MOST_VALUES` values, and their values."""

    def __init__(self, space: Space):
        self.space = space
        self._leaf: dict[int, int | None] = {}
        self._trials: dict[int, Trial] = {}

    def of(self, atom: int) -> int | None:
        """The leaf that an atom reads, if it is one alone and has few values."""
        if atom not in self._leaf:
            one = self.space.atoms[atom]
            if one.kind == "leaf":
                found = atom if one.hi - one.lo < MOST_VALUES else None
            else:
                every = {self.of(part) for part in parts(self.space, atom)}
                found = every.pop() if len(every) == 1 else None
            self._leaf[atom] = found
        return self._leaf[atom]

    def values(self, form: Form, leaf: int) -> np.ndarray:
        """The integers of a form that reads this leaf alone, for each value of the leaf from the lowest on.

        Raises:
            TooMany: they are too wide.
        """
        one = self.space.atoms[leaf]
        if leaf not in self._trials:
            self._trials[leaf] = Trial(self.space, {leaf: np.arange(one.lo, one.hi + 1)}, {})
        return np.broadcast_to(self._trials[leaf].form(form), (one.hi - one.lo + 1,))
