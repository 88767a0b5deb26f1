"""Digits read row by row: python examples/sequence.py [--cell gru|lstm] [--data digits|mnist] [--quick] [--out FOLDER]

A GRU or an LSTM sees one row of pixels at each time step; hardware holds one copy of it for each row, of which all but
the first are instances of one Verilog module. The data: see examples/datasets.py.
"""

from __future__ import annotations

import keras
from datasets import Data, digits, mnist
from steps import FALLING, Example, accuracy, arguments, run

from hgq.layers import QGRU, QLSTM, QDense

CELLS = {"gru": QGRU, "lstm": QLSTM}
ROWS = {"digits": 8, "mnist": 14}


def example(cell: str = "gru", data: str = "digits", units: int = 16) -> Example:
    """The example for one kind of cell, one set of data and one width of the state."""
    rows = ROWS[data]

    def network(quick: bool) -> keras.Model:
        """The last state after all rows, and a dense layer."""
        return keras.Sequential(
            [
                keras.Input((rows * rows,), name="pixels"),
                keras.layers.GaussianNoise(0.1),
                keras.layers.Reshape((rows, rows)),
                CELLS[cell](3 if quick else units, name=cell),
                QDense(10, name="scores"),
            ],
            name="sequence",
        )

    def read(file: str | None) -> Data:
        return mnist(file) if data == "mnist" else digits()

    return Example(
        "sequence",
        network,
        read,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        accuracy,
        epochs=150,
        beta=3e-6,
        batch=256 if data == "mnist" else 64,
        metrics=["accuracy"],
        everything=data == "digits",
        corners=10_000,
        **(FALLING | {"start": 9e-6, "rate": 5e-3}),
    )


if __name__ == "__main__":
    default = example()
    about = "Trains, converts and verifies a recurrent net on rows of digits."
    parser = arguments(about, default.name, default.epochs, default.beta)
    parser.add_argument("--cell", choices=CELLS, default="gru")
    parser.add_argument("--data", choices=ROWS, default="digits", help="8 rows of 8 pixels, or 14 of 14")
    parser.add_argument("--units", type=int, default=16, help="width of the state")
    options = parser.parse_args()
    run(example(options.cell, options.data, options.units), options)
