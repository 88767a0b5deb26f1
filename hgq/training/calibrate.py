"""Finds the ranges of activations on data, and counts what falls outside them on other data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from hgq.fixed import Overflow
from hgq.layers.walk import model_quantizers
from hgq.quantizers import FracQuantizer, Quantizer
from hgq.resource.model import priced_layers

ELEMENTS_AT_ONCE = 2_000_000


def calibrate(model: keras.Model, x: Any, batch_size: int | None = None) -> int:
    """Forgets every tracked range of `model` and finds it anew on `x`; returns the number of samples.

    Changes the model in place (`copy_model` makes a copy). Ranges are those of the values after rounding; nothing
    wraps meanwhile, dropout is off, and trained ranges (`WidthQuantizer`) stay. Tables of functions are made anew. An
    error, or Ctrl-C, leaves the model with the ranges that it had.

    Args:
        x: what `model.predict` takes: an array, or a list or dict of arrays. At least one sample, no NaN.
        batch_size: samples at a time; by default as many as make two million input elements, up to 16,384.
    """
    tracking = _tracking(model)
    samples = count_samples(x, "calibration data")
    known = [(v, np.array(ops.convert_to_numpy(v.value))) for q in tracking for v in (q.lo, q.hi, q.seen)]
    for quantizer in tracking:
        quantizer.reset_range()
        quantizer.calibrating = True
    try:
        for batch in _batches(x, samples, batch_size):
            model(batch, training=False)
    except BaseException:
        for variable, value in known:
            variable.assign(value)
        raise
    finally:
        for quantizer in tracking:
            quantizer.calibrating = False
    freeze_tables(model, again=True)
    return samples


def freeze_tables(model: keras.Model, again: bool = False) -> int:
    """Makes every table of `model` that is missing, or all of them `again`; returns how many were made.

    A table whose ranges are not known yet is left out: the converter says so with the layer's name.
    """
    made = 0
    for table in (table for layer, _ in priced_layers(model) for table in layer.tables().values()):
        if (again or not table.is_frozen) and table.reads.range_known and table.writes.range_known:
            table.freeze()
            made += 1
    return made


def count_wraps(model: keras.Model, x: Any, batch_size: int | None = None) -> dict[str, tuple[int, int]]:
    """For each wrapping quantizer of activations: {its path: (samples with a wrapped element, wrapped elements)}.

    Elements are counted over all samples and, in a layer that is called several times, over all calls; a sample that
    wraps in two calls counts twice.
    """
    watched = [quantizer for quantizer in _tracking(model) if quantizer.overflow == Overflow.WRAP]
    counts = {quantizer.path: (0, 0) for quantizer in watched}

    def count(quantizer: Quantizer, values: Any) -> None:
        outside = quantizer.count_overflows(values)
        samples, elements = counts[quantizer.path]
        hit = int(outside.reshape(len(outside), -1).any(axis=1).sum())
        counts[quantizer.path] = samples + hit, elements + int(outside.sum())

    for quantizer in watched:
        quantizer.observer = count
    try:
        for batch in _batches(x, count_samples(x, "data"), batch_size):
            model(batch, training=False)
    finally:
        for quantizer in watched:
            quantizer.observer = None
    return counts


def _tracking(model: keras.Model) -> list[FracQuantizer]:
    return [q for _, _, q in model_quantizers(model) if isinstance(q, FracQuantizer) and q.tracks_data]


def count_samples(x: Any, what: str) -> int:
    """How many samples the inputs of a model have.

    Raises:
        ValueError: no arrays, none or unequal numbers of samples, or a NaN; `what` names it.
    """
    given = keras.tree.flatten(x)
    for one in given:
        if not hasattr(one, "shape") or not len(one.shape):
            raise ValueError(
                f"{what}: has a {type(one).__name__}, which is no array of samples. "
                "Fix: give arrays; of a tf.data.Dataset or generator: np.concatenate([x for x, y in batches])."
            )
    arrays = [np.asarray(array) for array in given]
    sizes = {len(array) for array in arrays}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(f"{what}: the inputs have {sorted(sizes)} samples; all must have the same number, at least 1")
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            index = tuple(int(n) for n in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{what} holds {array[index]} at index {index}; remove or replace it")
    return sizes.pop()


def _batches(x: Any, samples: int, batch_size: int | None) -> Iterator[Any]:
    if batch_size is None:
        # The model runs op by op here, at a fixed cost each: large batches, as long as they fit into memory.
        elements = sum(np.asarray(array)[0].size for array in keras.tree.flatten(x))
        batch_size = min(max(ELEMENTS_AT_ONCE // max(elements, 1), 64), 16384)
    for start in range(0, samples, batch_size):
        piece = slice(start, start + batch_size)
        yield keras.tree.map_structure(lambda array, piece=piece: ops.convert_to_tensor(np.asarray(array)[piece]), x)
