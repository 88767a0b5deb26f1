"""Where two engines first differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.fixed import FixedArray


@dataclass(frozen=True, slots=True)
class Difference:
    """The first element that differs. Numbers are integers in LSBs of `type`; `count` differ in all."""

    engine: str
    layer: str
    element: tuple[int, ...]
    sample: int
    expected: object
    got: object
    type: str
    count: int
    total: int

    def __str__(self) -> str:
        index = "".join(f"[{i}]" for i in self.element)
        return (
            f"{self.engine} differs from the golden model at layer '{self.layer}', element {index}, "
            f"sample {self.sample}: expected {self.expected}, got {self.got} (LSBs of {self.type}); "
            f"{self.count} of {self.total} values differ"
        )


def first_difference(
    engine: str, layer: str, types: FixedArray, expected: np.ndarray, got: np.ndarray, samples: np.ndarray | None = None
) -> Difference | None:
    """The first element, by sample and then in C order, in which `got` is not exactly `expected`; None if none.

    Args:
        samples: the numbers to call the rows by; 0, 1, 2 ... by default.
    """
    if got.shape != expected.shape:
        return Difference(engine, layer, (), 0, f"shape {expected.shape}", f"shape {got.shape}", "-", 1, 1)
    wrong = np.asarray(expected != got, bool)
    if not wrong.any():
        return None
    where = tuple(int(n) for n in np.argwhere(wrong)[0])
    element = where[1:]
    t = list(types)[int(np.ravel_multi_index(element, types.shape)) if element else 0]
    sample = where[0] if samples is None else int(samples[where[0]])
    found = got[where]
    return Difference(
        engine,
        layer,
        element,
        sample,
        int(expected[where]),
        found.item() if hasattr(found, "item") else found,
        str(t) if t else "0 bits",
        int(wrong.sum()),
        wrong.size,
    )
