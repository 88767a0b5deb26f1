"""hgq-quantize: a trained float Keras model becomes one of quantised layers, by one of the methods of hgq.methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hgq.cli.arrays import load_array, load_arrays
from hgq.cli.exits import exit_codes
from hgq.cli.progress import Steps
from hgq.cli.quiet import start_keras
from hgq.methods.listed import METHODS, MethodName
from hgq.model_file import check_files

EXAMPLES = {
    "input_range": "--input-range 0:1",
    "data": "--data x.npy",
    "labels": "--labels y.npy",
    "bits": "--bits 4",
}
"""How an option that a method cannot do without is written."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
METHOD_HELP = "; ".join(f"{name}: {method.what}" for name, method in METHODS.items())


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="the trained float model: .keras, or .h5 of Keras 2")],
    out: Annotated[Path, typer.Argument(metavar="OUT.keras", help="the file to write; replaced if it exists")],
    method: Annotated[MethodName, typer.Option(help=METHOD_HELP)],
    bits: Annotated[int | None, typer.Option(min=2, max=24, help="width of the weights")] = None,
    budget_ebops: Annotated[
        int | None, typer.Option(min=1, help="what the model may cost, in place of --bits; the method chooses widths")
    ] = None,
    activation_bits: Annotated[
        int | None, typer.Option(min=2, max=24, help="width of what each layer reads  [default: 8]")
    ] = None,
    ends: Annotated[
        str | None,
        typer.Option(
            metavar="N|same",
            help="mrecg: width of both in the first and the last layer, or the same as in the others  [default: 8]",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="FILE.npy", help="samples, for methods that look at some")] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE.npy", help="class numbers, or what the model should give, for methods that train"),
    ] = None,
    input_range: Annotated[
        str | None, typer.Option(metavar="LO:HI", help="smallest and largest value of the inputs, as 0:1")
    ] = None,
    orders: Annotated[
        int | None, typer.Option(min=1, help="rex: orders of the expansion  [default: 2, or 1 with --policy]")
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="rex: part of the rows that all orders refine  [default: 1]; smart: what pushes layers from ternary "
            "to binary  [default: 0.2]",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="gmpq: of the search, and as many of fine-tuning  [default: 6]; smart: of training  [default: 20]",
        ),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(min=0, help="gmpq: how much attribution counts in the search  [default: 20]"),
    ] = None,
    depth: Annotated[
        str | None, typer.Option(help="smart: adaptive, or binary or ternary for all layers  [default: adaptive]")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="bits of each layer, as gmpq writes them")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="gmpq, mrecg, smart: of what is drawn at random, as the order of samples  [default: 0]"
        ),
    ] = None,
    losses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.svg",
            help="mrecg: a picture of the loss of each part of the model, rounded to nearest and now; or .png, .pdf",
        ),
    ] = None,
    drop_softmax: Annotated[
        bool, typer.Option("--drop-softmax", help="leave a softmax at the end of the model out")
    ] = False,
) -> None:
    """Quantises a trained float Keras model: OUT.keras can be converted with hgq-convert, or trained on.

    Exit codes: 0 done; 2 usage, model or data; 3 a bug in hgq.
    """
    given: dict[str, Any] = {
        "bits": bits,
        "budget_ebops": budget_ebops,
        "activation_bits": activation_bits,
        "ends": ends,
        "data": data,
        "labels": labels,
        "input_range": input_range,
        "orders": orders,
        "gamma": gamma,
        "epochs": epochs,
        "eta": eta,
        "depth": depth,
        "policy": policy,
        "seed": seed,
        "losses": losses,
    }
    with exit_codes(out):
        check_files(model, out)
        options = _checked(method, {name: value for name, value in given.items() if value is not None})
        with Steps() as step:
            step("start Keras")
            start_keras()
            from hgq.methods.run import policy_file, run

            if policy is not None:
                from hgq.methods.policy import load_policy

                options["policy"] = load_policy(policy)
            result = run(method, model, out, options | {"drop_softmax": drop_softmax}, step)
        typer.echo(result.summary())
        typer.echo(f"model: {out}")
        if losses is not None:
            typer.echo(f"losses: {losses}")
        if "policy" in result.details:
            typer.echo(f"policy: {policy_file(out)}")


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as the method takes them."""
    method = METHODS[name]
    for option in options:
        if option not in method.options:
            takes = ", ".join(_flag(one) for one in method.options)
            raise ValueError(f"{_flag(option)} is of no use to --method {name}, which takes {takes}; leave it out")
    for option in method.needs:
        if option not in options:
            example = EXAMPLES.get(option, _flag(option))
            raise ValueError(f"--method {name} needs {_flag(option)}; add it, as in {example}")
    ways = [_flag(one) for one in ("bits", "budget_ebops", "policy") if one in options]
    if len(ways) > 1:
        raise ValueError(f"{' and '.join(ways)} contradict each other; give one of them")
    if "ends" in options and "policy" in options:
        raise ValueError("--ends and --policy contradict each other: the policy names all layers; give one of them")
    if "input_range" in options:
        options["input_range"] = _range(options["input_range"])
    if "ends" in options:
        options["ends"] = _ends(options["ends"])
    if "data" in options:
        options["data"] = load_arrays(options["data"], "--data")
    if "labels" in options:
        options["labels"] = load_array(options["labels"], "--labels", axes=1)
    return options


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _ends(text: str) -> int | None:
    if text == "same":
        return None
    if not text.isdecimal() or not 2 <= int(text) <= 24:
        raise ValueError(f"--ends {text}: write a number of bits from 2 to 24, or same")
    return int(text)


def _range(text: str) -> tuple[float, float]:
    parts = text.split(":")
    try:
        lo, hi = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"--input-range {text}: write LO:HI, as 0:1 or --input-range=-4:4") from None
    if not lo < hi or max(-lo, hi) == float("inf"):
        raise ValueError(f"--input-range {text}: write the smaller value first, as 0:1")
    return lo, hi


def main() -> None:
    """What the console script runs."""
    app(prog_name="hgq-quantize")
