"""Starts Keras without the greetings that its back ends print; what they print when they fail is shown."""

from __future__ import annotations

import os
import sys
import tempfile

from hgq.errors import HGQError


def start_keras() -> None:
    """Imports Keras and wakes its back end up, with standard error held back.

    TensorFlow built for GPUs complains about each missing driver before any logging level takes effect, so the file
    descriptor itself is turned away meanwhile.

    Raises:
        HGQError: no such back end, or it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import keras

            keras.ops.zeros(())
            # Whatever the back end, the first model that is read or written imports TensorFlow where it is installed.
            keras.saving.serialize_keras_object(keras.DTypePolicy("float32"))
        except BaseException as error:
            sys.stderr.flush()
            held.seek(0)
            os.write(shown, held.read())
            if not isinstance(error, ImportError | ValueError):
                raise
            raise HGQError(
                f"Keras cannot start its back end: {error}\n"
                "  Fix: pip install 'hgq-fpga[tensorflow]', or set KERAS_BACKEND to one that is installed"
            ) from error
        finally:
            os.dup2(shown, 2)
            os.close(shown)
