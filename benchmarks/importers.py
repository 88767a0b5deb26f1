"""Trains models with HGQ2, QKeras and Brevitas, imports and converts them, and compares with their predictions.

    python benchmarks/importers.py             larger models, each through all engines; prints the table of RESULTS.md
    python benchmarks/importers.py --golden    makes tests/importers/golden anew

The libraries run in environments of their own (benchmarks/peers.py). QKeras lies in folders beside the peers'
packages: QKeras 0.9.0 with tf_keras, and qkeras-v3; both import as `qkeras`. Brevitas and qonnx have `.venv-qonnx`.
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
QONNX = (
    "qonnx==1.0.0", "onnx==1.17.0", "onnxruntime==1.31.1", "brevitas==0.13.4", "onnxoptimizer==0.3.13", "torch==2.13.0",
)  # fmt: skip
VERSIONS = {
    "hgq2": {"hgq2": "0.2.0", "quantizers": "1.2.2", "keras": "3.15.1", "jax": "0.10.2"},
    "qkeras": {"QKeras": "0.9.0", "tf_keras": "2.21.0", "tensorflow_cpu": "2.21.0"},
    "qkeras3": {"qkeras-v3": "1.2.1", "keras": "3.15.1", "tensorflow_cpu": "2.21.0"},
    "qonnx": dict(package.split("==") for package in QONNX),
}
NAMES = ("digits", "digits_conv", "jets")
OPTIONS: dict[str, dict[str, Any]] = {
    "qonnx_jets_float": {"input_type": "s16f10"},
    **{f"qonnx_tfc_{bits}": {"input_type": "u8f8", "drop_softmax": True} for bits in ("2w2a", "1w1a")},
}
"""What a model does not say itself: types of ports, and that the last normalisation, alike for all, may go."""


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
    script = HERE / ("importers_qkeras.py" if library.startswith("qkeras") else f"importers_{library}.py")
    env.pop("PYTHONPATH", None)  # ours would hide HGQ2
    python = peers.interpreter(peers.ROOT / ".venv-qonnx", list(QONNX)) if library == "qonnx" else peers.python()
    if library.startswith("qkeras"):
        paths = [beside("qkeras", QKERAS + MORE)]
        if library == "qkeras":
            env["TF_USE_LEGACY_KERAS"] = "1"
        else:
            paths.insert(0, beside("qkeras3", QKERAS3))
        env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    subprocess.run([str(python), str(script), str(out), *arguments], check=True, env=env)


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
            model = next(f for f in map(arrays.with_suffix, (".h5", ".keras", ".onnx")) if f.exists())
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
    made = [np.asarray(m).reshape(e.shape) for m, e in zip(made if len(y) > 1 else [made], y, strict=True)]
    off = sum(int((m != e).sum()) for m, e in zip(made, y, strict=True))
    if "drop_softmax" in how:  # no values to compare, but which of two outputs is larger
        pairs = [[m[:, :, None] < m[:, None, :] for m in both] for both in zip(made, y, strict=True)]
        off = sum(int((m != e).sum()) for m, e in pairs)
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

                held = {"digits": datasets.digits(), "jets": datasets.jets(), "mnist": datasets.mnist(size=28)}
                arrays = {}
                for kind, one in held.items():
                    labels, validated = (y if y.ndim == 1 else y.argmax(1) for y in (one.y_train, one.y_val))
                    tested = np.concatenate([one.x_test, one.x_val])[:5000]
                    arrays |= {f"{kind}_x": one.x_train[:30_000], f"{kind}_y": labels[:30_000], f"{kind}_t": tested}
                    arrays[f"{kind}_l"] = np.concatenate([one.y_test, validated])[:5000]
                np.savez(data, **arrays)
            train(library, folder, "--data", str(data))
            suffix = {"qkeras": ".h5", "qonnx": ".onnx"}.get(library, ".keras")
            for name in (*NAMES, *(("jets_float", "tfc_2w2a", "tfc_1w1a") if library == "qonnx" else ())):
                compare(folder / f"{library}_{name}{suffix}", folder, **OPTIONS.get(f"{library}_{name}", {}))


if __name__ == "__main__":
    main()
