"""Models saved by one back end compute the same integers on JAX: one process, since starting it costs most."""

from __future__ import annotations

from pathlib import Path

import keras

from tests.frontend import conv_models, einsum_models, merge_models, norm_models, recurrent_models
from tests.frontend.on_jax import check_on_jax

RECURRENT = ("gru", "lstm")


def test_jax_computes_the_same(tmp_path: Path) -> None:
    models: dict[str, keras.Model] = {name: make() for name, make in conv_models.MODELS.items()}
    models |= {name: make() for name, make in einsum_models.MODELS.items()}
    models |= {name: recurrent_models.MODELS[name]() for name in RECURRENT}
    models |= {
        "merges": merge_models.everything(*merge_models.CASES),
        "norms": norm_models.model_of(*norm_models.LAYERS),
    }
    check_on_jax(models, tmp_path)
