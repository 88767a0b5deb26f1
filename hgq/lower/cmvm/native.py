"""The compiled core (core/*.hpp, C++17) through ctypes: found beside this file, or built once into the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import platformdirs

from hgq.errors import IRError, ToolError
from hgq.lower.cmvm import compiler
from hgq.lower.cmvm.graph import AdderGraph
from hgq.lower.cmvm.options import Options

MAX_BITS = 56
"""The core works on int64: every sum of |coefficient| * range must fit this many bits, with room for partial sums."""


_STEPS_A_DIGIT = 400_000
"""A matrix of few digits is searched through long before the steps of its effort are used up."""


class _Options(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int32) for n in ("objective", "starts", "decompositions", "tree_tries", "search", "passes")),
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
    settings.work = min(settings.work, capacity * _STEPS_A_DIGIT)
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
    """Work is counted in elementary steps of some 50 ns: a limit means the same graph on every machine."""
    searching = options.effort >= 2
    steps = 100_000_000 * 4 ** max(options.effort - 2, 0)
    return _Options(
        objective=int(options.objective),
        starts=8 if searching else 4,
        decompositions=5,
        tree_tries=4,
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
    shipped = Path(__file__).parent / compiler.BUILT
    library = ctypes.CDLL(str(shipped if shipped.exists() else _cached()))
    library.cmvm_solve.argtypes = [
        *[ctypes.c_int32] * 2,
        *[ctypes.c_void_p] * 5,
        ctypes.POINTER(_Options),
        ctypes.c_int32,
        *[ctypes.c_void_p] * 3,
    ]
    library.cmvm_solve.restype = ctypes.c_int32
    return library


def _cached() -> Path:
    """The core in the user's cache, named by what it is made from, so that an edited core is never an old one."""
    key = hashlib.sha256(" ".join((*compiler.FLAGS, platform.machine(), *platform.libc_ver())).encode())
    for path in compiler.sources():
        key.update(path.read_bytes())
    folder = Path(os.environ.get("HGQ_CACHE") or platformdirs.user_cache_dir("hgq-fpga"))
    target = folder / "cmvm" / f"{key.hexdigest()[:24]}.so"
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise ToolError(
                f"the adder-graph optimiser must be compiled, and the cache folder {target.parent} cannot be written: "
                f"{failure.strerror}",
                fix="make it writable, or name another folder in HGQ_CACHE",
            ) from failure
        build(target)
    return target


def build(target: Path) -> None:
    """Compiles the core to `target`, whole or not at all.

    Raises:
        ToolError: no compiler, or it failed.
    """
    cxx = compiler.compiler()
    if cxx is None:
        raise ToolError(
            "the adder-graph optimiser is C++ that this installation from source has not compiled yet, and there is "
            f"no C++ compiler: '{os.environ.get('CXX') or 'g++'}' is not on the PATH",
            fix="install g++ (sudo apt-get install g++), or name another compiler in CXX, or install a wheel of "
            "hgq-fpga for this platform, which holds the compiled code",
        )
    handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    command = compiler.command(cxx, name)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        Path(name).unlink()
        raise ToolError(
            "compiling the adder-graph optimiser failed",
            command=command,
            code=done.returncode,
            tail="\n".join(done.stderr.splitlines()[-20:]),
            fix="use a C++17 compiler (g++ 9 or newer), named in CXX",
        )
    Path(name).chmod(0o755)
    Path(name).replace(target)
