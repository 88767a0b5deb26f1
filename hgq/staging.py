"""The folder of a project while it is made: under another name and by one process at a time, until it is complete."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hgq.disk import disk_problem, refusal
from hgq.errors import ConversionError


def free_target(out: Path) -> Path:
    """The folder to make, if it may be made; what a symbolic link points to, not the link.

    Raises:
        ConversionError: it is a file, holds something that is no project, or may not be written.
    """
    out = Path(os.path.realpath(out))
    if out.is_file():
        raise ConversionError([f"  - {out}: this is a file, not a folder\n      Fix: name another folder"])
    if out.is_dir() and any(out.iterdir()) and not _holds_project(out):
        raise ConversionError(
            [
                f"  - {out}: the folder exists and holds no hgq project, so it is not replaced\n"
                "      Fix: name another folder, or remove this one"
            ]
        )
    parent = next(folder for folder in out.parents if folder.exists())
    if not parent.is_dir():
        raise ConversionError([f"  - {out}: {parent} is a file, not a folder\n      Fix: name another folder"])
    if (why := refusal(parent)) is not None:
        raise ConversionError([f"  - {parent}: nothing can be written there ({why})\n      Fix: name another folder"])
    return out


def free_failed(target: Path) -> Path:
    """Where a project that failed verification is kept: ``target.failed``, the last failure only.

    A folder or file of that name which is no project of ours stays; then it is ``target.failed2`` and so on.
    """
    name, count = target.with_name(f"{target.name}.failed"), 1
    while name.exists() and not _holds_project(name):
        count += 1
        name = target.with_name(f"{target.name}.failed{count}")
    return name


def _holds_project(folder: Path) -> bool:
    return (folder / "model.ir").is_file()


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty folder to make a project in, beside `target`; whatever is left of it at the end is removed.

    While it is there no other process gets one for the same target. What one that was killed left behind is removed,
    and an older project that it had moved out of the way is put back.

    Raises:
        ConversionError: another process is at it, or the disk is full or takes nothing.
    """
    made_parents = [folder for folder in target.parents if not folder.exists()]
    work = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            _clear(target)
            try:
                work.mkdir()
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        found = disk_problem(error, target.parent, Path(tempfile.gettempdir()))
        if found is None:
            raise
        where, what, fix = found
        raise ConversionError([f"  - {where}: {what}\n      Fix: {fix}"]) from error
    finally:
        for folder in made_parents:  # those that nothing came into
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def replace(made: Path, target: Path) -> None:
    """Gives the finished folder its name; an older one of that name goes only once the new one is there."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        if target.exists():
            target.rename(old)
        made.rename(target)
    except BaseException:  # an interrupt as well
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    path = target.with_name(f".{target.name}.lock")
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ConversionError(
                [f"  - {target}: another conversion writes it now\n      Fix: wait for it, or name another folder"]
            ) from None
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # its owner had removed it meanwhile
    try:
        yield
    finally:
        path.unlink()
        file.close()


def _clear(target: Path) -> None:
    """Removes what processes that were killed left; only one that holds the lock may."""
    for path in target.parent.iterdir():
        left = re.fullmatch(rf"\.({re.escape(target.name)})\.\d+\.(tmp|old)", path.name)
        left = left or re.fullmatch(rf"\.({re.escape(target.name)}\.failed)\.\d+\.(old)", path.name)
        if left and left[2] == "old" and not (before := target.with_name(left[1])).exists():
            path.rename(before)
        elif left:
            shutil.rmtree(path, ignore_errors=True)
