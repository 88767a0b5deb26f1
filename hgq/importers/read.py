"""`hgq.load`: a model file of ours or of another library becomes a Keras model of our layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from hgq.fixed import FixedType
from hgq.frontend.load import load_model
from hgq.importers import hgq2, plain, qkeras
from hgq.importers.archive import Archive, read_archive, refused
from hgq.importers.given import UserTypes
from hgq.importers.network import Importer
from hgq.importers.qonnx import load_qonnx

OURS = "hgq-fpga"
PACKAGES = {"hgq": "HGQ2", "hgq_fpga": OURS, "qkeras": "QKeras"}
"""The package under which a library registers its layers with Keras -> its name."""
HANDLERS = {
    "HGQ2": (hgq2.HANDLERS, hgq2.INSTEAD),
    "QKeras": (qkeras.HANDLERS, qkeras.INSTEAD),
    "Keras": (plain.HANDLERS, plain.INSTEAD),
}


def library_of(archive: Archive) -> str:
    """Which library made a model, by what its layers say of themselves."""
    packages = {name.partition(">")[0] for name in _registered(archive.config)}
    found = {PACKAGES[package] for package in packages if package in PACKAGES}
    # Keras 2 files name no package, and no other library of that time has these.
    if not found and any(layer["class_name"] in qkeras.OWN for layer in archive.config["config"]["layers"]):
        return "QKeras"
    return next((name for name in PACKAGES.values() if name in found), "Keras")


def _registered(config: Any) -> set[str]:
    """Every registered name in a configuration."""
    if isinstance(config, list):
        return set().union(*(_registered(one) for one in config))
    if not isinstance(config, dict):
        return set()
    own = config.get("registered_name")
    return set().union(*(_registered(one) for one in config.values())) | ({own} if isinstance(own, str) else set())


def load(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    input_type: str | None = None,
    drop_softmax: bool = False,
    types: str | Path | dict[str, dict[str, str]] | None = None,
) -> keras.Model:
    """The model in a file, made of hgq.layers, with exactly the types and values that it has in its own library.

    The model can be converted like any other, and trained on.

    Args:
        path: a .keras file, a .h5 file of a whole model, a .json file of an architecture, or an .onnx file.
        weights: the .h5 file of the weights that belong to a .json file.
        input_type: as "s16f8": what the inputs are rounded to, for models that do not say it themselves.
        drop_softmax: leave a softmax at the end out; the model then gives its logits. Of an .onnx file also what scales
            and shifts all outputs alike where that is not exact.
        types: for plain Keras models, which have none: ``"s8f6"`` for everything but outputs, or for each layer, by its
            name or "*" for all others, the types of its "input", "kernel" and "bias" and, if it is to be quantised,
            "output" ("scale" and "offset" of a normalisation that is not folded); or a .json file that holds this.

    Raises:
        ConversionError: the file is broken, or a layer or attribute of it has no exact counterpart; lists them all.
    """
    model, library = imported(path, weights=weights, input_type=input_type, drop_softmax=drop_softmax, types=types)
    if library == OURS and input_type is not None:
        raise refused(
            Path(path), "input_type is for models of other libraries; this is one of ours", "give it to convert"
        )
    return model


def imported(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    input_type: str | None = None,
    drop_softmax: bool = False,
    types: str | Path | dict[str, dict[str, str]] | None = None,
) -> tuple[keras.Model, str]:
    """As `load`; also the name of the library that made the model."""
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        for name, unused in (("weights", weights), ("types", types)):
            if unused is not None:
                raise refused(path, f"{name} is for other files; this one has its own", f"leave {name} out")
        return load_qonnx(path, port_type(input_type), drop_softmax), "QONNX"
    archive = read_archive(path, None if weights is None else Path(weights))
    library = library_of(archive)
    if library == OURS:
        for name, given in (("drop_softmax", drop_softmax or None), ("types", types)):
            if given is not None:
                what = f"{name} is for models of other libraries; this is one of ours"
                raise refused(path, what, f"leave {name} out")
        return load_model(path), library
    port = port_type(input_type)
    if library != "Keras":
        if types is not None:
            raise refused(path, f"a model of {library} has its types already", "leave types out")
        return Importer(archive, *HANDLERS[library], port, drop_softmax).build(), library
    own = UserTypes.of(types)
    model = Importer(archive, *HANDLERS[library], port, drop_softmax, own, plain.prepare).build()
    own.check_used()
    return model, library


def port_type(text: str | None) -> FixedType | None:
    """As "s16f8", for an input of the model."""
    try:
        return FixedType.parse(text) if text else None
    except ValueError as reason:
        raise ValueError(f"input_type: {reason}") from None
