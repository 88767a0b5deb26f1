"""An independent copy of a model, in another float type if asked."""

from __future__ import annotations

import random
from typing import Any

import keras


def copy_model(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """A model with the same architecture, names and weights that shares no variable with `model`; not compiled.

    Args:
        dtype: "float64" makes a copy that computes in float64 with the same (float32) weights: exact for twice as
            many bits. On JAX it needs 64-bit types switched on (JAX_ENABLE_X64=1). None keeps every dtype.
    """
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    drawn = random.getstate()  # from which Keras seeds initial values, to be replaced at once: not the user's loss
    twin = keras.saving.deserialize_keras_object(config if dtype is None else _with_dtype(config, dtype))
    random.setstate(drawn)
    twin.set_weights(model.get_weights())
    return twin


def _with_dtype(config: Any, dtype: str) -> Any:
    """The configuration with every float32 or float64 policy replaced; integer inputs stay."""
    if isinstance(config, list | tuple):
        return type(config)(_with_dtype(item, dtype) for item in config)
    if not isinstance(config, dict):
        return config
    changed = {key: _with_dtype(value, dtype) for key, value in config.items()}
    if "dtype" in config:
        policy = config["dtype"]
        name = policy["config"]["name"] if isinstance(policy, dict) else policy
        if name in ("float32", "float64"):
            changed["dtype"] = dtype
    return changed
