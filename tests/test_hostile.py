"""Broken, malicious and absurd input: one clear error with the user's thing in it, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import hgq
from hgq.cli.exits import TERMINATED, exit_codes
from hgq.errors import ConversionError, ProjectError
from hgq.frontend.load import load_model
from hgq.layers import QDense, QEmbedding
from hgq.memory import check_memory
from hgq.project import Project
from hgq.staging import free_failed, free_target, replace, staged
from hgq.training import calibrate

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


def net(layer: str = "a", name: str = "net") -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,), name="x"), QDense(2, name=layer)], name=name)
    calibrate(model, X)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "good.keras"
    net().save(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, not verified, of a model whose name is that of its input and a word of C++."""
    out = tmp_path_factory.mktemp("project") / "net"
    hgq.convert(net(), out, verify=False)
    return out


def refused(match: str, out: Path, model: Any, kind: type[Exception] = ConversionError, **options: Any) -> None:
    with pytest.raises(kind, match=match):
        hgq.convert(model, out, **{"verify": False} | options)
    assert not list(out.parent.iterdir()), "something was left behind"


# --- model files -----------------------------------------------------------------------------------------------------

Parts = dict[str, bytes]


def config(change: Callable[[dict], None]) -> Callable[[Parts], None]:
    def edit(parts: Parts) -> None:
        found = json.loads(parts["config.json"])
        change(found["config"]["layers"][1])
        parts["config.json"] = json.dumps(found).encode()

    return edit


def imports_os(layer: dict) -> None:
    command = {"command": "touch pwned"}
    layer |= {"module": "os", "class_name": "system", "registered_name": None, "config": command}


CODE = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "mine", "function": "gASV"}}
FILES: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "no configuration": (lambda p: p.pop("config.json"), "it has no config.json"),
    "no weights": (lambda p: p.pop("model.weights.h5"), r"it has no model\.weights\.h5"),
    "half a configuration": (lambda p: p.update({"config.json": p["config.json"][:99]}), "it is damaged"),
    "nothing but brackets": (lambda p: p.update({"config.json": b"[" * 100_000}), "it is damaged.*recursion"),
    "another configuration": (lambda p: p.update({"config.json": b"[1, 2]"}), "cannot load it"),
    "cut weights": (lambda p: p.update({"model.weights.h5": p["model.weights.h5"][:500]}), "truncated file"),
    "a Python function": (config(lambda layer: layer.update(CODE)), "layer 'mine' is Python code, which is not run"),
    "a module to import": (config(imports_os), "cannot load it.*'system'"),
    "weights of another shape": (config(lambda layer: layer["config"].update(units=4)), r"QDense 'a'.*\(3, 4\)"),
    "gigabytes of weights": (config(lambda layer: layer["config"].update(units=10**9)), "'a' has units=1,000,000,000"),
    "no number of units": (config(lambda layer: layer["config"].update(units="x")), r"units='?x"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_model_file_is_refused_and_runs_nothing(name: str, file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, match = FILES[name]
    with zipfile.ZipFile(file) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    change(parts)
    broken = tmp_path / "broken.keras"
    with zipfile.ZipFile(broken, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    with pytest.raises(ConversionError, match=rf"broken\.keras: (.|\n)*{match}(.|\n)*Fix: "):
        load_model(broken)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.keras"]


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda b: b"", "this is no .keras file"),
    "cut": (lambda b: b[: len(b) // 2], "it is cut off after"),
    "HDF5": (lambda b: b"\x89HDF\r\n\x1a\n", "HDF5"),
    "one bit": (lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :], "checksum"),
}


@pytest.mark.parametrize("name", BYTES)
def test_damaged_bytes_are_seen_before_keras_reads_them(name: str, file: Path, tmp_path: Path) -> None:
    change, match = BYTES[name]
    (tmp_path / "m.keras").write_bytes(change(file.read_bytes()))
    with pytest.raises(ConversionError, match=match):
        load_model(tmp_path / "m.keras")


# --- names, numbers, shapes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["\n", "\0", "\u2028", "\u202e"])
def test_a_name_that_cannot_be_printed_is_refused(letter: str, tmp_path: Path) -> None:
    refused(rf"QDense 'a.*b'(.|\n)*U\+{ord(letter):04X}", tmp_path / "net", net(f"a{letter}b"))


@pytest.mark.rtl
@pytest.mark.parametrize("layer,name", [("always", "x"), ("`finish; $x", "std"), ("größe" * 60, "模型" * 90)])
def test_a_name_that_is_no_identifier_becomes_one(layer: str, name: str, tmp_path: Path) -> None:
    from hgq.sim.toolchain import lint

    project = hgq.convert(net(layer, name), tmp_path / "net", verify=False)
    lint(project.sources(simulation=True), project.top)
    assert Project.load(tmp_path / "net").report["layers"][0]["layer"] == layer


def test_data_beyond_float32_and_ranges_beyond_its_powers_are_refused(tmp_path: Path) -> None:
    far = X.astype(np.float64)
    far[2, 1] = 1e300
    refused(
        r"calibration data for input 'x' holds 1e\+300 at index \(2, 1\)",
        tmp_path / "n",
        net(),
        ValueError,
        calibrate=far,
    )
    refused(r"'a': input_quantizer: its range reaches 3e\+38", tmp_path / "n", net(), calibrate=np.full((3, 3), 3e38))


def test_a_million_bits_are_refused(tmp_path: Path) -> None:
    model = net()
    width = next(w for w in model.weights if w.path.endswith("kernel_quantizer/b"))
    width.assign(np.full(width.shape, 1e6))
    refused(r"'a': kernel_quantizer: a width is 1000000", tmp_path / "n", model)


def test_an_input_without_elements_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((0,), name="x"), QDense(3)])
    refused(r"Input 'x': its shape is \(0,\)", tmp_path / "n", model)


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_an_input_that_keras_casts_is_refused_and_the_advice_works(dtype: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,), dtype=dtype, name="x"), keras.layers.Flatten(), QDense(2)])
    again = keras.Input((3,), name="again")
    for casts in (model, keras.Model(again, model(again))):  # a model in the model casts what it is given, too
        refused(rf"Input 'x': its dtype is {dtype}(.|\n)*Fix: make it float32", tmp_path / "n", casts)
    twin = keras.models.clone_model(model, input_tensors=keras.Input((3,), name="x"))
    twin.set_weights(model.get_weights())
    hgq.convert(twin, tmp_path / "n", calibrate=X, verify=False)


