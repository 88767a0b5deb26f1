"""Elements that are on no wire: that the IR gives each of them one integer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hgq.errors import VerificationError
from hgq.verify.proof.atoms import Form
from hgq.verify.proof.cones import Cones, Element, Stop
from hgq.verify.proof.counterexample import evaluate
from hgq.verify.proof.expected import Expected
from hgq.verify.proof.forms import Space
from hgq.verify.proof.result import LayerProof


class Constants:
    """What elements without bits are.

    stop: where cones end by now. layer: of a tensor, None for one that no module makes.
    """

    def __init__(self, cones: Cones, stop: Callable[[], Stop], layer: Callable[[str], LayerProof | None]):
        self._cones, self._stop, self._layer = cones, stop, layer
        self._known: dict[Element, int | None] = {}
        self._expected = Expected(Space(), cones, [])

    def of(self, element: Element) -> int | None:
        """The integer that an element without bits always is; None if that is not proven.

        Raises:
            VerificationError: it takes several.
        """
        if element not in self._known:
            self._known[element] = None
            form = self._expected.form(self._cones.cone(element, self._stop()))
            layer = self._layer(element[0])
            if isinstance(form, str):
                reason = f"absent, and {form}"
            elif form.lo == form.hi:
                self._known[element], reason = form.lo, ""
            else:
                reason = "absent, and not proven to be constant"
                values = _two_values(self._expected.space, form)
                if values is not None:
                    raise VerificationError(
                        f"proof: layer '{layer.layer if layer else element[0]}', output {element[1]}: it is absent, as "
                        f"if it were constant, but takes the values {values[0]} and {values[1]}"
                    )
            if layer is not None and reason:
                layer.not_proven(reason)
            elif layer is not None:
                layer.holds()
        return self._known[element]


def _two_values(space: Space, form: Form) -> tuple[int, int] | None:
    """Two integers that a form takes, if trying finds them."""
    rng = np.random.default_rng(1)
    known = {
        n: np.array([a.lo, a.hi, *(int(v) for v in rng.integers(a.lo, a.hi + 1, 200))], object)
        for n, a in enumerate(space.atoms)
        if a.kind == "leaf" and a.hi < 1 << 62
    }
    found = sorted(set(evaluate(space, form, known).tolist()))
    return (found[0], found[-1]) if len(found) > 1 else None
