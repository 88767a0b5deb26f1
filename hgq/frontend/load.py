"""Model files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import keras

import hgq.layers  # noqa: F401  registers the classes that a file may name
from hgq.errors import ConversionError


def load_model(path: Path) -> keras.Model:
    """The model in a .keras file. Code that the file may carry is never run (Keras' safe mode).

    Raises:
        ConversionError: the file is missing, is no .keras file, or does not load.
    """
    if not path.is_file():
        raise ConversionError([f"  - {path}: there is no such file\n      Fix: give the .keras file of model.save"])
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ConversionError(
            [f"  - {path}: this is no .keras file\n      Fix: save the model with model.save('name.keras')"]
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as broken:  # Keras raises whatever the broken part raises
        reason = str(broken).strip().splitlines()
        raise ConversionError(
            [
                f"  - {path}: Keras cannot load it: {type(broken).__name__}: {reason[0] if reason else ''}\n"
                "      Fix: save it again with the Keras that trained it; a class of your own must be imported first."
            ]
        ) from broken
