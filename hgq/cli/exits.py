"""What a command's exit code means, and what its user sees of an error.

0  done, and every comparison was equal
1  a difference: two engines that must agree do not
2  a usage error, a model that cannot be converted, data that cannot be used, a missing or failed tool
3  a bug in hgq: the only case that shows a traceback
4  nothing differs, but the proof that was asked for is not complete
130, 143  interrupted (Ctrl-C), or ended by a SIGTERM
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import typer

from hgq.disk import disk_problem
from hgq.errors import HGQError, IRError, VerificationError

DIFFERENCE, USAGE, BUG, NOT_PROVEN, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143


class Terminated(BaseException):
    """SIGTERM: what is half made is removed on the way out, as it is for Ctrl-C."""


@contextmanager
def exit_codes(written: Path) -> Iterator[None]:
    """Ends the command with the exit code and the message that belong to an error raised inside.

    Args:
        written: what the command writes, to be named where a full disk is not.
    """
    try:
        with _terminated():
            yield
    except VerificationError as error:
        raise _exit(DIFFERENCE, f"difference: {error}") from None
    except IRError as error:
        raise _bug(error) from None
    except OSError as error:
        from hgq.sim.simulator.tools import cache_folder

        found = disk_problem(error, written, Path(tempfile.gettempdir()), cache_folder())
        text = f"{found[0]}: {found[1]}\n  Fix: {found[2]}" if found else str(error)
        raise _exit(USAGE, f"error: {text}") from None
    except HGQError as error:
        raise _exit(USAGE, f"error: {error}") from None
    except (ValueError, TypeError) as error:
        # hgq raises these itself for bad arguments; from within NumPy or Keras they mean that we passed nonsense on.
        if not _raised_by_hgq(error.__traceback__):
            raise _bug(error) from None
        raise _exit(USAGE, f"error: {error}") from None
    except KeyboardInterrupt:
        raise _exit(INTERRUPTED, "interrupted") from None
    except Terminated:
        raise _exit(TERMINATED, "terminated") from None
    except MemoryError as error:
        raise _exit(USAGE, f"error: not enough memory{f' ({error})' if str(error) else ''}") from None
    except (typer.Exit, typer.Abort, SystemExit):
        raise
    except Exception as error:  # noqa: BLE001  the last resort: report it
        raise _bug(error) from None


@contextmanager
def _terminated() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(code: int, message: str) -> typer.Exit:
    print(message, file=sys.stderr)
    return typer.Exit(code)


def _bug(error: BaseException) -> typer.Exit:
    traceback.print_exception(error)
    return _exit(BUG, "this is a bug in hgq: please report it with the lines above and, if you can, the model")


def _raised_by_hgq(tb: TracebackType | None) -> bool:
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb is not None and str(tb.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "hgq"
