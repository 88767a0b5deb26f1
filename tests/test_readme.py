"""The README says what the code says. `python tests/test_readme.py` rewrites its table of supported layers."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- supported layers: begin -->\n", "<!-- supported layers: end -->"


def supported_layers() -> str:
    """A row for each class that the frontend handles, with the first sentence of its handler's docstring."""
    import keras

    import hgq.layers
    from hgq.frontend.model import HANDLERS

    rows = ["| layer | in hardware |", "|---|---|"]
    for layer, handler in HANDLERS.items():
        home = next(m for m in (hgq.layers, keras.layers) if getattr(m, layer.__name__, None) is layer)
        says = re.split(r"(?<=\.)\s", " ".join((inspect.getdoc(handler) or "").split()))[0]
        rows.append(f"| `{home.__name__.replace('._tf_keras', '')}.{layer.__name__}` | {says} |")
    return "\n".join(rows) + "\n"


def block(text: str) -> str:
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def test_the_table_of_supported_layers_is_what_the_frontend_handles() -> None:
    assert block(README.read_text()) == supported_layers(), f"run python tests/{Path(__file__).name}"


def test_every_folder_in_the_map_exists_and_every_part_of_hgq_is_in_it() -> None:
    text = README.read_text()
    table = text[text.index("## Map of folders") : text.index("## Glossary")]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`([^`]+)`", row)}
    assert [name for name in named if not (README.parent / name).exists()] == []
    private = {"hgq/__init__.py", "hgq/names.py", "hgq/ports.py"}
    parts = {f"hgq/{path.name}" for path in (README.parent / "hgq").iterdir() if not path.name.startswith("__py")}
    assert parts - named - private == set()


def test_the_example_is_python_that_imports_public_names_only() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    modules = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert modules == {"hgq.layers", "hgq.training"}


if __name__ == "__main__":
    head, rest = README.read_text().split(BEGIN)
    README.write_text(head + BEGIN + supported_layers() + END + rest.split(END)[1])
