"""Where results of slow tools are kept, by content: in the user's cache folder."""

from __future__ import annotations

from pathlib import Path

from hgq.sim.simulator import cache_folder
from hgq.sim.simulator.tools import digest, writable
from hgq.sim.toolchain import hgq_errors

__all__ = ["digest", "kept_folder"]


def kept_folder(kind: str) -> Path:
    """The folder for one kind of results, made if missing.

    Raises:
        ToolError: it cannot be made.
    """
    with hgq_errors():
        return writable(cache_folder() / kind)
