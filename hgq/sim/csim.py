"""C simulation of an emitted hls4ml project: g++ builds it with our own driver, a process runs it on integers.

hls4ml's own bridge passes float or double, one sample per call; here raw bits go in and out, so that values of any
width are exact, and a crash of the C++ leaves Python alive.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hgq.emit.hls4ml_planned import container
from hgq.emit.templates import template
from hgq.errors import ToolError, VerificationError
from hgq.fixed import FixedType, as_objects, shift
from hgq.ir import Graph, Node
from hgq.sim import simulator
from hgq.sim.kept import kept_folder
from hgq.sim.toolchain import hgq_errors

_FLAGS = ("-std=c++17", "-pthread", "-w")
_FEW_VECTORS = 5000
"""Up to here -Og: it compiles in 60 to 90 % of the time of -O2, and then runs at half its speed."""
_KEPT_PROGRAMS = 64
_WORD = (1 << 64) - 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Port:
    """An array argument of the project's top function."""

    node: Node
    kind: FixedType
    is_input: bool

    @property
    def type(self) -> str:
        return self.kind.to_ap_fixed()

    @property
    def size(self) -> int:
        return int(np.prod(self.node.shape, dtype=np.int64))

    @property
    def channels(self) -> int:
        """Elements of a packet, where the project has streams."""
        return self.node.shape[-1]

    @property
    def words(self) -> int:
        """64-bit words of one element."""
        return -(-self.kind.width // 64)

    @property
    def up(self) -> np.ndarray:
        """By how many bits each element's integers are shifted left on the port, whose LSB is the finest of all."""
        return np.where(self.node.range.zero, 0, self.kind.frac - self.node.range.frac)


def run_csim(project: Path, graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of the C++ in folder `project`, emitted from `graph`; integers exactly as in `hgq.ir.evaluate`.

    Args:
        inputs: for each input node, integers of its types, shape ``(samples, *node.shape)``.

    Raises:
        ToolError: g++ is missing or fails, or the compiled program crashes.
        VerificationError: an output has bits below the LSB that its element can have; a stream was not read and written
            packet for packet.
        ValueError: an input is missing, has another shape or number of samples, or holds what its type cannot.
    """
    ports = _ports(graph)
    samples = _samples(graph, inputs)
    program = build_csim(project, graph, samples)
    with tempfile.TemporaryDirectory(prefix="csim-") as work:
        source, result = Path(work) / "in", Path(work) / "out"
        with source.open("wb") as file:
            for port in ports:
                if port.is_input:
                    _pack(port, np.asarray(inputs[port.node.name])).tofile(file)
        weights = project.resolve() / "firmware" / "weights"
        command = [str(program), str(samples), str(source), str(result), str(weights)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            fix = "a negative code is the signal that ended it; check the memory, then report a bug of hgq"
            raise ToolError(
                f"C simulation of {project} stopped", command=command, code=done.returncode, tail=tail, fix=fix
            )
        unbalanced = next((line for line in done.stdout.splitlines() if "Hls::stream" in line), None)
        if unbalanced:
            raise VerificationError(f"C simulation of {project}: {unbalanced.removeprefix('WARNING: ')}")
        words = np.fromfile(result, np.uint64)
    outputs, start = {}, 0
    for port in ports:
        if not port.is_input:
            count = samples * port.size * port.words
            outputs[port.node.name] = _unpack(port, words[start : start + count])
            start += count
    return outputs


def build_csim(project: Path, graph: Graph, vectors: int = 0) -> Path:
    """Compiles `project` with the driver for the ports of `graph`; returns the program, from the cache if it is there.

    Args:
        vectors: how many will run: for many of them the compiler takes its time.

    Raises:
        ToolError: g++ is missing or fails. A project whose ports have other types than `graph` does not compile.
    """
    top = _top_function(project)
    ports = _ports(graph)
    inputs = sum(port.is_input for port in ports)
    # Whether its arguments are streams is what the project says of itself; other types do not compile.
    streams = "hls::stream<" in (project / "firmware" / f"{top}.h").read_text(encoding="utf-8")
    driver = template("hls4ml/csim.cpp.j2").render(project=top, ports=ports, inputs=inputs, streams=streams)
    with hgq_errors():
        compiler = simulator.cxx()
    command = [*compiler, "-Og" if vectors <= _FEW_VECTORS else "-O2", *_FLAGS]
    programs = kept_folder("csim")
    folder = programs / _digest(project, driver, command)
    program = folder / "csim"
    if program.exists():
        os.utime(folder)
        return program
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="build-", dir=programs))
    try:
        (work / "csim.cpp").write_text(driver, encoding="utf-8")
        include = (f"-I{project.resolve()}", f"-I{project.resolve() / 'firmware' / 'ap_types'}")
        _compile([*command, *include, str(work / "csim.cpp"), "-o", str(work / "csim")], project)
        try:
            work.replace(folder)
        except OSError:
            if not program.exists():  # else another process was faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _prune(programs)
    logger.info("compiled the C simulation of %s (%.1f s)", project, time.monotonic() - start)
    return program


def _ports(graph: Graph) -> list[_Port]:
    names = [(name, True) for name in graph.inputs] + [(name, False) for name in dict.fromkeys(graph.outputs)]
    return [_Port(graph[name], container(graph[name]), is_input) for name, is_input in names]


def _samples(graph: Graph, inputs: Mapping[str, np.ndarray]) -> int:
    counts = set()
    for name in graph.inputs:
        if name not in inputs:
            raise ValueError(f"no data for input '{name}'; got data for {sorted(inputs)}")
        values, ports = np.asarray(inputs[name]), graph[name].range
        if values.shape[1:] != ports.shape:
            raise ValueError(f"input '{name}' takes integers of shape (samples, *{ports.shape}), got {values.shape}")
        if values.dtype != object and not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"input '{name}' takes integers in LSBs, got {values.dtype}; use project.encode")
        if len(values) and ((values.min(axis=0) < ports.lo) | (values.max(axis=0) > ports.hi)).any():
            raise ValueError(f"input '{name}' holds an integer outside its port's type; use project.encode")
        counts.add(len(values))
    if len(counts) > 1:
        raise ValueError(f"the inputs have different numbers of samples: {sorted(counts)}")
    return counts.pop() if counts else 0


def _top_function(project: Path) -> str:
    tops = sorted((project / "firmware").glob("*.cpp"))
    if len(tops) != 1:
        raise ToolError(f"{project} holds no hls4ml project: firmware/ has {len(tops)} .cpp files instead of one")
    return tops[0].stem


def _pack(port: _Port, values: np.ndarray) -> np.ndarray:
    """Integers to the raw bits of the port's type, as uint64 words."""
    if port.kind.width <= 64 and values.dtype != object:
        return shift(values.astype(np.int64), port.up).astype(np.uint64)  # two's complement: bits above width drop out
    raw = shift(as_objects(values), port.up).ravel().tolist()
    words = [(value >> (64 * word)) & _WORD for value in raw for word in range(port.words)]
    return np.array(words, np.uint64)


def _unpack(port: _Port, words: np.ndarray) -> np.ndarray:
    """Raw bits to integers at each element's own LSB."""
    shape, width = (-1, *port.node.shape), port.kind.width
    if port.words == 1 and (port.kind.signed or width < 64):
        top = 64 - width if port.kind.signed else 0
        values = ((words.view(np.int64) << top) >> top).reshape(shape)
    else:
        rows = words.reshape(-1, port.words).tolist()
        whole = [sum(word << (64 * n) for n, word in enumerate(row)) for row in rows]
        sign = 1 << (width - 1) if port.kind.signed else 0
        values = np.empty(len(whole), object)
        values[:] = [(value ^ sign) - sign for value in whole]
        values = values.reshape(shape)
    result = shift(values, -port.up)
    off_grid = shift(result, port.up) != values
    if off_grid.any():
        sample, *rest = (int(n) for n in np.argwhere(off_grid)[0])
        element = tuple(rest)
        raise VerificationError(
            f"C simulation: output '{port.node.name}' element {element} of sample {sample} has bits below its LSB "
            f"2**{-int(port.node.range.frac[element])}: got {values[(sample, *element)]} * 2**{-port.kind.frac}"
        )
    return as_objects(result) if port.node.range.bits > 62 else result.astype(np.int64)


def _digest(project: Path, driver: str, command: Sequence[str]) -> str:
    """Of everything that the compiled program depends on."""
    banner = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
    digest = hashlib.sha256("\0".join([*command, banner, driver]).encode())
    firmware = project / "firmware"
    for file in sorted(path for path in firmware.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"\0{file.relative_to(firmware)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _compile(command: list[str], project: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return
    handle, log = tempfile.mkstemp(prefix="csim-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(done.stdout + done.stderr)
    lines = (done.stdout + done.stderr).splitlines()
    errors = [line for line in lines if "error:" in line.lower() or "undefined reference" in line]
    what = f"the C++ of {project} does not compile"
    fix = "see the log; if g++ was killed, free some memory"
    tail = "\n".join((errors or lines)[:20])
    raise ToolError(what, command=command, code=done.returncode, tail=tail, log=Path(log), fix=fix)


def _prune(programs: Path) -> None:
    """Drops what was not used for longest; never what was used in the last hour."""
    old = sorted((path.stat().st_mtime, path) for path in programs.iterdir())
    for used, path in old[:-_KEPT_PROGRAMS]:
        if time.time() - used > 3600:
            shutil.rmtree(path, ignore_errors=True)
