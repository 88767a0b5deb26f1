"""Calibration data of a model whose dict of inputs has other keys than their names went to the wrong inputs.

Keras flattens a dict by its keys, the converter knew the inputs by name, and Keras only warns of that: the ranges of
one input were found on the other one's data.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import hgq
from hgq.layers import QDense


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_each_input_of_a_dict_is_calibrated_on_its_own_data(tmp_path: Path) -> None:
    left, right = keras.Input((2,), name="z"), keras.Input((2,), name="y")
    model = keras.Model({"a": left, "b": right}, keras.layers.Add()([QDense(1)(left), QDense(1)(right)]))
    data = {"z": np.full((4, 2), 100.0), "y": np.full((4, 2), 0.25)}
    project = hgq.convert(model, tmp_path / "net", calibrate=data, verify=False)
    reach = {
        name: float(np.ldexp(project.graph[name].types.hi.max(), -project.graph[name].types.frac.max()))
        for name in ("z", "y")
    }
    assert reach["z"] >= 100 and reach["y"] < 1
