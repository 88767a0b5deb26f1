"""float64 on every backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def double_precision(wanted: bool = True) -> Iterator[None]:
    """Lets the backend compute in float64 meanwhile: JAX does so only where that is switched on."""
    if wanted and keras.backend.backend() == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield
