"""Exact EBOPs against numbers worked out by hand."""

import subprocess
import sys

import numpy as np
import pytest

from hgq.resource import bias_ebops, matmul_ebops, span


def test_span_is_from_the_highest_to_the_lowest_set_bit():
    assert span(np.array([0, 1, 2, 4, 3, 6, 5, -5, -8])).tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 1]


def test_span_of_wide_integers():
    m = np.array([2**53 + 1, -(2**62), 2**62 - 1])
    assert span(m).tolist() == [54, 1, 62]
    assert span(np.array([2**100 + 2**3, 0, -(2**70)], object)).tolist() == [98, 0, 1]
    assert span(np.zeros((0, 3), np.int64)).shape == (0, 3)


def test_a_dense_layer_by_hand():
    kernel = np.array([[3, 0, -4], [5, 1, 0]])  # spans 2 0 1 and 3 1 0
    assert matmul_ebops(kernel, np.array([4, 6])) == 4 * (2 + 0 + 1) + 6 * (3 + 1 + 0)
    # Two positions have their own multipliers.
    assert matmul_ebops(kernel, np.array([[4, 6], [1, 0]])) == 36 + 3
    assert matmul_ebops(4 * kernel, np.array([4, 6])) == 36


def test_a_bias_adds_its_width_where_it_is_not_zero():
    assert bias_ebops(np.array([0, 1, -8]), np.array([3, 3, 5])) == 8
    assert bias_ebops(np.array([0, 1, -8]), np.array([3, 3, 5]), positions=4) == 32


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        matmul_ebops(np.ones((2, 3), int), np.ones(3, int))


def test_resource_imports_without_keras():
    code = "import sys, hgq.resource; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
