"""Puts the compiled cores (hgq/native/compiler.py lists them) into the wheel, which then works without a compiler.

Without a compiler the wheel is built all the same, says so, and compiles each core at its first use. An editable
installation always does the latter: there the sources change, and the cache is keyed by their content.
"""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileCores(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        recipe = runpy.run_path(str(Path(self.root) / "hgq/native/compiler.py"))
        cxx = recipe["compiler"]()
        if cxx is None:
            self.app.display_warning(
                "no C++ compiler (CXX or g++): the wheel is built without compiled code, and needs a compiler when it "
                "first converts a model"
            )
            return
        self.folder = tempfile.mkdtemp(prefix="hgq-build-")
        for name, core in recipe["CORES"].items():
            built = str(Path(self.folder) / f"{name}.so")
            subprocess.run(recipe["command"](core, cxx, built), check=True)
            build_data["force_include"][built] = f"hgq/{core.built}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)
