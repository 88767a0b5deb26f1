"""Entry points of the commands, and the check that no other distribution has replaced the folder hgq/.

Two other distributions on PyPI install a package called hgq as well. Whichever is installed last overwrites the
other's files, so hgq/ alone cannot tell what happened to it; this module lies beside it, under a name of its own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

VERSION = "0.1.0"
RIVALS = ("hgq2", "HGQ")


def rival() -> str | None:
    """The message about another distribution that installs hgq/, or None where there is none."""
    for name in RIVALS:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return (
            f"the distribution {name} {found.version} is installed in this environment, and it writes the same folder "
            "hgq/ as hgq-fpga: one has overwritten the other.\n"
            f"  Fix: pip uninstall {name} hgq-fpga, then pip install hgq-fpga; keep {name} in another environment"
        )
    return None


def refuse_rivals() -> None:
    """Raises ImportError where another distribution that installs hgq/ is present, whichever came first."""
    message = rival()
    if message:
        raise ImportError(message)


def convert() -> None:
    """The command hgq-convert."""
    _run("convert_command")


def simulate() -> None:
    """The command hgq-simulate."""
    _run("simulate_command")


def report() -> None:
    """The command hgq-report."""
    _run("report_command")


def quantize() -> None:
    """The command hgq-quantize."""
    _run("quantize_command")


def refine() -> None:
    """The command hgq-refine."""
    _run("refine_command")


def _run(command: str) -> None:
    message = rival()
    if message is None:
        import hgq

        if getattr(hgq, "__version__", None) != VERSION:  # what uninstalling a rival leaves behind
            where = hgq.__file__ or list(hgq.__path__)
            message = (
                f"the files of hgq-fpga {VERSION} are damaged: {where} is not of this version.\n"
                "  Fix: pip install --force-reinstall --no-deps hgq-fpga"
            )
    if message:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module(f"hgq.cli.{command}").main()
