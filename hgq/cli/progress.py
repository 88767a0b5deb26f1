"""Shows which step runs and how long each took, on a terminal's standard error; elsewhere nothing."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape


class _Running:
    """A step that shows how long it has been running, each time the terminal is drawn."""

    def __init__(self, name: str):
        self.name, self._since = name, time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._since

    def __rich__(self) -> str:
        return f"{escape(self.name)} ({self.seconds():.0f} s)"


class Steps:
    """``with Steps() as step: step("compile"); ...; step("simulate")``: a step ends where the next begins."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._running: _Running | None = None

    def __enter__(self) -> Steps:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __call__(self, name: str) -> None:
        """The step `name` begins."""
        self._done()
        self._running = _Running(name)
        self._status.update(self._running)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._status.stop()
        self._done("stopped here" if kind else "")

    def _done(self, note: str = "") -> None:
        if self._running and self._console.is_terminal:
            shown = escape(self._running.name)
            self._console.print(f"{self._running.seconds():7.1f} s  {shown}  {note}".rstrip())
        self._running = None
