"""The compiled core (core/*.hpp, C++17) through ctypes; `hgq/native` finds or builds it."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from hgq.errors import IRError
from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.options import Options
from hgq.native import library

MAX_BITS = 56
"""The core works on int64: every sum of |coefficient| * range must fit this many bits, with room for partial sums."""


_STEPS_A_DIGIT = 400_000
"""A matrix of few digits is searched through long before the steps of its effort are used up."""
_LARGE = 260_000
"""Steps for each digit of a matrix of so many that those of its effort are few, at most `_MORE` times as many."""
_MORE = 20


class _Options(ctypes.Structure):
    _fields_ = (
        *(
            (n, ctypes.c_int32)
            for n in ("objective", "starts", "decompositions", "tree_tries", "last_tries", "search", "passes")
        ),
        *((n, ctypes.c_uint64) for n in ("ceiling", "work", "seed")),
        ("limit", ctypes.c_int32),
        ("extra_depth", ctypes.c_int32),
    )


def fits(matrix: np.ndarray, lo: list[int], hi: list[int], depths: list[int]) -> bool:
    """Whether the core's int64 hold everything that can occur."""
    span = [max(abs(a), abs(b), 1) for a, b in zip(lo, hi, strict=True)]
    sums = [sum(abs(int(c)) * s for c, s in zip(column, span, strict=True)) for column in matrix.T]
    wide = max(sums, default=0).bit_length() > MAX_BITS
    return not wide and len(lo) + matrix.shape[1] < 1 << 22 and max(depths, default=0) < 24


def solve(
    matrix: np.ndarray, lo: list[int], hi: list[int], depths: list[int], free: list[bool], options: Options
) -> AdderGraph:
    """The smallest adder graph found for ``inputs @ matrix``; not yet checked against the matrix.

    Args:
        matrix: integers, inputs x outputs, for which `fits` holds.
        lo, hi: range of each input, inclusive.
        depths: adder level at which each input is there.
        free: of each output: whether its negative is as good (because a constant is added to it, say).

    Raises:
        ValueError: the depth limit is below what any graph needs.
        ToolError: the core is not built and there is no compiler.
    """
    inputs, outputs = matrix.shape
    rows = np.ascontiguousarray(matrix.T, np.int64)
    capacity = sum(int(abs(c) ^ (3 * abs(c))).bit_count() for c in map(int, matrix.ravel())) + outputs
    low, high = np.array(lo, np.int64), np.array(hi, np.int64)
    levels, free_array = np.array(depths, np.int32), np.array(free, np.uint8)
    adds, bounds = np.zeros((capacity, 6), np.int32), np.zeros((capacity, 2), np.int64)
    out = np.zeros((outputs, 3), np.int32)
    settings = _settings(options)
    steps = max(settings.work, min(capacity * _LARGE, settings.work * _MORE))
    settings.work = min(steps, capacity * _STEPS_A_DIGIT)
    count = _library().cmvm_solve(
        inputs,
        outputs,
        *_pointers(rows, low, high, levels, free_array),
        ctypes.byref(settings),
        capacity,
        *_pointers(adds, bounds, out),
    )
    if count == -1:
        raise ValueError(f"a depth limit of {options.depth_limit} adder levels is below what this matrix needs")
    if count < 0:
        raise IRError(f"the adder-graph optimiser failed with code {count} on a {inputs}x{outputs} matrix")
    return AdderGraph(
        inputs,
        tuple((a, b, sa, sb, pa, pb) for a, b, sa, sb, pa, pb in adds[:count].tolist()),
        tuple((lo, hi) for lo, hi in bounds[:count].tolist()),
        tuple((ref, shift, sign) for ref, shift, sign in out.tolist()),
    )


def _settings(options: Options) -> _Options:
    """Work is counted in elementary steps of 15 to 50 ns: a limit means the same graph on every machine."""
    searching = options.effort >= 2
    steps = 100_000_000 * 4 ** max(options.effort - 2, 0)
    return _Options(
        objective=int(options.objective),
        starts=8 if searching else 4,
        decompositions=5,
        tree_tries=4,
        last_tries=256 if searching else 16,
        search=1,
        passes=300 if searching else 30,
        ceiling=2 * steps if searching else 24_000_000,
        work=steps if searching else 0,
        seed=options.seed,
        limit=-1 if options.depth_limit is None else options.depth_limit,
        extra_depth=options.extra_depth,
    )


def _pointers(*arrays: np.ndarray) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


@functools.cache
def _library() -> ctypes.CDLL:
    core = library("cmvm")
    core.cmvm_solve.argtypes = [
        *[ctypes.c_int32] * 2,
        *[ctypes.c_void_p] * 5,
        ctypes.POINTER(_Options),
        ctypes.c_int32,
        *[ctypes.c_void_p] * 3,
    ]
    core.cmvm_solve.restype = ctypes.c_int32
    return core
