"""Model files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

import hgq.layers  # noqa: F401  registers the classes that a file may name
from hgq.errors import ConversionError

_PARTS = ("config.json", "model.weights.h5")
_AGAIN = "copy it again, or save it again with model.save('name.keras')"
_LARGEST_CONFIG = 1 << 26
_LARGE = 100_000
"""A size in a configuration from which on it is compared with the weights that the file holds."""


def load_model(path: Path) -> keras.Model:
    """The model in a .keras file. Code that the file may carry is never run (Keras' safe mode).

    Raises:
        ConversionError: the file is missing, is no .keras file, or does not load.
    """
    if not path.is_file():
        raise _refused(path, "there is no such file", "give the .keras file of model.save")
    if path.suffix != ".keras":
        raise _refused(path, "this is no .keras file", "save the model with model.save('name.keras')")
    config, version, size = inspect_file(path)
    _check_config(path, config, size)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as broken:  # Keras raises whatever the broken part raises
        lines = [line.strip() for line in str(broken).splitlines() if line.strip()]
        causes = [line for line in lines if line.startswith("Exception encountered: ")]
        cause = causes[-1] if causes else ""  # of exceptions around exceptions, the innermost
        reason = cause.removeprefix("Exception encountered: ") or " ".join(lines[:2])
        newer = ""
        if version != keras.__version__:
            newer = f" The file is of Keras {version}, this is Keras {keras.__version__}."
        raise _refused(
            path,
            f"Keras cannot load it: {type(broken).__name__}: {reason[:500]}",
            f"save it again with the Keras that trained it; a class of your own must be imported first.{newer}",
        ) from broken


def _refused(path: Path, what: str, fix: str) -> ConversionError:
    return ConversionError([f"  - {path}: {what}\n      Fix: {fix}"])


def inspect_file(path: Path) -> tuple[Any, str, int]:
    """What is in a .keras file that is whole, of any library: configuration, version of Keras, bytes of weights.

    Raises:
        ConversionError: naming what is wrong with the file.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(8)
        if start[:2] == b"PK":
            raise _refused(path, f"it is cut off after {path.stat().st_size:,} bytes", _AGAIN)
        if start == b"\x89HDF\r\n\x1a\n":
            raise _refused(
                path, "this is an HDF5 file under another name", "load it in Keras and model.save('name.keras')"
            )
        raise _refused(path, "this is no .keras file", "save the model with model.save('name.keras')")
    try:
        with zipfile.ZipFile(path) as parts:
            absent = [name for name in _PARTS if name not in parts.namelist()]
            if absent:
                raise _refused(path, f"it has no {absent[0]}, so it is no .keras file", _AGAIN)
            broken = parts.testzip()
            if broken:
                raise _refused(path, f"it is damaged: its {broken} has another checksum than it says", _AGAIN)
            if parts.getinfo("config.json").file_size > _LARGEST_CONFIG:
                raise _refused(path, "its config.json has more than 64 MB", _AGAIN)
            config = json.loads(parts.read("config.json"))
            version = "?"
            if "metadata.json" in parts.namelist():
                version = str(json.loads(parts.read("metadata.json")).get("keras_version", "?"))
            size = parts.getinfo("model.weights.h5").file_size
    except (zipfile.BadZipFile, ValueError, RecursionError, EOFError, AttributeError, NotImplementedError) as why:
        raise _refused(path, f"it is damaged ({why})", _AGAIN) from why
    return config, version, size


def _check_config(path: Path, config: Any, size: int) -> None:
    """That a configuration carries no code and no absurd sizes, before Keras makes objects of it.

    Args:
        size: bytes of the weights.

    Raises:
        ConversionError: naming the layer.
    """
    functions = [name for kind, name, _ in _objects(config) if kind in ("Lambda", "__lambda__")]
    if functions:
        raise _refused(
            path,
            f"layer '{functions[0]}' is Python code, which is not run",
            "write the function with supported layers, or run it in software",
        )
    check_sizes(path, config, size)


def check_sizes(path: Path, config: Any, size: int) -> None:
    """Refuses layers that are larger than all weights of the file, in `size` bytes."""
    for kind, name, settings in _objects(config):
        for key, value in settings.items():
            # A weight takes 4 bytes; 20 times that is beyond any compression by Keras.
            if isinstance(value, int) and key in _SIZES and value > max(_LARGE, 20 * size):
                what = f"{kind} '{name}' has {key}={value:,}, but all weights of the file take {size:,} bytes"
                raise _refused(path, what, _AGAIN)


_SIZES = ("units", "filters", "input_dim", "output_dim", "num_heads", "key_dim", "value_dim")


def _objects(config: Any, around: str = "?") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every object in a configuration: class, name (or that of the layer around it), and its own configuration."""
    todo: list[tuple[Any, str]] = [(config, around)]
    while todo:  # not recursive: a file may nest as deep as it likes
        one, around = todo.pop()
        if isinstance(one, dict):
            settings = one.get("config")
            if "class_name" in one and settings is not None:
                own = settings.get("name") if isinstance(settings, dict) else None
                around = own if isinstance(own, str) else around
                yield str(one["class_name"]), around, settings if isinstance(settings, dict) else {}
            todo += [(value, around) for value in one.values()]
        elif isinstance(one, list):
            todo += [(value, around) for value in one]
