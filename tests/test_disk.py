"""Files are there whole or as they were, and a disk that takes nothing is named with what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from hgq.disk import disk_problem, full_disk, refusal, whole


def test_a_file_takes_the_place_of_another_only_once_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with whole(path) as part:
        part.write_text("first")
        assert part.suffix == ".keras" and not path.exists()
    with pytest.raises(OSError, match="No space") as error, whole(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(path)
    with pytest.raises(KeyboardInterrupt), whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["a.keras"] and path.read_text() == "first"


def test_an_error_names_what_was_written_not_the_name_that_it_had_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, whole(tmp_path / "no" / "a.json") as part:
        part.write_text("x")
    assert error.value.filename == str(tmp_path / "no" / "a.json")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space"),
        (OSError("Can't write data (file write failed: error message = 'No space left on device')"), "no space"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EPERM, "Operation not permitted"), "no permission"),
    ],
)
def test_a_disk_that_takes_nothing_is_named_once(error: OSError, said: str, tmp_path: Path) -> None:
    where, what, fix = disk_problem(error, tmp_path / "not" / "there", tmp_path)
    assert where == str(tmp_path / "not" / "there") and said in what and "name" in fix
    if error.errno:
        error.filename = "/full/net"
        assert disk_problem(error, tmp_path)[0] == "/full/net"


def test_what_is_no_trouble_of_the_disk_is_none() -> None:
    assert disk_problem(OSError(errno.EPIPE, "Broken pipe"), Path("/")) is None


def test_a_full_disk_is_found_by_its_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert full_disk(tmp_path) is None
    free = os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9 - free, free))
    assert full_disk(tmp_path) == tmp_path


def test_a_folder_in_which_no_file_can_be_made_says_why(tmp_path: Path) -> None:
    assert refusal(tmp_path) is None and not list(tmp_path.iterdir())
    assert refusal(Path("/proc"))  # even to root, whose rights are all there


def test_on_a_read_only_disk_the_name_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error, whole(tmp_path / "a.json") as part:
        refuse(part)
    assert error.value.filename == str(tmp_path / "a.json")
