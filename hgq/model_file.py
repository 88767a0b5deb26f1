"""Commands that read one model file and write another: what is refused beforehand."""

from __future__ import annotations

from pathlib import Path

from hgq.disk import refusal


def check_files(model: Path, out: Path) -> None:
    """Refuses a model that is not there, and a place where the result could not be written or would replace it.

    Raises:
        ValueError: naming the file and what to do.
    """
    if not model.is_file():
        raise ValueError(f"{model}: there is no such file; give the file that model.save wrote")
    if out.suffix != ".keras":
        raise ValueError(f"{out}: Keras saves models as .keras files; name it {out.with_suffix('.keras').name}")
    if out.is_dir():
        raise ValueError(f"{out}: this is a folder; name a file")
    if out.exists() and out.samefile(model):
        raise ValueError(f"{out}: this is the model that is read; give the result another name")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{out}: there is no folder {folder}; make it, or name another one")
    if (why := refusal(folder)) is not None:
        raise ValueError(f"{out}: nothing can be written to {folder} ({why}); name another folder")
