"""The README says what the code says. `python tests/test_readme.py` rewrites its tables of layers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- supported layers: begin -->\n", "<!-- supported layers: end -->"
METHODS = BEGIN.replace("supported layers", "methods"), END.replace("supported layers", "methods")
IMPORTED = BEGIN.replace("supported layers", "imported models"), END.replace("supported layers", "imported models")


TRAINING_ONLY = "for training: no hardware"
NOTES = {
    "QDense": "kernel, bias, input and output quantised; activation `relu`, `relu6`, `hard_tanh` or none",
    "QDenseBatchNorm": "as `QDense`; the kernel with the normalisation folded in is what is quantised",
    **dict.fromkeys(
        ["QConv1D", "QConv2D"],
        "every stride, padding, dilation and number of groups; channels last; types per channel share one module",
    ),
    **dict.fromkeys(["QConv1DBatchNorm", "QConv2DBatchNorm"], "as `QConv2D`, with the normalisation folded in"),
    **dict.fromkeys(["QDepthwiseConv1D", "QDepthwiseConv2D"], "strides equal in both directions"),
    **dict.fromkeys(["QSeparableConv1D", "QSeparableConv2D"], "a quantizer between its two convolutions"),
    **dict.fromkeys(["QConv1DTranspose", "QConv2DTranspose"], "no dilation, groups or `output_padding`"),
    **dict.fromkeys(
        "QAveragePooling1D QAveragePooling2D QGlobalAveragePooling1D QGlobalAveragePooling2D".split(),
        "any window: 1/n is a fixed-point constant of the layer where it is no power of two",
    ),
    **dict.fromkeys(
        "MaxPooling1D MaxPooling2D GlobalMaxPooling1D GlobalMaxPooling2D".split(), "channels last; every padding"
    ),
    **dict.fromkeys(
        "AveragePooling1D AveragePooling2D GlobalAveragePooling1D GlobalAveragePooling2D".split(),
        "windows of 2, 4, 8 ... elements, all alike; otherwise use `QAveragePooling`",
    ),
    "QFunction": "a table: tanh, sigmoid, silu, gelu, exponential, softplus, elu ..., or a function of your own",
    "QBatchNormalization": "by itself: scale and offset quantised per channel; last axis",
    **dict.fromkeys(
        ["QLayerNormalization", "QRMSNormalization"], "1/sqrt(variance + epsilon) as a table; any axes; exact mean"
    ),
    "QSoftmax": "exp and 1/sum as tables; with or without the max subtracted; any axes; a constant mask",
    "QActivation": "a quantizer, and `relu`, `relu6`, `hard_tanh`, `leaky_relu` or `hard_sigmoid`",
    "QPReLU": "learned slopes of 0 to 1, quantised, with types of their own",
    **dict.fromkeys(
        ["QSimpleRNN", "QGRU", "QLSTM"],
        "unrolled, states quantised; all time steps but the first share one module; no masks, no `initial_state`",
    ),
    "Bidirectional": "around `QSimpleRNN`, `QGRU` or `QLSTM`; every `merge_mode`; no `return_state`",
    "QEinsumDense": "any equation with a batch axis that Keras takes; biases along any axes",
    "QEinsumDenseBatchNorm": "as `QEinsumDense`, with the normalisation over the last axis folded in",
    **dict.fromkeys(["QEinsum", "QDot"], "products of two tensors, each with a quantizer; no `normalize`"),
    "QEmbedding": "a table for each column; indices are whole numbers; no `mask_zero`",
    "QMultiHeadAttention": "self and cross attention over one axis of tokens; constant masks, `causal` among them",
    "Dot": "of quantised tensors; no `normalize`",
    "ReLU": "`max_value` or `negative_slope` of few bits, such as 6 or 0.25; no `threshold`",
    "LeakyReLU": "slopes from 0 to 1 that are exact in 16 bits, such as 0.25",
    "PReLU": "slopes from 0 to 1 that are exact in 16 bits, such as 0.25",
    "Activation": "`relu`, `relu6`, `hard_tanh` or `linear`",
    "BatchNormalization": "only where scale and offset are exact; else `QDenseBatchNorm`, `QBatchNormalization`",
    **dict.fromkeys(
        "Flatten Reshape Permute RepeatVector ZeroPadding1D ZeroPadding2D Cropping1D Cropping2D Concatenate".split(),
        "wires only; types may differ from element to element",
    ),
    **dict.fromkeys(["UpSampling1D", "UpSampling2D"], "`nearest`; wires only"),
    **dict.fromkeys(
        ["Add", "Subtract", "Maximum", "Minimum"], "quantised tensors or exact accumulators, each with its own types"
    ),
    "Multiply": "of quantised tensors",
    "Average": "of 2, 4, 8 ... tensors",
    "Dropout": TRAINING_ONLY,
    "GaussianNoise": TRAINING_ONLY,
    "GaussianDropout": TRAINING_ONLY,
    "AlphaDropout": TRAINING_ONLY,
    "SpatialDropout1D": TRAINING_ONLY,
    "ActivityRegularization": TRAINING_ONLY,
}
"""What a user must know of each layer, by class name."""


def supported_layers() -> str:
    """A row for each note, with the classes that the frontend handles and that it is about."""
    import keras

    import hgq.layers
    from hgq.frontend.handlers import HANDLERS

    rows: dict[str, list[str]] = {}
    for layer in HANDLERS:
        assert layer.__name__ in NOTES, f"{layer.__name__} is handled: say in NOTES what a user must know of it"
        home = "hgq.layers" if getattr(hgq.layers, layer.__name__, None) is layer else "keras.layers"
        assert home == "hgq.layers" or getattr(keras.layers, layer.__name__) is layer
        rows.setdefault(NOTES[layer.__name__], []).append(f"`{home}.{layer.__name__}`")
    table = [f"| {', '.join(layers)} | {note} |" for note, layers in rows.items()]
    return "\n".join(["| layer | what to know |", "|---|---|", *table]) + "\n"


def imported_models() -> str:
    """A row for each library, of its handlers and quantizers."""
    from hgq.importers import hgq2, hgq2_types, keras_layers, plain, qkeras, qkeras_types, qonnx

    def names(handlers: dict) -> str:
        own = {name for name, handler in handlers.items() if keras_layers.HANDLERS.get(name) is not handler}
        return ", ".join(f"`{name}`" for name in handlers if name in own)

    kinds = (
        "kbi and kif; " + ", ".join(hgq2_types.ROUNDINGS) + "; " + ", ".join(hgq2_types.OVERFLOWS) + "; any granularity"
    )
    bits = ", ".join(f"`{name}`" for name in qkeras_types.ARGUMENTS)
    rows = (
        ("HGQ2 0.2: `.keras`", names(hgq2.HANDLERS), kinds),
        (
            "QKeras 0.9: `.h5`, `.json` and weights; qkeras-v3: `.keras`",
            names(qkeras.HANDLERS),
            f"{bits}; alpha 1, a power of two or `auto_po2`; nothing stochastic",
        ),
        ("Keras 3: `.keras`; Keras 2: `.h5`, `.json` and weights", names(plain.HANDLERS), "types that you give"),
    )
    onnx = (
        "QONNX (Brevitas, FINN): `.onnx`",
        ", ".join(f"`{name}`" for name in qonnx.OPERATIONS),
        ", ".join(f"`{name}`" for name in qonnx.QUANTIZERS)
        + "; any scale, of a tensor or of channels; data: "
        + ", ".join(qonnx.DATA_ROUNDINGS)
        + "; constants: every rounding mode",
    )
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    also = ", ".join(f"`{name}`" for name in keras_layers.HANDLERS)
    last = f"| {' | '.join(onnx)} |\n"
    return f"| model | layers | quantizers |\n|---|---|---|\n{table}{last}\nand in all but the last Keras' {also}.\n"


def methods() -> str:
    """A row for each method of hgq.methods, and the options that it cannot do without."""
    from hgq.methods import METHODS

    def needs(options: tuple[str, ...]) -> str:
        return ", ".join(f"`--{name.replace('_', '-')}`" for name in options)

    rows = "".join(f"| `{name}` | {one.what} | {needs(one.needs)} |\n" for name, one in METHODS.items())
    return f"| method | what | needs |\n|---|---|---|\n{rows}"


def block(text: str, begin: str = BEGIN, end: str = END) -> str:
    return text[text.index(begin) + len(begin) : text.index(end)]


def test_the_table_of_imported_models_is_what_the_importers_handle() -> None:
    assert block(README.read_text(), *IMPORTED) == imported_models(), f"run python tests/{Path(__file__).name}"


def test_the_table_of_methods_is_that_of_the_command() -> None:
    assert block(README.read_text(), *METHODS) == methods(), f"run python tests/{Path(__file__).name}"


def test_the_table_of_supported_layers_is_what_the_frontend_handles() -> None:
    assert block(README.read_text()) == supported_layers(), f"run python tests/{Path(__file__).name}"


def test_every_folder_in_the_map_exists_and_every_folder_of_hgq_is_in_it() -> None:
    text = README.read_text()
    table = text[text.index("## Map of folders") : text.index("## Glossary")]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`([^`]+)`", row)}
    assert [name for name in named if not (README.parent / name).exists()] == []
    folders = {f"hgq/{path.parent.name}" for path in (README.parent / "hgq").glob("*/__init__.py")}
    assert folders - named == set()


def test_the_example_is_python_that_imports_public_names_only() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    modules = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert modules == {"hgq.layers", "hgq.training"}


if __name__ == "__main__":
    blocks = ((BEGIN, END), supported_layers()), (IMPORTED, imported_models()), (METHODS, methods())
    for (begin, end), made in blocks:
        head, rest = README.read_text().split(begin)
        README.write_text(head + begin + made + end + rest.split(end)[1])
