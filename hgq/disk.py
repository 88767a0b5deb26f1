"""Files that appear whole or not at all, and what a disk that takes nothing more means to a user."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROBLEMS = {
    errno.ENOSPC: ("no space is left on the disk", "free some, or name a folder on another disk"),
    errno.EDQUOT: ("your share of the disk is used up", "free some space, or name a folder on another disk"),
    errno.EROFS: ("the disk is read-only", "name a folder on another disk"),
    errno.EACCES: ("no permission", "name another place, or change its permissions"),
    errno.EPERM: ("no permission", "name another place, or change its permissions and attributes"),
}
"""Number of an error -> what it means, and what to do."""

LEAST = 1 << 20
"""Bytes, below which a disk counts as full."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path`, of the same ending, to write to: what is written takes its place, or goes if that fails.

    Raises:
        OSError: as writing did; it names `path` if it named nothing.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        ours = error.filename is None or Path(os.fsdecode(error.filename)) == part
        if ours and error.errno is not None:  # else a library's own, whose words a name would take away
            error.filename = str(path)
        raise
    finally:
        if part.exists():  # where a disk is read-only, what is not there cannot be removed either
            part.unlink()


def refusal(folder: Path) -> str | None:
    """Why no file can be made in a folder that is there; None where one can.

    Tried, not asked: rights say nothing of a read-only disk or of /proc.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def disk_problem(error: OSError, *places: Path) -> tuple[str, str, str] | None:
    """Where it happened, what it means and what to do, if the disk is the reason; else None.

    Args:
        places: where it may have happened, if the error does not say: those on the same disk as one before are left
            out.
    """
    told = "No space left" in " ".join(map(str, error.args))  # HDF5 writes it into its message
    number = errno.ENOSPC if told else error.errno
    if number not in PROBLEMS:
        return None
    name = error.filename2 or error.filename  # of a copy, where it goes
    if not name:
        disks: dict[int, Path] = {}
        for place in places:
            disks.setdefault(_disk(place), place)
        name = " or ".join(map(str, disks.values()))
    what, fix = PROBLEMS[number]
    return os.fsdecode(name), what, fix


def full_disk(*places: Path) -> Path | None:
    """The first of these places whose disk is full: for programs that only say that they failed."""
    return next((place for place in places if shutil.disk_usage(place).free < LEAST), None)


def _disk(place: Path) -> int:
    """The number of the disk that a file is on, or would be."""
    place = place.absolute()
    return next(one for one in (place, *place.parents) if one.exists()).stat().st_dev
