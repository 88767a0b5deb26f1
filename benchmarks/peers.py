"""The peers' own environment, and programs that answer requests in it or in ours.

    python benchmarks/peers.py            makes the environment (about 2 GB) and prints what is in it

HGQ2 imports as `hgq`, as this project does, so neither can be imported beside the other: peers live in `.venv-peers`,
with Keras and its back ends at our pinned versions. `run` executes a script there once; a `Worker` stays alive between
requests, so that epochs of ours and of a peer can take turns on the same machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"
PEERS = ("hgq2==0.2.0", "alkaid==0.8.2", "da4ml==0.6.0")
SHARED = {"keras": "keras", "tensorflow-cpu": "tensorflow", "jax": "jax", "numpy": "numpy"}
"""Installed at the versions that the modules have in this environment, so that only the peer differs."""


def _version(module: str) -> str:
    """Whatever distribution brought it: TensorFlow has several."""
    return version(packages_distributions()[module][0])


def python() -> Path:
    """The interpreter of the peers' environment, which is made on first use."""
    return interpreter(FOLDER, [*PEERS, *(f"{name}=={_version(module)}" for name, module in SHARED.items())], True)


def interpreter(folder: Path, packages: list[str], constrained: bool = False) -> Path:
    """The interpreter of an environment with these packages, which is made on first use.

    constrained: what they pull in is of the versions that this project is tested with.
    """
    found = folder / "bin" / "python"
    wanted = "\n".join(packages)
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making {folder}: {wanted.replace(chr(10), ', ')}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        command = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        limits = ["-c", str(ROOT / "constraints.txt")] if constrained else []
        subprocess.run([*command, *limits, *packages], check=True)
        stamp.write_text(wanted)
    return found


def environment(backend: str, threads: int | None = None) -> dict[str, str]:
    """Variables for a process that runs Keras on `backend`, on so many threads where that can be told."""
    env = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    limits = {} if threads is None else {name: str(threads) for name in ("OMP_NUM_THREADS", "DA_DEFAULT_THREADS")}
    return env | {"CUDA_VISIBLE_DEVICES": ""} | limits


class Worker:
    """A Python program that reads one JSON request a line and answers each with one JSON line (see `serve`).

    Args:
        interpreter: `python()` for a peer, `sys.executable` for ours.
        script: its path; it must call `serve`.
        backend: what Keras runs on.
    """

    def __init__(self, interpreter: str | Path, script: Path, *arguments: str, backend: str = "tensorflow"):
        self.process = subprocess.Popen(
            [str(interpreter), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(backend),
        )

    def ask(self, **request: Any) -> Any:
        """The answer; raises if the worker has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("\x1e"):  # anything else is chatter of a library
                return json.loads(line[1:])
        raise RuntimeError(f"{self.process.args} ended with code {self.process.wait()}; its messages are above")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(answer: Any) -> None:
    """For the script of a worker: answers each request on stdin with ``answer(**request)``."""
    for line in sys.stdin:
        print("\x1e" + json.dumps(answer(**json.loads(line))), flush=True)


def run(script: Path, *arguments: str) -> Any:
    """Runs `script` in the peers' environment; its last line of output, as JSON."""
    done = subprocess.run([str(python()), str(script), *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    listing = subprocess.run([str(python()), "-m", "pip", "freeze"], check=True, stdout=subprocess.PIPE, text=True)
    print(listing.stdout, end="")
