"""The errors that hgq raises on purpose. Anything else that escapes is a bug in hgq.

A message names the user's thing, the actual value and one action that works.
"""

from __future__ import annotations

from pathlib import Path

import hgq_fpga

# Here too, not only in hgq/__init__.py: that file is not ours any more where the other distribution came last.
hgq_fpga.refuse_rivals()


class HGQError(Exception):
    """Base of every error raised on purpose."""


class IRError(HGQError):
    """A graph that breaks its own rules: a bug in a frontend or in a pass."""


class ConversionError(HGQError):
    """A model, an option or data that cannot become hardware; lists every reason, not only the first."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        count = "1 problem keeps" if len(problems) == 1 else f"{len(problems)} problems keep"
        super().__init__("\n".join([f"{count} this model from being converted:", *problems]))


class ProjectError(HGQError):
    """A project folder, or one of its files, that is missing, damaged or does not fit the others."""

    def __init__(self, path: Path, what: str, fix: str = "make it again with hgq-convert MODEL.keras FOLDER"):
        super().__init__(f"{path}: {what}\n  Fix: {fix}")


class VerificationError(HGQError):
    """Two engines that must agree do not, or an engine broke its promise of latency."""


class ToolError(HGQError):
    """An outside program that is missing or failed.

    Args:
        what: what was being done, and with which program.
        command: the command line, if one was run.
        code: its exit code.
        tail: the last lines that matter of what it printed.
        log: file that holds everything it printed.
        fix: one action that works.
    """

    def __init__(
        self,
        what: str,
        *,
        command: list[str] | None = None,
        code: int | None = None,
        tail: str = "",
        log: Path | None = None,
        fix: str = "",
    ):
        lines = [what]
        if command is not None:
            lines.append(f"  command: {' '.join(command)}")
        if code is not None:
            lines.append(f"  exit code: {code}")
        if tail:
            lines += ["  last lines:", *(f"    {line}" for line in tail.splitlines())]
        if log is not None:
            lines.append(f"  full log: {log}")
        if fix:
            lines.append(f"  Fix: {fix}")
        super().__init__("\n".join(lines))


def problem(kind: str, name: str, what: str, fix: str) -> str:
    """One entry of a `ConversionError`: who (class and the user's name), what with which value, what to do."""
    return f"  - {kind} '{name}': {what}\n      Fix: {fix}"