def test_indices_of_an_embedding_may_be_integers(tmp_path: Path) -> None:
    x = keras.Input((3,), dtype="int32", name="x")
    model = keras.Model(x, QEmbedding(9, 2)(x))
    project = hgq.convert(model, tmp_path / "n", verify=False)
    index = np.random.default_rng(0).integers(0, 9, (20, 3))
    assert (project.predict(index) == np.asarray(model(index))).all()


def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_tried(made: Path) -> None:
    graph = Project.load(made).graph
    check_memory(graph)
    with pytest.raises(ConversionError, match=r"weights that are not 0 \(\d of them in 'a'\)(.|\n)*0\.0 GB are free"):
        check_memory(graph, available=1000)


# --- project folders -------------------------------------------------------------------------------------------------


def edit_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        found = json.loads((project / name).read_text())
        change(found)
        (project / name).write_text(json.dumps(found))

    return edit


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda project: (project / name).write_bytes(change((project / name).read_bytes())) and None


def vectors(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda project: np.savez(project / "tb" / "vectors.npz", **arrays)  # type: ignore[arg-type]


def first_type(ports: dict) -> None:
    ports["inputs"][0]["elements"][0]["type"] = "s99f4"


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no graph": (lambda p: (p / "model.ir").unlink(), r"it has no model\.ir"),
    "half a graph": (edit("model.ir", lambda b: b[: len(b) // 2]), r"model\.ir: it is damaged"),
    "another version": (edit("model.ir", lambda b: b.replace(b"hgq-ir 1", b"hgq-ir 9")), "of this version"),
    "another op": (edit("model.ir", lambda b: b.replace(b"dense(", b"magic(")), "no op 'magic'"),
    "a type too often": (edit("model.ir", lambda b: b.replace(b"*", b"*99999999999")), "more than the"),
    "no text": (edit("ports.json", lambda b: b"\xff\xfe\0"), r"ports\.json: it is damaged"),
    "half a report": (edit("report.json", lambda b: b[: len(b) // 2]), r"report\.json: it is damaged"),
    "an empty report": (edit("report.json", lambda b: b"{}"), "model is missing"),
    "no certificate": (edit_json("report.json", lambda r: r["certificate"].clear()), r"certificate\.exact32"),
    "no part": (edit_json("report.json", lambda r: r["options"].pop("part")), r"options\.part is None"),
    "a latency in words": (edit_json("ports.json", lambda p: p.update(latency="two")), "latency is 'two'"),
    "a command for a top": (edit_json("ports.json", lambda p: p.update(top="x; rm -r")), "no name of a module"),
    "a port of another name": (edit_json("ports.json", lambda p: p["inputs"][0].update(name="y")), r"\['y'\].*\['x'\]"),
    "a port of another type": (edit_json("ports.json", first_type), r"the types of 'x' are not those of model\.ir"),
    "vectors gone": (lambda p: (p / "tb/vectors.npz").unlink(), "no stored vectors(.|\n)*--data"),
    "vectors cut": (edit("tb/vectors.npz", lambda b: b[:100]), r"vectors\.npz: it is damaged"),
    "vectors of other names": (vectors(a=np.zeros((2, 1), np.uint32)), r"vectors\.npz: it is damaged"),
    "pickled vectors": (vectors(inputs=np.array([{}])), r"vectors\.npz: it is damaged \(Object arrays"),
    "wide vectors": (vectors(inputs=np.zeros((2, 9), np.uint32)), r"\(2, 9\).*uint32 of shape \(n, 1\)"),
    "no vectors": (vectors(inputs=np.zeros((0, 1), np.uint32)), r"\(0, 1\)"),
    "Verilog gone": (lambda p: shutil.rmtree(p / "rtl"), r"it has no rtl/\*\.v"),
    "Verilog of bytes": (edit("rtl/net_a.v", lambda b: b"\xff"), r"net_a\.v: it is no Verilog"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_project_names_the_file(name: str, made: Path, tmp_path: Path) -> None:
    damage, match = DAMAGE[name]
    copy = tmp_path / "net"
    shutil.copytree(made, copy)
    damage(copy)
    with pytest.raises(ProjectError, match=match):
        project = Project.load(copy)
        project.stored()
        project.rtl_design()


def test_a_model_of_other_inputs_in_the_folder_is_named(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "net")
    other = keras.Sequential([keras.Input((7,), name="x"), QDense(2)])
    other.save(tmp_path / "net" / "model.keras")
    with pytest.raises(ProjectError, match=r"model\.keras: its inputs are \{'x': \(7,\)\}"):
        Project.load(tmp_path / "net").simulate(X, engine="keras", corners=4)


# --- the folder while it is made -------------------------------------------------------------------------------------


def test_a_full_disk_is_named_by_what_was_written_not_by_what_was_read(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/usr/lib/header.h", None, "/full/net/header.h")
    with pytest.raises(ConversionError, match=r"- /full/net/header\.h: no space"), staged(tmp_path / "net"):
        raise error


def test_two_conversions_into_one_folder_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "net"
    with staged(target) as work:
        work.joinpath("file").write_text("x")
        with pytest.raises(ConversionError, match="another conversion writes it now"), staged(target):
            pass
        with staged(target.with_name("other")):
            pass
        assert work.joinpath("file").exists(), "the second one removed what the first one makes"
        replace(work, target)
    assert [path.name for path in target.parent.iterdir()] == ["net"]


def test_what_a_killed_conversion_left_is_removed_and_the_older_project_is_put_back(tmp_path: Path) -> None:
    for name in (".net.123.tmp", ".net.123.old", ".net.mine.tmp", ".other.123.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    with staged(tmp_path / "net"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".net.mine.tmp", ".other.123.tmp", "net"]
    assert (tmp_path / "net" / ".net.123.old").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("file write failed: No space left")])
def test_a_full_disk_leaves_nothing_and_says_so(error: OSError, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"no space is left(.|\n)*Fix"), staged(tmp_path / "deep" / "net") as work:
        work.joinpath("half").write_text("x")
        raise error
    assert not list(tmp_path.iterdir())


def test_what_failed_is_kept_but_replaces_nothing_that_is_no_project(tmp_path: Path) -> None:
    target = tmp_path / "net"
    assert free_failed(target).name == "net.failed"
    (tmp_path / "net.failed").mkdir()
    (tmp_path / "net.failed" / "model.ir").write_text("hgq-ir 1")
    assert free_failed(target).name == "net.failed", "the last failure is enough"
    (tmp_path / "net.failed" / "model.ir").rename(tmp_path / "net.failed2")  # now the first is no project, nor is this
    assert free_failed(target).name == "net.failed3"


def test_what_a_killed_process_left_goes_and_what_it_moved_away_comes_back(tmp_path: Path) -> None:
    for name in (".net.7.tmp", ".net.7.old", ".net.failed.7.old", ".nets.7.tmp", ".net.failed.7.tmp"):
        (tmp_path / name).mkdir()
    with staged(tmp_path / "net"):
        pass
    # Another conversion may be making "nets" or "net.failed" now.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".net.failed.7.tmp", ".nets.7.tmp", "net", "net.failed"]


def test_a_folder_inside_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConversionError, match=r"deep/net: /.*file is a file, not a folder"):
        free_target(tmp_path / "file" / "deep" / "net")


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "net"
    link.symlink_to(tmp_path / "disk" / "net")
    for content in "ab":
        target = free_target(link)
        with staged(target) as work:
            (work / "model.ir").write_text(content)
            replace(work, target)
        assert link.is_symlink() and (tmp_path / "disk" / "net" / "model.ir").read_text() == content
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "model.ir", "net", "net"]


def test_an_interrupt_between_two_renames_keeps_the_older_project(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "gone", tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_termination_cleans_up_and_has_its_own_code(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(BaseException) as ended, exit_codes(tmp_path), staged(tmp_path / "net"):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert ended.value.exit_code == TERMINATED and not list(tmp_path.iterdir())  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGTERM) is before
