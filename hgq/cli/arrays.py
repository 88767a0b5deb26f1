"""Reads the arrays that a command is given: x.npy, x.npz with an array for each input of the model, or x.npz:name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np


def load_arrays(text: str, option: str, axes: int = 2) -> np.ndarray | dict[str, np.ndarray]:
    """What a model takes or gives: one array, or the arrays of a .npz file by name, one for each input or output.

    Raises:
        ValueError: as `load_array`.
    """
    path = Path(text)
    if path.suffix == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
        if len(names) > 1:
            return {name: load_array(f"{text}:{name}", option, axes) for name in names}
    return load_array(text, option, axes)


def load_array(text: str, option: str, axes: int = 2) -> np.ndarray:
    """The array in a file, as numbers with a batch axis.

    Args:
        text: path of a .npy or .npz file; ``x.npz:name`` picks one of several arrays.
        option: the option it was given to, for messages, e.g. ``--verify``.
        axes: the fewest that it must have; 1 for labels.

    Raises:
        ValueError: no such file, not a NumPy file, several arrays and none named, no numbers, or no batch axis.
    """
    path, name = Path(text), None
    if not path.exists() and ".npz:" in text:
        head, _, name = text.rpartition(":")
        path = Path(head)
    if not path.is_file():
        raise ValueError(f"{option} {text}: there is no such file; give a .npy or .npz file")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{option} {text}: {_why(error)}") from None
    if isinstance(loaded, np.ndarray):
        array = loaded
    else:
        with loaded:
            array = _pick(loaded, name, option, path)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{option} {text}: holds {array.dtype}, not real numbers; save integers or floats")
    if array.ndim < axes or not len(array):
        least = "(1, n)" if axes == 2 else "(1,)"
        raise ValueError(
            f"{option} {text}: has shape {array.shape}; the first axis counts samples, so at least {least} is needed"
        )
    return array


def _pick(arrays: np.lib.npyio.NpzFile, name: str | None, option: str, path: Path) -> np.ndarray:
    names = arrays.files
    if name is None and len(names) != 1:
        raise ValueError(f"{option} {path}: holds {len(names)} arrays ({', '.join(names)}); write {path}:NAME")
    if name is not None and name not in names:
        raise ValueError(f"{option} {path}:{name}: there is no such array; the file holds {', '.join(names)}")
    try:
        return arrays[name or names[0]]
    except ValueError as error:
        raise ValueError(f"{option} {path}: {_why(error)}") from None


def _why(error: Exception) -> str:
    """NumPy's words for a pickle do not say what to do."""
    if "pickle" in str(error) or "Object array" in str(error):
        return "is a pickle or holds Python objects, which is refused; save a plain array with numpy.save"
    return f"is not a NumPy file ({error}); save one with numpy.save"
