"""Tensor arithmetic that must be exact to the last bit, against NumPy's and Python's integers."""

import keras
import numpy as np
import pytest
from keras import ops

from hgq.fixed import Overflow, Rounding
from hgq.quantizers.exact import bits_of, fit, inverse_root, magnitude_bits, power_of_two, steps, to_integer


def compiled(function):
    """The function as training runs it: through the compiler of the backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def graph(function):
    """The function as TensorFlow runs it without XLA: its graph optimizer rewrites arithmetic."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)


RUNS = pytest.mark.parametrize("run", [lambda f: f, graph, compiled], ids=["eager", "graph", "compiled"])


@RUNS
def test_powers_of_two_are_exact(run):
    n = np.arange(-60, 61).astype(np.float32)
    got = ops.convert_to_numpy(run(power_of_two)(ops.convert_to_tensor(n)))
    assert got.dtype == np.float32
    assert (got.astype(np.float64) == np.ldexp(1.0, n.astype(int))).all()


@RUNS
def test_steps_are_exact_both_ways(run):
    n = np.arange(-126, 127)
    for sign, got in zip((1, -1), run(steps)(ops.convert_to_tensor(n.astype(np.float32))), strict=True):
        assert (ops.convert_to_numpy(got).astype(np.float64) == np.ldexp(1.0, sign * n)).all()


@RUNS
def test_inverse_roots_have_the_same_bits_compiled_or_not(run):
    v = np.geomspace(1e-3, 1e6, 20_001).astype(np.float32)
    got = ops.convert_to_numpy(run(inverse_root)(ops.convert_to_tensor(v)))
    assert got.dtype == np.float32
    assert (got == np.float32(1.0) / np.sqrt(v)).all()


BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))

ROUNDING_CASES = {
    "TRN": ([-1.5, -0.25, 0.0, 0.75, 2.0, BELOW_HALF], [-2, -1, 0, 0, 2, 0]),
    "RND": (
        [-1.5, -0.5, -0.75, 0.5, 1.5, 2.5, BELOW_HALF, 8388607.5, 8388609.0],
        [-1, 0, -1, 1, 2, 3, 0, 8388608, 8388609],
    ),
    "RND_CONV": ([-1.5, -0.5, 0.5, 1.5, 2.5, 0.75, BELOW_HALF], [-2, 0, 0, 2, 2, 1, 0]),
}


@RUNS
@pytest.mark.parametrize("rounding", ROUNDING_CASES)
def test_rounding_at_halves_and_just_below(rounding, run):
    values, expected = ROUNDING_CASES[rounding]
    values = np.array(values, np.float32)
    got = ops.convert_to_numpy(run(lambda t: to_integer(t, Rounding(rounding)))(ops.convert_to_tensor(values)))
    assert got.tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bit_counts_equal_those_of_python_integers(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX narrows float64 unless told otherwise")
    m = [0, 1, 2, 3, 4, 5, 7, 8, 9, *(2**n + d for n in range(4, 23) for d in (-1, 0, 1))]
    got = ops.convert_to_numpy(bits_of(ops.convert_to_tensor(np.array(m, dtype))))
    assert got.dtype == dtype
    assert got.tolist() == [v.bit_length() for v in m]
    lo, hi = (
        ops.convert_to_tensor(np.array(bound, dtype)) for bound in zip(*((-v, w) for v in m for w in m), strict=True)
    )
    wanted = [max((max(v, 1) - 1).bit_length(), w.bit_length()) for v in m for w in m]
    assert ops.convert_to_numpy(magnitude_bits(lo, hi, symmetric=False)).tolist() == wanted


def test_bits_of_a_range_count_the_lower_bound_one_further():
    lo = np.array([0, -1, -1, -8, -9, -(2**24), -0.0], np.float32)
    hi = np.array([-0.0, 0, 1, 7, 7, 3, 8], np.float32)
    plain = magnitude_bits(ops.convert_to_tensor(lo), ops.convert_to_tensor(hi), symmetric=False)
    assert ops.convert_to_numpy(plain).tolist() == [0, 0, 1, 3, 4, 24, 4]
    symmetric = magnitude_bits(ops.convert_to_tensor(lo), ops.convert_to_tensor(hi), symmetric=True)
    assert ops.convert_to_numpy(symmetric).tolist() == [0, 1, 1, 4, 4, 25, 4]


FIT_CASES = {  # 2 magnitude bits: mantissas in, out when signed, out when not
    "WRAP": ([-5, -4, -1, 3, 4, 11, 2**23], [3, -4, -1, 3, -4, 3, 0], [3, 0, 3, 3, 0, 3, 0]),
    "SAT": ([-5, -4, -1, 3, 4, 11, 2**23], [-4, -4, -1, 3, 3, 3, 3], [0, 0, 0, 3, 3, 3, 3]),
    "SAT_SYM": ([-5, -4, -1, 3, 4, 11, 2**23], [-3, -3, -1, 3, 3, 3, 3], [0, 0, 0, 3, 3, 3, 3]),
}


@pytest.mark.parametrize("overflow", FIT_CASES)
@pytest.mark.parametrize("signed", [1, 0], ids=["signed", "unsigned"])
def test_overflow_by_hand(overflow, signed):
    values, *expected = FIT_CASES[overflow]
    m = ops.convert_to_tensor(np.array(values, np.float32))
    bits, sign = (ops.convert_to_tensor(np.float32(v)) for v in (2, signed))
    fitted, inside = fit(m, bits, sign, Overflow(overflow))
    assert ops.convert_to_numpy(fitted).tolist() == expected[0 if signed else 1]
    lo = (-3 if overflow == "SAT_SYM" else -4) * signed
    assert ops.convert_to_numpy(inside).tolist() == [lo <= v <= 3 for v in values]
