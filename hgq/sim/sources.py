"""Which files of Verilog a module needs: each module has a file of its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hgq.errors import ToolError


def needed(texts: Mapping[str, str], top: str) -> dict[str, str]:
    """Of some files, name -> text, that of module `top` and those of the modules below it.

    Raises:
        ToolError: there is no file of `top`.
    """
    if f"{top}.v" not in texts:
        raise ToolError(f"there is no {top}.v among the Verilog sources, so module '{top}' cannot be read")
    found, todo = [f"{top}.v"], [f"{top}.v"]
    while todo:
        words = set(re.findall(r"\w+", texts[todo.pop()]))
        new = [name for name in sorted(texts) if name.removesuffix(".v") in words and name not in found]
        found += new
        todo += new
    return {name: texts[name] for name in found}
