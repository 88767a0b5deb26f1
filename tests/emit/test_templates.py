"""The template loader finds hls_templates in both layouts and refuses what it does not know."""

import jinja2
import pytest

import hgq
from hgq.emit import templates
from hgq.errors import HGQError


def test_an_installed_package_uses_its_own_templates(tmp_path, monkeypatch):
    package = tmp_path / "site" / "hgq"
    package.mkdir(parents=True)
    monkeypatch.setattr(hgq, "__file__", str(package / "__init__.py"))
    with pytest.raises(HGQError, match="has no hls_templates"):
        templates.folder.__wrapped__()
    (package / "hls_templates").mkdir()
    assert templates.folder.__wrapped__() == package / "hls_templates"


def test_a_name_that_the_caller_forgot_raises():
    with pytest.raises(jinja2.UndefinedError, match="'top' is undefined"):
        templates.template("tb/test_rtl.py.j2").render(sources=[], in_width=1, out_width=1, latency=1)
