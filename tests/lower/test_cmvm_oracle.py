"""The core against a plain Python version of its greedy step: both exact, and the core never needs more.

The oracle counts every pattern anew after each node and has no depth limit, no search and no widths in its trees: too
slow to use, short enough to read. The two choose differently among equals, so costs are compared, not graphs.
"""

from __future__ import annotations

import numpy as np
import pytest

from hgq.lower.cmvm import AdderGraph, Objective, Options, native, solve


def weight(c: int) -> int:
    """Number of digits of the shortest signed-digit form."""
    return (abs(c) ^ 3 * abs(c)).bit_count()


def removable(c: int) -> list[int]:
    """The digits +-2**k without which c is one digit shorter."""
    powers = [1 << k for k in range(abs(c).bit_length() + 1)]
    return [d for p in powers for d in (p, -p) if weight(c - d) == weight(c) - 1]


def uses(row: dict[int, int], i: int, j: int, shift: int, sign: int) -> tuple[int, dict[int, int], int]:
    """How often ``x_i + sign * (x_j << shift)`` can be taken from a row; the row after that; the digits taken."""
    row, n, taken = dict(row), 0, 0
    while True:
        for d in removable(row.get(i, 0)):
            e = sign * d * (1 << shift) if shift >= 0 else sign * d // (1 << -shift)
            if shift < 0 and d % (1 << -shift):
                continue
            after = dict(row)
            after[i] = after.get(i, 0) - d
            after[j] = after.get(j, 0) - e
            if sum(map(weight, after.values())) == sum(map(weight, row.values())) - 2:
                row, n, taken = after, n + 1, taken + d
                break
        else:
            return n, row, taken


def oracle(matrix: np.ndarray) -> AdderGraph:
    """Takes the most frequent pattern out of all rows until none occurs twice; then sums what is left in a chain."""
    inputs = len(matrix)
    rows = [{i: int(c) for i, c in enumerate(column) if c} for column in matrix.T]
    adds: list[tuple[int, int, int, int, int, int]] = []
    while True:
        patterns = set()
        for row in rows:
            digits = [(i, d) for i, c in sorted(row.items()) for d in removable(c)]
            for i, d in digits:
                for j, e in digits:
                    if i < j or (i == j and abs(d) < abs(e)):
                        patterns.add((i, j, abs(e).bit_length() - abs(d).bit_length(), 1 if d * e > 0 else -1))
        counts = {p: sum(uses(row, *p)[0] for row in rows) for p in patterns}
        best = max(sorted(counts), key=counts.__getitem__, default=None)
        if best is None or counts[best] < 2:
            break
        i, j, shift, sign = best
        made = inputs + len(adds)
        adds.append((i, j, max(-shift, 0), max(shift, 0), 1, sign))
        for k, row in enumerate(rows):
            n, after, taken = uses(row, *best)
            if n:
                after[made] = taken >> max(-shift, 0)
                rows[k] = {ref: c for ref, c in after.items() if c}
    outputs = []
    for row in rows:
        terms = []
        for ref, c in sorted(row.items()):
            while c:
                d = max(removable(c), key=abs)
                terms.append((ref, abs(d).bit_length() - 1, 1 if d > 0 else -1))
                c -= d
        value = terms[0] if terms else (-1, 0, 1)
        for ref, shift, sign in terms[1:]:
            base = min(value[1], shift)
            adds.append((value[0], ref, value[1] - base, shift - base, 1, sign * value[2]))
            value = (inputs + len(adds) - 1, base, value[2])
        outputs.append(value)
    return AdderGraph(inputs, tuple(adds), (), tuple(outputs))


@pytest.mark.parametrize(("size", "bits"), [(2, 3), (2, 6), (4, 3), (4, 6), (5, 4)])
def test_the_core_needs_no_more_adders_than_the_oracle(size: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = native._settings(Options(effort=2, objective=Objective.ADDERS, extra_depth=3))
    settings.work = settings.ceiling = 1_000_000
    monkeypatch.setattr(native, "_settings", lambda options: settings)
    rng = np.random.default_rng([size, bits])
    totals = [0, 0]
    for _ in range(3):
        matrix = rng.integers(-(1 << bits - 1), 1 << bits - 1, (size, size)).astype(object)
        plain = oracle(matrix)
        plain.check(matrix)
        totals[0] += len(plain.adds)
        totals[1] += len(solve(matrix, [-128] * size, [127] * size).adds)
    assert totals[1] <= totals[0]
