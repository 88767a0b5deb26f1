"""The data of the examples: real, split once, never mixed.

digits needs nothing. The others are looked for in this order: the file the user names, the folder in the
environment variable HGQ_DATA, the public download (OpenML, Keras).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

Arrays = Any
"""Samples: one array, or a dict of one for each input or output of a model."""

JETS = 42468  # the number of the jet set on OpenML
JET_CLASSES = ("g", "q", "t", "w", "z")
# Moments of the distances and energies of a jet's particles; how evenly these share the energy and how many they are.
JET_FEATURES = (
    *("zlogz", "c1_b0_mmdt", "c1_b1_mmdt", "c1_b2_mmdt", "c2_b1_mmdt", "c2_b2_mmdt", "d2_b1_mmdt", "d2_b2_mmdt"),
    *("d2_a1_b1_mmdt", "d2_a1_b2_mmdt", "m2_b1_mmdt", "m2_b2_mmdt", "n2_b1_mmdt", "n2_b2_mmdt", "mass_mmdt"),
    "multiplicity",
)


@dataclass(frozen=True)
class Data:
    """Features as float32 and labels.

    train fits the weights; val picks the epoch; test is read once, at the very end; extra has no labels and serves
    only to compare engines.
    """

    x_train: Arrays
    y_train: Arrays
    x_val: Arrays
    y_val: Arrays
    x_test: Arrays
    y_test: Arrays
    source: str
    extra: Arrays = None

    def everything(self) -> Arrays:
        """All samples there are, for comparing engines."""
        parts = [self.x_train, self.x_val, self.x_test, *([] if self.extra is None else [self.extra])]
        return _each(lambda *arrays: np.concatenate(arrays), *parts)

    def head(self, count: int) -> Data:
        """The first `count` samples of each part."""
        arrays: dict[str, Any] = {name: first(value, count) for name, value in vars(self).items() if name != "source"}
        return replace(self, **arrays)


def first(samples: Arrays, count: int) -> Arrays:
    """The first `count` samples; None stays None."""
    return None if samples is None else _each(lambda array: array[:count], samples)


def _each(function: Callable[..., np.ndarray], *samples: Arrays) -> Arrays:
    """The function of all arrays of one name."""
    if isinstance(samples[0], dict):
        return {name: function(*(arrays[name] for arrays in samples)) for name in samples[0]}
    return function(*samples)


def digits(seed: int = 0) -> Data:
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: 1,149 / 288 / 360."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    # Pixels are 0..16: divided by 16 they are exact in four fractional bits.
    return _split(x.astype(np.float32) / 16, y.astype(np.int64), 0.2, seed, "scikit-learn's digits")


def jets(file: str | None = None) -> Data:
    """LHC jets, 16 features (`JET_FEATURES`), standardised; classes g q t w z.

    Labels are rows of five probabilities for training and validation (from a teacher where the data have one, otherwise
    0 and 1), class numbers for the test.

    Args:
        file: a .npz of the user's with x (n, 16) and y (n,), the numbers 0..4 of the classes.
    """
    if file is not None:
        arrays = _load(Path(file), ("x", "y"))
        return _scaled_jets(arrays["x"], arrays["y"], file)
    folder = _folder()
    if folder is not None:
        return _surrogate_jets(folder)
    try:
        from sklearn.datasets import fetch_openml

        # This parser needs no pandas; the file is parsed once and cached by scikit-learn.
        x, labels = fetch_openml(data_id=JETS, return_X_y=True, as_frame=False, parser="liac-arff")
    except Exception as error:  # noqa: BLE001  whatever keeps it from us, the advice is the same
        _unavailable(f"the jets of OpenML ({JETS})", error, "--file jets.npz with arrays x (n, 16) and y (n,)")
    return _scaled_jets(x, np.searchsorted(JET_CLASSES, labels), f"OpenML {JETS}")


def mnist(file: str | None = None, size: int = 14, seed: int = 0) -> Data:
    """Handwritten digits as size x size pixels in 0..1, size 14 (averages of 2 x 2 pixels) or 28; 54k / 6k / 10k.

    Args:
        file: a .npz with x_train, y_train, x_test, y_test, the pixels 0..255.
    """
    return _images("mnist", file, size, seed)


def fashion(file: str | None = None, size: int = 28, seed: int = 0) -> Data:
    """Ten kinds of clothes, otherwise as `mnist`."""
    return _images("fashion_mnist", file, size, seed)


def _images(name: str, file: str | None, size: int, seed: int) -> Data:
    """One of the sets of keras.datasets that have 28 x 28 grey pixels."""
    names = ("x_train", "y_train", "x_test", "y_test")
    folder = _folder()
    if file is not None or folder is not None:
        path = Path(file) if file is not None else Path(folder or "") / f"{name}.npz"
        arrays, source = _load(path, names), str(path.name)
    else:
        import keras

        try:
            (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
        except Exception as error:  # noqa: BLE001  whatever keeps it from us, the advice is the same
            _unavailable(name, error, f"--file {name}.npz as Keras stores it")
        arrays, source = dict(zip(names, (x, y, x_test, y_test), strict=True)), f"keras.datasets.{name}"

    def pixels(images: np.ndarray) -> np.ndarray:
        step = 28 // size
        blocks = images.reshape(-1, size, step, size, step).astype(np.float32).mean((2, 4))
        return blocks.reshape(len(images), -1) / 256  # not 255: so pixels are exact in binary

    x, y = pixels(arrays["x_train"]), arrays["y_train"].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(x))
    val, train = order[: len(x) // 10], order[len(x) // 10 :]
    x_test, y_test = pixels(arrays["x_test"]), arrays["y_test"].astype(np.int64)
    return Data(x[train], y[train], x[val], y[val], x_test, y_test, source)


def _surrogate_jets(folder: Path) -> Data:
    """Synthetic jets labelled by published models, tested on 600 real ones; the other 400 only compare engines."""
    made = _load(folder / "jsc_surrogate.npz", ("x", "teacher_prob"))
    real = _load(folder / "jsc_openml_1000.npz", ("x", "y", "test_idx"))
    x, p = made["x"].astype(np.float32), made["teacher_prob"].astype(np.float32)
    test = np.zeros(len(real["x"]), bool)
    test[real["test_idx"]] = True
    return Data(
        x[:100_000],
        p[:100_000],
        x[100_000:],
        _rows(p[100_000:].argmax(-1)),
        real["x"][test].astype(np.float32),
        real["y"][test].astype(np.int64),
        "distilled from published models on synthetic jets, tested on 600 real jets",
        extra=real["x"][~test].astype(np.float32),
    )


def _scaled_jets(x: np.ndarray, y: np.ndarray, source: str) -> Data:
    """Splits as the papers do (20 %, seed 42) and scales by the mean and spread of the training part."""
    data = _split(np.asarray(x, np.float64), np.asarray(y).astype(np.int64), 0.2, 42, source)
    mean, spread = data.x_train.mean(0), data.x_train.std(0)
    scaled = [((part - mean) / spread).astype(np.float32) for part in (data.x_train, data.x_val, data.x_test)]
    return Data(scaled[0], _rows(data.y_train), scaled[1], _rows(data.y_val), scaled[2], data.y_test, source)


def _rows(labels: np.ndarray) -> np.ndarray:
    """Class numbers of jets as rows of 0 and 1."""
    return np.eye(len(JET_CLASSES), dtype=np.float32)[labels]


def _split(x: np.ndarray, y: np.ndarray, part: float, seed: int, source: str) -> Data:
    """Takes `part` away for the test, and `part` of what is left for validation."""
    from sklearn.model_selection import train_test_split

    x, x_test, y, y_test = train_test_split(x, y, test_size=part, random_state=seed, stratify=y)
    x, x_val, y, y_val = train_test_split(x, y, test_size=part, random_state=seed, stratify=y)
    return Data(x, y, x_val, y_val, x_test, y_test, source)


def _folder() -> Path | None:
    """The folder in HGQ_DATA, if it is set."""
    text = os.environ.get("HGQ_DATA")
    if not text:
        return None
    if not Path(text).is_dir():
        raise SystemExit(f"HGQ_DATA={text}: there is no such folder. Fix: name one that exists, or unset HGQ_DATA")
    return Path(text)


def _load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file. Fix: name one with the arrays {', '.join(names)}")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in names if name not in arrays.files]
        if missing:
            raise SystemExit(f"{path}: holds no {', '.join(missing)}; it holds {', '.join(arrays.files)}")
        return {name: arrays[name] for name in names}


def _unavailable(what: str, error: Exception, option: str) -> NoReturn:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise SystemExit(
        f"{what} could not be downloaded: {reason}\n"
        f"  Fix: connect to the network, or give {option}, or set HGQ_DATA to a folder that holds the data"
    )
