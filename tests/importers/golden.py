"""Models that other libraries trained, with what those libraries predict; made by benchmarks/importers.py --golden."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Golden:
    """A model file of `library`, its inputs and the library's own predictions."""

    library: str
    file: str
    content: bytes
    x: list[np.ndarray]
    y: list[np.ndarray]

    def written(self, folder: Path) -> Path:
        """The model file, in a folder of the test's own."""
        path = folder / self.file
        path.write_bytes(self.content)
        return path

    def changed(self, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
        """The model file with another configuration: `change` edits that of the model in place."""
        path = self.written(folder)
        if path.suffix == ".h5":
            with h5py.File(path, "r+") as file:
                config = json.loads(file.attrs["model_config"])
                change(config)
                file.attrs["model_config"] = json.dumps(config)
            return path
        with zipfile.ZipFile(io.BytesIO(self.content)) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name == "config.json":
                    config = json.loads(data)
                    change(config)
                    data = json.dumps(config).encode()
                new.writestr(name, data)
        return path


def _all() -> dict[str, Golden]:
    found = {}
    for packed in sorted(FOLDER.glob("*.zip")):
        with zipfile.ZipFile(packed) as file:
            names = file.namelist()
            for name in names:
                stem = name.partition(".")[0]
                if name.endswith((".keras", ".h5", ".onnx")):
                    arrays = np.load(io.BytesIO(file.read(f"{stem}.npz")))
                    x, y = ([arrays[k] for k in sorted(arrays) if k[0] == letter] for letter in "xy")
                    found[f"{packed.stem}-{stem}"] = Golden(packed.stem, name, file.read(name), x, y)
    return found


GOLDEN = _all()
OPTIONS: dict[str, dict[str, Any]] = {
    "qonnx-image": {"input_type": "s10f7"},
    "qonnx-bare": {"input_type": "s10f7", "drop_softmax": True},
}
"""Of `hgq.load`, for those that need some."""


def layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The configuration of a layer of a model's, by its name."""
    return next(one["config"] for one in config["config"]["layers"] if one["config"]["name"] == name)
