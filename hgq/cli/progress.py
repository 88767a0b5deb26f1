"""Shows which step runs and how long each took, on a terminal's standard error; elsewhere nothing."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape


class Steps:
    """``with Steps() as step: step("compile"); ...; step("simulate")``: a step ends where the next begins."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._name, self._since = "", 0.0

    def __enter__(self) -> Steps:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __call__(self, name: str) -> None:
        """The step `name` begins."""
        self._done()
        self._name, self._since = name, time.perf_counter()
        self._status.update(escape(name))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._status.stop()
        self._done("stopped here" if kind else "")

    def _done(self, note: str = "") -> None:
        if self._name and self._console.is_terminal:
            seconds = time.perf_counter() - self._since
            self._console.print(f"{seconds:7.1f} s  {escape(self._name)}  {note}".rstrip())
        self._name = ""
