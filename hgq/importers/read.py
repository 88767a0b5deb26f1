"""`hgq.load`: a model file of ours or of another library becomes a Keras model of our layers."""

from __future__ import annotations

from pathlib import Path

import keras

from hgq.fixed import FixedType
from hgq.frontend.load import load_model
from hgq.importers import hgq2, qkeras
from hgq.importers.archive import Archive, read_archive
from hgq.importers.network import Importer

OURS = "hgq-fpga"
PACKAGES = {"hgq": "HGQ2", "hgq_fpga": OURS, "qkeras": "QKeras"}
"""The package under which a library registers its layers with Keras -> its name."""
HANDLERS = {"HGQ2": (hgq2.HANDLERS, hgq2.INSTEAD), "QKeras": (qkeras.HANDLERS, qkeras.INSTEAD)}


def library_of(archive: Archive) -> str:
    """Which library made a model, by what its layers say of themselves."""
    layers = archive.config["config"]["layers"]
    packages = {(layer.get("registered_name") or "").partition(">")[0] for layer in layers}
    found = {PACKAGES[package] for package in packages if package in PACKAGES}
    # Keras 2 files name no package, and no other library of that time has these.
    found |= {"QKeras" for layer in layers if not found and layer["class_name"] in qkeras.OWN}
    return next((name for name in PACKAGES.values() if name in found), "Keras")


def load(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    input_type: str | None = None,
    drop_softmax: bool = False,
) -> keras.Model:
    """The model in a file, made of hgq.layers, with exactly the types and values that it has in its own library.

    The model can be converted like any other, and trained on.

    Args:
        path: a .keras file, a .h5 file of a whole model, or a .json file of an architecture.
        weights: the .h5 file of the weights that belong to a .json file.
        input_type: as "s16f8": what the inputs are rounded to, for models that do not say it themselves.
        drop_softmax: leave a softmax at the end out; the model then gives its logits.

    Raises:
        ConversionError: the file is broken, or a layer or attribute of it has no exact counterpart; lists them all.
    """
    return imported(path, weights=weights, input_type=input_type, drop_softmax=drop_softmax)[0]


def imported(
    path: str | Path, *, weights: str | Path | None = None, input_type: str | None = None, drop_softmax: bool = False
) -> tuple[keras.Model, str]:
    """As `load`; also the name of the library that made the model."""
    path = Path(path)
    archive = read_archive(path, None if weights is None else Path(weights))
    library = library_of(archive)
    if library == OURS:
        return load_model(path), library
    port = FixedType.parse(input_type) if input_type else None
    importer = Importer(archive, *HANDLERS[library], port, drop_softmax)
    return importer.build(), library
