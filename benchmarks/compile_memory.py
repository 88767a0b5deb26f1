"""Peak memory of a part of a program, on Linux; imports nothing of ours, so that both environments can."""

from __future__ import annotations

from pathlib import Path


class Peak:
    """From its making on: MiB above what the process held then."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        self.before = self._kib("VmRSS")

    def mb(self) -> float:
        return (self._kib("VmHWM") - self.before) / 1024

    def _kib(self, key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))
