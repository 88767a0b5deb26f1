"""The data of the examples: real, split once, never mixed.

digits needs nothing. The others are looked for in this order: the file the user names, the folder in the
environment variable HGQ_DATA, the public download (OpenML, Keras).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

JETS = 42468  # the number of the jet set on OpenML
JET_CLASSES = ("g", "q", "t", "w", "z")


@dataclass(frozen=True)
class Data:
    """Features as float32 and labels: class numbers, or probabilities where they come from a teacher.

    train fits the weights; val picks the epoch; test is read once, at the very end; extra has no labels and serves
    only to compare engines.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str
    extra: np.ndarray | None = None

    def everything(self) -> np.ndarray:
        """All samples there are, for comparing engines."""
        parts = [self.x_train, self.x_val, self.x_test]
        return np.concatenate(parts if self.extra is None else [*parts, self.extra])

    def head(self, count: int) -> Data:
        """The first `count` samples of each part."""
        arrays: dict[str, Any] = {
            name: value[:count] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)


def digits(seed: int = 0) -> Data:
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: 1,149 / 288 / 360."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    # Pixels are 0..16: divided by 16 they are exact in four fractional bits.
    return _split(x.astype(np.float32) / 16, y.astype(np.int64), 0.2, seed, "scikit-learn's digits")


def jets(file: str | None = None) -> Data:
    """LHC jets, 16 features, standardised; classes g q t w z.

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
        p[100_000:].argmax(-1),
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
    return Data(scaled[0], data.y_train, scaled[1], data.y_val, scaled[2], data.y_test, source)


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
