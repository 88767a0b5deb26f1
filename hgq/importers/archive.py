"""Model files as data: the configuration as JSON, the weights as arrays. Nothing in a file is executed or unpickled."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from hgq.errors import ConversionError
from hgq.frontend.load import check_sizes, inspect_file


@dataclass(frozen=True)
class Archive:
    """What a model file says.

    config: ``{"class_name": ..., "config": {"layers": [...]}}`` as Keras 2 or 3 writes it.
    groups: datasets by the name of the top-level layer, then by their path within it.
    by_name: whether `groups` has the users' names of the layers, or names that Keras 3 makes up of their classes.
    """

    path: Path
    config: dict[str, Any]
    groups: dict[str, dict[str, np.ndarray]]
    by_name: bool


def read_archive(path: Path, weights: Path | None = None) -> Archive:
    """Reads a .keras file, a .h5 file of a whole model, or a .json file and the .h5 file of its weights.

    Raises:
        ConversionError: the file is missing, broken, or something else.
    """
    if not path.is_file():
        raise refused(path, "there is no such file", "give the file that model.save wrote")
    if weights is not None and path.suffix != ".json":
        raise refused(path, f"weights={str(weights)!r} is for a .json file; this one has its own", "leave weights out")
    try:
        archive = _read(path, weights)
        if archive is not None:
            stored = sum(array.nbytes for group in archive.groups.values() for array in group.values())
            check_sizes(path, archive.config, stored)
            return archive
    except ConversionError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, RecursionError) as broken:
        reason = str(broken).strip().splitlines()
        text = f"it cannot be read: {type(broken).__name__}: {reason[0] if reason else ''}"
        raise refused(path, text, "save the model again with the library that trained it") from broken
    if path.suffix == ".onnx":
        raise refused(path, "this takes Keras models, not ONNX", "load it with hgq.load, or convert it as it is")
    raise refused(
        path,
        "this is no .keras or .onnx file, no .h5 file of a whole model, and no .json file with its weights",
        "save the model with model.save('name.keras')",
    )


def archive_of(model: Any) -> Archive:
    """A Keras model in memory, as its file would be read.

    Raises:
        ConversionError: it is no Sequential or functional model, or not built.
    """
    place = Path(str(model.name))
    if not model.built:
        raise refused(place, "the model is not built", "start it with keras.Input, or call it on data once")
    if type(model).__name__ not in ("Sequential", "Functional"):
        raise refused(place, f"its class is {type(model).__name__!r}", "build it with keras.Sequential or keras.Model")
    groups = {
        layer.name: {f"vars/{n}": np.asarray(keras.ops.convert_to_numpy(v)) for n, v in enumerate(layer.weights)}
        for layer in model.layers
    }
    return Archive(place, _checked(place, json.loads(model.to_json())), groups, by_name=True)


def _read(path: Path, weights: Path | None) -> Archive | None:
    if h5py.is_hdf5(path):
        return _hdf5(path)
    if zipfile.is_zipfile(path) or path.suffix == ".keras":
        return _keras3(path)
    return _json(path, weights) if path.suffix == ".json" else None


def refused(path: Path, what: str, fix: str) -> ConversionError:
    """The error for a file as a whole."""
    return ConversionError([f"  - {path}: {what}\n      Fix: {fix}"])


def _keras3(path: Path) -> Archive:
    config, _, _ = inspect_file(path)
    with (
        zipfile.ZipFile(path) as packed,
        h5py.File(io.BytesIO(packed.read("model.weights.h5")), "r") as file,
    ):
        groups = {name: _arrays(group) for name, group in file.get("layers", {}).items()}
    return Archive(path, _checked(path, config), groups, by_name=False)


def _hdf5(path: Path) -> Archive:
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise refused(
                path,
                "it holds weights, but not the model",
                "save the whole model with model.save('name.h5'), or give the .json of model.to_json() "
                "with weights= (hgq-convert: --weights)",
            )
        text = file.attrs["model_config"]
        config = json.loads(text.decode() if isinstance(text, bytes) else text)
        return Archive(path, _checked(path, config), _by_layer(file["model_weights"]), by_name=True)


def _json(path: Path, weights: Path | None) -> Archive:
    config = _checked(path, json.loads(path.read_text(encoding="utf-8")))
    if weights is None:
        raise refused(
            path, "this is an architecture without weights", "add weights='name.h5' (hgq-convert: --weights name.h5)"
        )
    if not weights.is_file() or not h5py.is_hdf5(weights):
        raise refused(weights, "this is no .h5 file of weights", "give the file that model.save_weights wrote")
    with h5py.File(weights, "r") as file:
        if "layer_names" in file.attrs or "model_weights" in file:
            return Archive(path, config, _by_layer(file.get("model_weights", file)), by_name=True)
        return Archive(path, config, {n: _arrays(group) for n, group in file["layers"].items()}, by_name=False)


def _checked(path: Path, config: Any) -> dict[str, Any]:
    held = config.get("config") if isinstance(config, dict) else None
    if isinstance(held, list):  # Keras 1 and early 2: a Sequential is the list of its layers
        config, held = config | {"config": {"layers": held}}, {"layers": held}
    if not isinstance(held, dict) or not isinstance(held.get("layers"), list) or "class_name" not in config:
        raise refused(path, "it is no Sequential or functional model", "build it as one of these, and save it again")
    for layer in held["layers"]:
        known = isinstance(layer, dict) and isinstance(layer.get("class_name"), str)
        if not known or not isinstance(layer.get("config"), dict):
            raise refused(path, f"it is damaged: {str(layer)[:80]} is no layer", "save the model again")
    return config


def _arrays(group: Any) -> dict[str, np.ndarray]:
    """Every dataset of a group by its path."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = _array(item)

    group.visititems(visit)
    return found


def _array(data: Any) -> np.ndarray:
    """A dataset that the file really holds: one that takes far more memory says so, but was never written."""
    if data.nbytes > 100 * max(data.file.id.get_filesize(), 1 << 16):
        raise ValueError(f"{data.name} of shape {data.shape} is larger than the file")
    return np.asarray(data)


def _by_layer(group: Any) -> dict[str, dict[str, np.ndarray]]:
    """Keras 2: for each layer its arrays by the last part of their names, as "kernel", in the order of the layer."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in group.attrs["layer_names"]:
        layer = group[_text(name)]
        paths = [_text(path) for path in layer.attrs.get("weight_names", [])]
        found[_text(name)] = {path.rsplit("/", 1)[-1].removesuffix(":0"): _array(layer[path]) for path in paths}
    return found


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def group_name(class_name: str, count: int) -> str:
    """What Keras 3 calls the weights of a layer: its class in snake case and how many of these came before.

    >>> group_name("QDense", 0), group_name("QAveragePooling2D", 2)
    ('q_dense', 'q_average_pooling2d_2')
    """
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name)))
    return name.lower() + (f"_{count}" if count else "")
