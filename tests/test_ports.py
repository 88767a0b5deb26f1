"""Numbers on the bus of a design: what is packed comes back, whatever its width."""

from __future__ import annotations

import numpy as np
import pytest

from hgq.fixed import FixedArray, as_objects
from hgq.ports import Port, pack, unpack


@pytest.mark.parametrize("widths", [(1, 7, 31, 32, 33, 62), (63,), (3, 64, 5), (65, 100)])
@pytest.mark.parametrize("signed", [False, True])
def test_the_extremes_of_each_width_come_back(widths: tuple[int, ...], signed: bool) -> None:
    count = len(widths)
    types = FixedArray(np.full(count, signed), np.array(widths), np.zeros(count, np.int64))
    port = Port("y", types)
    rows = [[t.lo for t in types], [t.hi for t in types], [0] * count, [t.hi // 3 for t in types]]
    values = as_objects(np.array(rows, object))
    assert unpack([port, port], pack([port, port], [values, values]))[1].tolist() == rows
