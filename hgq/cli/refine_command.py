"""hgq-refine: a trained model in, the same with fewer LUTs out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hgq.cli.arrays import load_arrays
from hgq.cli.exits import exit_codes
from hgq.cli.progress import Steps
from hgq.cli.quiet import start_keras
from hgq.disk import whole
from hgq.model_file import check_files


class Loss(StrEnum):
    """What is kept low."""

    CROSSENTROPY = "crossentropy"
    BINARY_CROSSENTROPY = "binary_crossentropy"
    MSE = "mse"
    MAE = "mae"


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def refine(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="a .keras file of ours or of HGQ2, or what else hgq-convert reads")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.keras", help="where the refined model goes")],
    data: Annotated[
        str, typer.Option(metavar="FILE.npy", help="training inputs; an .npz with an array for each input of the model")
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.npy",
            help="class numbers, or better a teacher's probabilities; an .npz with an array for each output"
            "  [default: what the model itself gives]",
        ),
    ] = None,
    lam: Annotated[float | None, typer.Option(help="the loss that a LUT may cost, e.g. 1e-4")] = None,
    target_luts: Annotated[int | None, typer.Option(help="LUTs (estimate) to come down to")] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="loss on unseen samples to stay below, with the fewest LUTs  [default: that of MODEL]"),
    ] = None,
    loss: Annotated[
        list[Loss] | None,
        typer.Option(help="what is kept low; once, or once for each output, in order  [default: by the labels]"),
    ] = None,
    samples: Annotated[int, typer.Option(min=300, help="how many samples are used at most")] = 30_000,
    held_out: Annotated[float, typer.Option(help="part of them that chooses no change")] = 0.4,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="find the ranges of activations on --data first")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="which samples are drawn, and the order of what is tried")] = 0,
) -> None:
    """Changes single weights, biases and widths of a trained model where that saves LUTs at no loss on unseen samples.

    Works on the exact integer network: OUT.keras is a Keras model that computes what was evaluated, to be converted by
    hgq-convert. Ctrl-C ends the search and writes the best model so far.

    Exit codes: 0 done; 2 usage, model, data or tool; 3 a bug in hgq.
    """
    kinds = [kind.value for kind in loss or ()]
    with exit_codes(out):
        check_files(model, out)
        x = load_arrays(data, "--data")
        y = None if labels is None else load_arrays(labels, "--labels", axes=1)
        with Steps() as step:
            step("start Keras")
            start_keras()
            import hgq
            import hgq.training

            step("read the model")
            net = hgq.load(model)
            if calibrate:
                step("find ranges")
                hgq.training.calibrate(net, x)
            found = hgq.training.refine(
                net,
                x,
                y,
                lam=lam,
                target_luts=target_luts,
                max_loss=max_loss,
                loss=kinds[0] if len(kinds) == 1 else kinds or None,
                samples=samples,
                held_out=held_out,
                seed=seed,
                progress=step,
            )
            with whole(out) as file:
                found.model.save(file)
        typer.echo(str(found))
        typer.echo(f"model: {out}")


def main() -> None:
    """What the console script runs."""
    app(prog_name="hgq-refine")
