"""The matrix of arguments: each is converted exactly, or refused by name. The table is in arguments.py."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest

from hgq.errors import ConversionError
from hgq.frontend import HANDLERS, read_model
from hgq.layers import QActivation
from hgq.layers.base import QLayer
from hgq.quantizers import FracQuantizer
from hgq.training import calibrate
from tests.frontend.arguments import QLINEAR, ROWS, SEQUENCE, Row
from tests.frontend.test_model import exact


def arguments(layer: type) -> set[str]:
    """What the constructor of a layer takes, those of our base classes included."""
    found: set[str] = set()
    for cls in layer.__mro__:
        if cls is keras.layers.Layer or (found and not issubclass(layer, QLayer)):
            break
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            found |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
    return found


def shape_of(layer: type, row: Row) -> tuple[int, ...]:
    return SEQUENCE if "1D" in layer.__name__ else row.shape


def branch(layer: type, row: Row, xs: list[Any], /, **given: Any) -> Any:
    """The result of a new layer; layers among its arguments are copies."""
    options = {**row.base, "name": f"under_test_{next(COUNT)}", **given}
    options |= {k: type(v).from_config(v.get_config()) for k, v in options.items() if isinstance(v, keras.Layer)}
    made = layer(**options)
    return made(*xs) if row.spread else made(xs[0] if row.count == 1 else xs)


def combinations(row: Row) -> list[dict[str, Any]]:
    """Each value of the layer's own arguments alone; those that all quantised layers have, the k-th ones together."""
    shared = {name: values for name, values in row.converts.items() if name in QLINEAR.converts}
    alone = [{name: v} for name, values in row.converts.items() if name not in shared for v in values]
    longest = max(map(len, shared.values()), default=0)
    return [{}, *alone, *({name: vs[k % len(vs)] for name, vs in shared.items()} for k in range(longest))]


COUNT = iter(range(10**6))


def front(layer: type, row: Row) -> tuple[list[Any], list[Any]]:
    """Model inputs, and what is quantised of them."""
    shape = shape_of(layer, row)
    raw = [keras.Input(shape, name=f"in{k}") for k in range(row.count)]
    types = [FracQuantizer(f0=float(k), granularity="channel") for k in range(1, row.count + 1)]
    return raw, [QActivation(output_quantizer=q, input_quantizer=None)(x) for x, q in zip(raw, types, strict=True)]


@pytest.mark.parametrize("layer", HANDLERS, ids=lambda layer: layer.__name__)
def test_every_argument_is_in_the_table(layer: type) -> None:
    row = ROWS[layer]
    assert arguments(layer) - set(row.converts) - set(row.refused) - set(row.base) == set()


@pytest.mark.parametrize("layer", HANDLERS, ids=lambda layer: layer.__name__)
def test_every_value_is_converted_exactly(layer: type) -> None:
    """All values as branches of one model."""
    keras.utils.set_random_seed(4)
    row = ROWS[layer]
    raw, xs = front(layer, row)
    outputs = [branch(layer, row, xs, **given) for given in combinations(row)]
    model = keras.Model(raw, keras.tree.flatten(outputs))
    shape = shape_of(layer, row)
    rng = np.random.default_rng(5)
    data = [rng.normal(size=(32, *shape)).astype("float32") * 1.5 for _ in raw]
    calibrate(model, data if len(data) > 1 else data[0])
    exact(model, read_model(model))


REFUSED = [(layer, name, value) for layer, row in ROWS.items() for name, vs in row.refused.items() for value in vs]


@pytest.mark.parametrize(
    "layer,name,value", REFUSED, ids=[f"{layer.__name__}-{name}-{k}" for k, (layer, name, _) in enumerate(REFUSED)]
)
def test_every_other_value_is_refused_by_name(layer: type, name: str, value: Any) -> None:
    row = ROWS[layer]
    raw, xs = front(layer, row)
    with pytest.raises((ValueError, TypeError, ConversionError)) as error:
        model = keras.Model(raw, branch(layer, row, xs, **{name: value}))
        ones = np.ones((8, *shape_of(layer, row)), "float32")
        calibrate(model, [ones] * row.count if row.count > 1 else ones)
        read_model(model)
    message = str(error.value)
    assert layer.__name__ in message and "under_test" in message, message
    assert name.removesuffix("_initializer").removeprefix("moving_") in message, message
