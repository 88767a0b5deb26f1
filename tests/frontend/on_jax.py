"""Runs the checks of a test module on JAX."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sized
from pathlib import Path


def check_all(module: str, loop: str, models: Sized) -> None:
    """All models in one process: starting JAX costs more than running them.

    Args:
        module: the test module, imported as t.
        loop: statement that prints a line for each model and checks it.
        models: as many as there must be lines.
    """
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", f"from tests.frontend import {module} as t\n{loop}"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(models)
