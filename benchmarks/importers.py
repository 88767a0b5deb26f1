"""Trains models with HGQ2 and QKeras, imports and converts them, and compares with what the libraries predict.

    python benchmarks/importers.py             larger models, each through all engines; prints the table of RESULTS.md
    python benchmarks/importers.py --golden    makes tests/importers/golden anew

The libraries run in environments of their own (benchmarks/peers.py). QKeras lies in folders beside the peers'
packages: QKeras 0.9.0 with tf_keras, and qkeras-v3; both import as `qkeras`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import peers

HERE = Path(__file__).resolve().parent
GOLDEN = peers.ROOT / "tests" / "importers" / "golden"
ROWS = 24
"""Samples that a golden file keeps."""
QKERAS = ("QKeras==0.9.0", "tf_keras==2.21.0", "tensorflow_model_optimization", "dm-tree", "networkx", "pyparsing")
MORE = ("keras-tuner", "kt-legacy", "scikit-learn", "joblib", "threadpoolctl")
QKERAS3 = ("qkeras-v3==1.2.1",)
VERSIONS = {
    "hgq2": {"hgq2": "0.2.0", "quantizers": "1.2.2", "keras": "3.15.1", "jax": "0.10.2"},
    "qkeras": {"QKeras": "0.9.0", "tf_keras": "2.21.0", "tensorflow_cpu": "2.21.0"},
    "qkeras3": {"qkeras-v3": "1.2.1", "keras": "3.15.1", "tensorflow_cpu": "2.21.0"},
}


def beside(name: str, packages: tuple[str, ...]) -> Path:
    """A folder of packages for the peers' interpreter, made on first use; without what they would pull in."""
    folder = peers.FOLDER / name
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != "\n".join(packages):
        command = [str(peers.python()), "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]
        subprocess.run([*command, str(folder), *packages], check=True)
        stamp.write_text("\n".join(packages))
    return folder


def train(library: str, out: Path, *arguments: str) -> None:
    """Runs the script of a library, which leaves model files and predictions in `out`."""
    env = peers.environment("jax" if library == "hgq2" else "tensorflow")
    script = HERE / ("importers_hgq2.py" if library == "hgq2" else "importers_qkeras.py")
    env.pop("PYTHONPATH", None)  # ours would hide HGQ2
    if library != "hgq2":
        paths = [beside("qkeras", QKERAS + MORE)]
        if library == "qkeras":
            env["TF_USE_LEGACY_KERAS"] = "1"
        else:
            paths.insert(0, beside("qkeras3", QKERAS3))
        env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    subprocess.run([str(peers.python()), str(script), str(out), *arguments], check=True, env=env)


def pack(library: str, folder: Path) -> None:
    """One archive of a library's golden models."""
    with zipfile.ZipFile(GOLDEN / f"{library}.zip", "w") as packed:

        def add(name: str, content: bytes) -> None:
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)

        add("versions.json", json.dumps(VERSIONS[library], indent=1).encode())
        for arrays in sorted(folder.glob(f"{library}_*.npz")):
            held = np.load(arrays)
            kept = io.BytesIO()
            np.savez(kept, **{name: held[name][:ROWS] for name in held})
            model = next(f for f in (arrays.with_suffix(".h5"), arrays.with_suffix(".keras")) if f.exists())
            add(model.name.partition("_")[2], model.read_bytes())
            add(arrays.name.partition("_")[2], kept.getvalue())
    print(library, (GOLDEN / f"{library}.zip").stat().st_size, "bytes")


def compare(file: Path, folder: Path, **how: Any) -> dict[str, Any]:
    """Converts a model file, all engines verified on the library's inputs; counts where the library says otherwise."""
    import hgq

    arrays = np.load(file.with_suffix(".npz"))
    x, y = ([arrays[k] for k in sorted(arrays) if k[0] == letter] for letter in "xy")
    project = hgq.convert(file, folder / file.stem, verify=x[0] if len(x) == 1 else x, corners=2000, **how)
    made = project.predict(x[0] if len(x) == 1 else x)
    made = made if isinstance(made, list | tuple) else [made]
    off = sum(int((np.asarray(m).reshape(e.shape) != e).sum()) for m, e in zip(made, y, strict=True))
    total = project.report["totals"]
    row = {"model": file.stem, "library": project.report["library"], "samples": len(x[0])}
    row |= {
        "outputs": sum(e.size for e in y),
        "differences": off,
        "EBOPs": total["ebops"],
        "LUTs": total["lut_estimate"],
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--golden", action="store_true", help="make tests/importers/golden anew")
    parser.add_argument("--only", help="a library")
    parser.add_argument("--keep", type=Path, help="folder for models and projects")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for library in [args.only] if args.only else list(VERSIONS):
            if args.golden:
                train(library, folder)
                pack(library, folder)
                continue
            data = folder / "data.npz"
            if not data.exists():
                sys.path.insert(0, str(peers.ROOT / "examples"))
                import datasets

                digits, jets = datasets.digits(), datasets.jets()
                arrays = {}
                for kind, held in (("digits", digits), ("jets", jets)):
                    labels = held.y_train if held.y_train.ndim == 1 else held.y_train.argmax(1)
                    tested = np.concatenate([held.x_test, held.x_val])[:5000]
                    arrays |= {f"{kind}_x": held.x_train[:30_000], f"{kind}_y": labels[:30_000], f"{kind}_t": tested}
                np.savez(data, **arrays)
            train(library, folder, "--data", str(data))
            for name in ("digits", "digits_conv", "jets"):
                suffix = ".h5" if library == "qkeras" else ".keras"
                compare(folder / f"{library}_{name}{suffix}", folder)


if __name__ == "__main__":
    main()
