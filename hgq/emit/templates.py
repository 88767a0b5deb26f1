"""Finds the text of what is emitted: hls_templates/, in a source checkout or inside the installed package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

import hgq
from hgq.errors import HGQError


@cache
def folder() -> Path:
    """The folder hls_templates."""
    package = Path(hgq.__file__).resolve().parent
    for place in (package / "hls_templates", package.parent / "hls_templates"):
        if place.is_dir():
            return place
    raise HGQError(f"{package} has no hls_templates: this installation of hgq-fpga is incomplete; reinstall it")


def text(name: str) -> str:
    """A template that is copied as it is, by its path below hls_templates."""
    return (folder() / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what is emitted is never HTML from a stranger
    )


def template(name: str) -> jinja2.Template:
    """A Jinja2 template, by its path below hls_templates as in ``tb/test_rtl.py.j2``; an unknown name in it raises."""
    return _environment().get_template(name)
