"""The test bench that goes with a project: passes in a copy elsewhere, without hgq, and fails when it should."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hgq.emit.testbench as emit_testbench
from rtl_tests.pipelines import pipeline, vectors

pytestmark = pytest.mark.rtl

NO_HGQ = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hgq", "keras", "jinja2", "hls4ml"):
            raise ImportError(f"the project may not need {name}")
sys.meta_path.insert(0, Refuse())
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider"]))
"""


def _pytest(project: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", NO_HGQ]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_a_project_passes_in_a_copy_elsewhere_and_fails_on_a_wrong_vector_or_a_changed_source(tmp_path):
    project = tmp_path / "project"
    (project / "rtl").mkdir(parents=True)
    design = pipeline(project / "rtl", in_width=33, out_width=40, latency=2)
    files = emit_testbench.testbench(design.top, [f"rtl/{design.sources[0].name}"], 33, 40, 2)
    assert all(path.startswith("tb/") for path in files)
    for path, text in files.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    inputs, outputs = vectors(design, 300)
    emit_testbench.save_vectors(project, inputs, outputs)
    copy = tmp_path / "copy of it"
    shutil.move(project, copy)

    done = _pytest(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout

    outputs[17, 1] ^= 1
    emit_testbench.save_vectors(copy, inputs, outputs)
    done = _pytest(copy)
    assert "1 of 300 vectors differ, first 17" in done.stdout
    assert done.returncode == 1

    outputs[17, 1] ^= 1
    emit_testbench.save_vectors(copy, inputs, outputs)
    source = copy / "rtl" / design.sources[0].name
    source.write_text(source.read_text().replace("v0 = in_valid", "v0 = 1'b1"))
    done = _pytest(copy)
    assert "6 failed" in done.stdout, done.stdout


def test_vectors_that_are_no_words_are_refused(tmp_path):
    with pytest.raises(ValueError, match="outputs must be uint32 words"):
        emit_testbench.save_vectors(tmp_path, np.zeros((3, 1), np.uint32), np.zeros((2, 1), np.uint32))
