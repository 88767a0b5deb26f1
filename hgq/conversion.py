"""`hgq.convert`: a Keras model becomes a verified project folder, complete or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from hgq.data import tensors
from hgq.errors import ConversionError, VerificationError
from hgq.fixed import FixedType
from hgq.folder import Progress
from hgq.frontend.early import check_early
from hgq.frontend.load import load_model
from hgq.frontend.model import functional_of, input_shapes, read_model
from hgq.frontend.predict import float32_error, keras_engine
from hgq.importers import OURS, imported
from hgq.memory import check_memory
from hgq.options import checked_options
from hgq.project import Project, everything
from hgq.sim.toolchain import missing
from hgq.staging import free_failed, free_target, replace, staged
from hgq.training import calibrate as find_ranges
from hgq.training import freeze_tables
from hgq.verify import wraps_everywhere
from hgq.writing import STORED_VECTORS, store_vectors, write_project, write_reports


def convert(
    model: keras.Model | str | Path,
    out: str | Path,
    *,
    calibrate: Any = None,
    verify: Any = None,
    data: Any = None,
    clock_ns: float | None = None,
    latency: int | None = None,
    backend: str = "Vitis",
    io_type: str = "io_parallel",
    part: str | None = None,
    input_type: str | None = None,
    effort: int = 1,
    objective: str = "lut",
    corners: int | None = None,
    weights: str | Path | None = None,
    drop_softmax: bool = False,
    types: str | Path | dict[str, dict[str, str]] | None = None,
    proof: bool = True,
    progress: Progress = lambda step: None,
) -> Project:
    """Makes an hls4ml project and Verilog of a model, and verifies that every engine computes the same integers.

    The model itself stays as it is: calibration changes a copy, which is saved in the project. The folder is written
    under another name and renamed when it is complete; an older project of that name is replaced then.

    Args:
        model: Sequential or functional model of hgq.layers, or the path of a model file: a .keras file of such a model,
            or a file of another library, as `hgq.load` reads it.
        out: folder to make.
        calibrate: training data that the tracked ranges of activations are found on. Not needed if training saw data.
        verify: data to compare all engines on, which calibration must not have seen. None: corner vectors only.
            False: no verification at all, and the report says so.
        data: one set in place of both; every second sample calibrates, the others verify.
        clock_ns: clock period in ns that registers are placed for, by the delay model of the part; 5 by default. The
            pipeline has the fewest cycles that it allows, and of these the fewest register bits.
        latency: clock cycles in all, in place of `clock_ns`: the period is then the shortest that so many cycles allow.
        backend: "Vitis" or "Vivado": the HLS compiler that the C++ is for.
        io_type: how tensors travel in the C++: "io_parallel", all elements at once, or "io_stream", hls4ml's streams of
            packets that hold the last axis, one in a clock cycle; types may then differ from channel to channel only.
            The Verilog takes all elements at once in either case.
        part: FPGA part for the vendor's Tcl, as "xcvu13p-flga2577-2-e". The Verilog of a part that SILICON in
            hgq/netlist/targets.py knows (Xilinx 7 series, UltraScale, UltraScale+) adds three operands with one LUT a
            bit, as primitives of these families; without a part, or for another one, it is generic.
        input_type: type of the input port, as in "s16f8" (signed, 16 bits, 8 of them fractional); the hardware then
            quantises. By default the port has the type of the quantizer that reads it.
        effort: how hard to look for few LUTs, 0 to 6: 1 takes milliseconds for a layer, 2 seconds, each further level
            4 times as long; 0 shares nothing. The same input and options always give the same Verilog.
        objective: what is made small: "lut", or "adders" (their number, whatever their width).
        corners: number of corner vectors; by default 100,000, fewer for very wide inputs.
        weights, drop_softmax, types: for files of other libraries; see `hgq.load`.
        proof: whether the text of the Verilog is proven to compute the integer model for all inputs; False is said in
            the report. Without verification there is no proof either.
        progress: told each step as it begins.

    Raises:
        ConversionError: the model, an option or the folder; lists every reason.
        ValueError: data of the wrong shape or kind.
        VerificationError: two engines differ. What was made is kept beside `out` as ``out.failed``; an older project
            of that name is replaced, anything else is not (then it is ``out.failed2``).
        ToolError: a tool is missing or failed.
    """
    options = checked_options(clock_ns, latency, backend, io_type, part, input_type, effort, objective)
    target = free_target(Path(out))
    if verify is not False:
        _need_tools()
    if not isinstance(model, str | Path) and (weights is not None or drop_softmax or types is not None):
        raise ValueError("weights=, drop_softmax= and types= are for model files of other libraries; leave them out")
    progress("load the model")
    source, library = (
        imported(model, weights=weights, input_type=input_type, drop_softmax=drop_softmax, types=types)
        if isinstance(model, str | Path)
        else (model, OURS)
    )
    if library != OURS:
        progress(f"a model of {library}, rebuilt with our layers")
        if calibrate is not None or data is not None:
            raise ValueError(
                f"{model}: a model of {library} has its types already, and calibration would change them; give verify= "
                "only. To find ranges anew, load it with hgq.load and convert what that gives"
            )
    shapes = input_shapes(source)
    check_early(functional_of(source), source.name, shapes)
    calibration, verification, note = _data(calibrate, verify, data, shapes)
    with staged(target) as work:
        copy = _copy(source, work / "model.keras")
        if calibration is not None:
            progress(f"calibrate on {len(calibration[0]):,} samples")
            # Inputs of a dict are known to Keras by its keys, which may be other names: here they go by their order.
            flat = functional_of(copy)
            net = keras.Model(flat.inputs, flat.outputs)
            find_ranges(net, calibration if len(calibration) > 1 else calibration[0])
            copy.save(work / "model.keras")
        elif freeze_tables(copy):  # training leaves functions without their tables
            copy.save(work / "model.keras")
        progress("read the layers")
        graph = read_model(copy, FixedType.parse(input_type) if input_type else None)
        check_memory(graph)
        project = write_project(graph, source.name, options, work, progress)
        project.report["library"] = library
        project.report["calibration"] = {"samples": len(calibration[0]) if calibration else 0, "note": note}
        encoded = None
        if verification is not None:
            encoded = dict(zip(graph.inputs, project.encode(_as_given(verification, shapes)), strict=True))
            project.report["wraps"] = wraps_everywhere(graph, encoded, verification, input_type is None)
        store_vectors(project, encoded)
        if verify is not False:
            raw = dict(zip(graph.inputs, verification, strict=True)) if verification and not input_type else None
            certificate = project.report["certificate"]
            engine = keras_engine(copy, graph, raw=raw, float64=not certificate["exact32"])
            try:
                project.report["verification"] = project.verify(
                    encoded, everything(proof), corners=corners, keras_engine=engine, progress=progress
                )
            except VerificationError as different:
                failed = free_failed(target)
                older = ", in place of what failed there before" if failed.exists() else ""
                project.report["verification"]["failed"] = " ".join(str(different).split())
                write_reports(project)
                replace(work, failed)
                raise VerificationError(f"{different}\nWhat was made is kept in {failed}{older}.") from different
            if not certificate["exact32"] and not project.beyond_keras:
                certificate["float32_off"] = float32_error(copy, graph, encoded or project.corners(STORED_VECTORS))
        write_reports(project)
        replace(work, target)
    project.path = target
    return project


def _need_tools() -> None:
    absent = missing()
    if absent:
        raise ConversionError(
            [
                f"  - verification needs {tool}\n      Fix: install it, or convert without verification"
                for tool in absent
            ]
        )


def _data(
    calibrate: Any, verify: Any, data: Any, shapes: dict[str, tuple[int, ...]]
) -> tuple[list[np.ndarray] | None, list[np.ndarray] | None, str]:
    """Calibration data, verification data, and a sentence about where they come from."""
    if data is not None:
        if calibrate is not None or (verify is not None and verify is not False):
            raise ValueError("data= stands in place of calibrate= and verify=; give either it or them")
        both = tensors(data, shapes, "data")
        if len(both[0]) < 2:
            raise ValueError("data= is split in two, so it needs at least 2 samples")
        halves = [x[0::2] for x in both], [x[1::2] for x in both]
        if verify is False:
            return halves[0], None, "data: every second sample calibrated, the others were not used"
        return *halves, "data: every second sample calibrated, the others verified"
    found = tensors(calibrate, shapes, "calibration data") if calibrate is not None else None
    if verify is None or verify is False:
        return found, None, ""
    return found, tensors(verify, shapes, "verification data"), ""


def _as_given(arrays: list[np.ndarray], shapes: dict[str, tuple[int, ...]]) -> Any:
    return arrays[0] if len(shapes) == 1 else dict(zip(shapes, arrays, strict=True))


def _copy(model: keras.Model, file: Path) -> keras.Model:
    """The model as it comes back from a file: what is converted is what is saved."""
    model.save(file)
    return load_model(file)
