"""An adder graph: what the optimiser returns, checked against its matrix by arithmetic of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hgq.errors import IRError

Add = tuple[int, int, int, int, int, int]
Output = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class AdderGraph:
    """``outputs = inputs @ matrix`` in shifts and adds. References count inputs first, then adds.

    adds: ``(a, b, sa, sb, pa, pb)``: the sum ``pa * (a << sa) + pb * (b << sb)``; pa, pb are +1 or -1, not both -1.
    bounds: exact (lo, hi) of each add for independent inputs in their ranges.
    outputs: ``(reference, shift, sign)``; reference -1 is the constant 0.
    """

    inputs: int
    adds: tuple[Add, ...]
    bounds: tuple[tuple[int, int], ...]
    outputs: tuple[Output, ...]

    def evaluate(self, x: list) -> list:
        """The outputs for `x`: one integer, or one array of Python integers, per input."""
        values = list(x)
        for a, b, sa, sb, pa, pb in self.adds:
            values.append(pa * (values[a] << sa) + pb * (values[b] << sb))
        return [sign * (values[ref] << shift) if ref >= 0 else 0 for ref, shift, sign in self.outputs]

    def depths(self, inputs: list[int] | None = None) -> list[int]:
        """Adder levels up to each value, inputs first; `inputs`: levels at which the inputs are there."""
        depth = list(inputs) if inputs else [0] * self.inputs
        for a, b, *_ in self.adds:
            depth.append(max(depth[a], depth[b]) + 1)
        return depth

    def check(self, matrix: np.ndarray) -> None:
        """Proves that the graph computes ``inputs @ matrix`` (integers, inputs x outputs), whatever the inputs are.

        One evaluation on powers of a base larger than every coefficient spells all coefficients of an output in one
        integer, so that equal integers are equal linear forms.

        Raises:
            IRError: an output differs: a bug in the optimiser.
        """
        largest = [1] * self.inputs
        for a, b, sa, sb, pa, pb in self.adds:
            if (pa, pb) == (-1, -1):
                raise IRError("the adder graph subtracts both operands of an add")
            largest.append((largest[a] << sa) + (largest[b] << sb))
        bound = max([largest[ref] << shift for ref, shift, _ in self.outputs if ref >= 0], default=1)
        bound = max(bound, *(abs(int(c)) for c in matrix.ravel())) if matrix.size else bound
        bits = bound.bit_length() + 2
        got = self.evaluate([1 << bits * i for i in range(self.inputs)])
        for o, value in enumerate(got):
            column = [int(c) for c in matrix[:, o]]
            if value != sum(c << bits * i for i, c in enumerate(column) if c):
                raise IRError(f"the adder graph of output {o} does not compute the coefficients {column[:20]}")
