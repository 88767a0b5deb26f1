"""A model saved by this process gives the same integers in one that runs on JAX, compiled as `predict` compiles it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from hgq.fixed import decode
from hgq.frontend import read_model
from hgq.ir import evaluate
from hgq.layers.precision import double_precision
from hgq.training.copy import copy_model
from hgq.verify import corner_vectors, float32_certificate


def check_on_jax(models: dict[str, keras.Model], folder: Path) -> None:
    """All models in one process: starting JAX costs more than running them."""
    for number, model in enumerate(models.values()):
        graph = read_model(model)
        inputs = corner_vectors({name: graph[name].types for name in graph.inputs}, 300)
        for layer in model.layers:  # what is loaded over needs no random numbers, slow to compile on JAX
            for name in [name for name in vars(layer) if name.endswith("_initializer")]:
                setattr(layer, name, keras.initializers.Zeros())
        model.save(folder / f"{number}.keras")
        x = {f"x{k}": decode(inputs[name], graph[name].range.frac) for k, name in enumerate(graph.inputs)}
        golden = evaluate(graph, inputs)
        y = {f"y{k}": decode(golden[name], graph[name].range.frac) for k, name in enumerate(graph.outputs)}
        np.savez(folder / f"{number}.npz", exact32=float32_certificate(graph).exact32, **x, **y)
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.frontend.on_jax", str(folder)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    assert done.stdout.splitlines() == [f"{number}.keras" for number in range(len(models))], list(models)


def compare(folder: Path) -> None:
    """In the process on JAX."""
    import jax

    from tests.frontend import einsum_models, merge_models  # noqa: F401 : they register functions of a user

    for number in range(len(list(folder.glob("*.keras")))):
        print(f"{number}.keras", flush=True)
        model = keras.saving.load_model(folder / f"{number}.keras")
        data = np.load(folder / f"{number}.npz")
        inputs = [data[name] for name in data if name.startswith("x")]
        golden = [data[name] for name in data if name.startswith("y")]
        with double_precision(not data["exact32"]):
            net = model if data["exact32"] else copy_model(model, "float64")
            function = jax.jit(lambda *x, net=net: keras.tree.flatten(net(x if len(x) > 1 else x[0], training=False)))
            for k, (found, expected) in enumerate(zip(function(*inputs), golden, strict=True)):
                assert (np.asarray(found) == expected).all(), f"output {k} of {model.name}"


if __name__ == "__main__":
    compare(Path(sys.argv[1]))
